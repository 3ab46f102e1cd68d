"""Regret curves of all selectors, simulated from the table and the profile that come with spinbench.

python -m benchmarks.regret --out reports/regret

Regret is the decoding time beyond the oracle's, added up request by request; the oracle knows every text and chooses
drafter and K at every token (batch 1: the exact optimum with KV catch-up for nothing; larger batches: a bound that
nobody can reach). A seed stands for a sample of the trace's requests and for the selector's draws. What was simulated
is kept below --cache, so an interrupted run goes on where it was, and another selector costs only its own runs.
"""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from hydra import compose, initialize_config_dir
from matplotlib.axes import Axes
from omegaconf import OmegaConf
from rich.progress import track

from benchmarks.entry import run_main
from spinbench.calibration.fit import fit_cost_model
from spinbench.calibration.profile_file import profile_sha256
from spinbench.cli.decisions import drafter_infos, read_trace
from spinbench.cli.locations import find_trace, shipped_folder
from spinbench.cli.schema import ReplayConfig, SimulationSection, parse_config
from spinbench.cli.simulated_engine import SimulatedEngine
from spinbench.cli.simulation_section import simulation_section
from spinbench.control.arrays import FloatArray
from spinbench.control.oracle.batch_bound import batch_bound
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.optimum import oracle
from spinbench.control.oracle.regret import decode_time_s
from spinbench.report.colours import PLAIN, SPIN
from spinbench.report.figures.plot import Plot, new_figure, plot_style, set_title
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.table_file import content_sha256

CONF = shipped_folder("conf")
MAX_NUM_SPECULATIVE_TOKENS = 4
GOODPUT = "selector.reward=round_goodput"
FIXED_K = ["drafting=fixed", f"drafting.num_speculative_tokens={MAX_NUM_SPECULATIVE_TOKENS}"]
K_BY_SELECTOR = ["drafting=by_selector", f"drafting.max_num_speculative_tokens={MAX_NUM_SPECULATIVE_TOKENS}"]
METHODS: dict[str, list[str]] = {
    "ucbspec, its own reward": ["selector=ucbspec", *FIXED_K],
    "exp3spec, its own reward": ["selector=exp3spec", *FIXED_K],
    "spin, its own reward": ["selector=spin", *FIXED_K],
    "contextual, K by selector": ["selector=contextual", *K_BY_SELECTOR],
    "joint, K by selector": ["selector=joint", *K_BY_SELECTOR],
}
"""Selectors with the reward that their papers give them (all others that have a choice maximise round goodput), and
those that choose K as well."""
LEFT_OUT = ("fixed", "joint", "spin_round_goodput", "merged")
"""Choices that stand in the comparison under another name, and token trees, whose optimum is not known."""
HINDSIGHT = ("oracle", "best_fixed")
"""Selectors that know the texts."""
BAND = (0.05, 0.95)
EVERY = 4
"""Requests between two points of the table that is kept."""
PAGE = """# Regret of the selectors

{title}.

![{alt}](regret.png)

{caption} Simulated: {seeds} of `traces/mixed.jsonl` with the shipped acceptance table (exact) and profile (two cores
of an AMD EPYC, SmolLM2-135M-Instruct, bfloat16), K = {k}, or at most that where it is chosen by the selector; the
numbers of the curves are in [regret.csv](regret.csv).
Regret is decoding time beyond the oracle's. At batch 1 the oracle is the exact optimum with KV catch-up for nothing; in
a batch it is a bound that nobody can reach, and regret is for comparing methods, not for reading off what could be
gained. Selectors with a choice of reward maximise round goodput (emitted tokens over the whole round), unless "its own
reward" says that they have their paper's. `hedge` has its paper's loss and pays for every drafter's run over prompt and
answer. "best fixed" is the drafter with the least regret over all seeds, which nobody knew in advance; "oracle" and
"best_fixed" know the texts and choose by an estimate of what rounds cost.

```sh
python -m benchmarks.regret --out reports/regret
```

Seconds of regret a request, with the band over the seeds:

{table}
"""


@dataclass(frozen=True)
class Task:
    """One simulated run."""

    method: str
    overrides: tuple[str, ...]
    batch: int
    seed: int


def all_methods() -> dict[str, list[str]]:
    """Overrides by name: every selector of the config, and each drafter as a fixed one."""
    methods = {}
    for path in sorted((CONF / "selector").glob("*.yaml")):
        if path.stem not in LEFT_OUT:
            has_reward = OmegaConf.select(OmegaConf.load(path), "reward") is not None
            methods[path.stem] = [f"selector={path.stem}", *([GOODPUT] if has_reward else []), *FIXED_K]
    methods |= METHODS
    drafters = OmegaConf.load(CONF / "models" / "smollm2.yaml").drafters
    return methods | {f"fixed {name}": ["selector=fixed", f"selector.drafter={name}", *FIXED_K] for name in drafters}


def config_of(task: Task, num_prompts: int) -> ReplayConfig:
    """The whole config of a run."""
    overrides = [
        "engine=simulation", f"engine.oracle_num_speculative_tokens={MAX_NUM_SPECULATIVE_TOKENS}",
        "arrivals=all_at_once", f"scheduler.max_num_seqs={task.batch}", f"trace.num_prompts={num_prompts}",
        f"trace.sample_seed={task.seed}", f"seed={task.seed}", *task.overrides,
    ]  # fmt: skip
    return parse_config(compose("replay", overrides=overrides), ReplayConfig)


class Runs:
    """Simulates runs, each of them once in the life of a cache folder."""

    def __init__(self, cache: Path, num_prompts: int) -> None:
        self._cache = cache
        self._num_prompts = num_prompts
        self._engine = SimulatedEngine()
        self._digests: dict[str, str] = {}
        self._oracle_s: dict[tuple[int, int], FloatArray] = {}
        cache.mkdir(parents=True, exist_ok=True)

    def regret_s(self, task: Task) -> FloatArray:
        """Seconds beyond the oracle's of each request, [requests]; of a batch only the sum has a meaning."""
        config = config_of(task, self._num_prompts)
        # a change of the code that decides is not seen: give another cache folder then
        engine = simulation_section(config)
        parts = config.model_dump_json(), profile_sha256(find_trace(engine.profile)), self._table_sha256(engine)
        key = hashlib.sha256("".join(parts).encode()).hexdigest()[:24]
        path = self._cache / f"{key}.npy"
        if not path.exists():
            with self._engine.session(config) as session:
                time_s = decode_time_s(session.make_loop(None, lambda body: body).run())
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, time_s - self._oracle(task, config))
            partial.replace(path)
        return np.load(path)

    def _table_sha256(self, engine: SimulationSection) -> str:
        if engine.source not in self._digests:
            self._digests[engine.source] = content_sha256(self._engine.table(engine))
        return self._digests[engine.source]

    def _oracle(self, task: Task, config: ReplayConfig) -> FloatArray:
        """Its seconds for each request, [requests]; the same for all methods."""
        key = (task.batch, task.seed)
        if key not in self._oracle_s:
            engine, infos = simulation_section(config), drafter_infos(config.models)
            names = [info.name for info in infos]
            table, requests = self._engine.table(engine), read_trace(config, None).requests
            rows = [table.requests.row_of[request.id] for request in requests]
            foresight = Foresight(
                streams_from_table(table, requests, names),
                infos,
                table.requests.prompt_tokens[rows].astype(np.int64),
                np.array([request.max_new_tokens for request in requests]),
            )
            model = fit_cost_model(self._engine.profile(engine), names)
            if task.batch == 1:
                best = oracle(foresight, model, MAX_NUM_SPECULATIVE_TOKENS)
            else:
                best = batch_bound(foresight, model, MAX_NUM_SPECULATIVE_TOKENS, task.batch)
            self._oracle_s[key] = best.time_s
        return self._oracle_s[key]


def simulate_all(options: argparse.Namespace) -> pd.DataFrame:
    """Cumulated regret by method, batch, seed and requests served."""
    methods = all_methods()
    tasks = [
        Task(method, tuple(overrides), batch, seed)
        for seed in range(options.seeds)  # by seed: stopped early, there is a bit of everything
        for batch in options.batches
        for method, overrides in methods.items()
    ]
    runs = Runs(options.cache, options.num_prompts)
    tables = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for task in track(tasks, description="simulating"):
            regret_s = runs.regret_s(task).cumsum()
            served = np.arange(1, len(regret_s) + 1)
            kept = served % EVERY == 0
            frame = pd.DataFrame({"requests": served[kept], "regret_s": regret_s[kept]})
            tables.append(frame.assign(method=task.method, batch=task.batch, seed=task.seed))
    return pd.concat(tables, ignore_index=True)


def with_best_fixed_only(table: pd.DataFrame) -> pd.DataFrame:
    """Of the fixed drafters only the one that was best at each batch size in hindsight, over all seeds."""
    is_fixed = table["method"].str.startswith("fixed ")
    last = table[is_fixed & (table["requests"] == table["requests"].max())]
    totals = last.groupby(["batch", "method"])["regret_s"].mean()
    parts = [table[~is_fixed]]
    for batch, best in totals.groupby("batch").idxmin().items():
        own = table[(table["batch"] == batch) & (table["method"] == best[1])]
        parts.append(own.assign(method=f"best {best[1]}"))
    return pd.concat(parts, ignore_index=True)


def bands(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and band over the seeds, by batch, method and requests served."""
    grouped = table.groupby(["batch", "method", "requests"])["regret_s"]
    low, high = (grouped.quantile(share) for share in BAND)
    return pd.DataFrame({"mean_s": grouped.mean(), "low_s": low, "high_s": high}).reset_index()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Regret at the end in seconds a request, best first, and how often a method was better than the best fixed one."""
    last = table[table["requests"] == table["requests"].max()]
    rows = []
    for (batch, method), own in last.groupby(["batch", "method"]):
        per_request = own.set_index("seed")["regret_s"] / own["requests"].max()
        rival = last[(last["batch"] == batch) & last["method"].str.startswith("best fixed")].set_index("seed")
        wins = (per_request < rival["regret_s"] / own["requests"].max()).mean()
        low, high = per_request.quantile(list(BAND))
        rows.append(
            {
                "batch": batch,
                "method": method,
                "regret_s_per_request": per_request.mean(),
                "p5": low,
                "p95": high,
                "better_than_best_fixed": f"{wins:.0%}",
            }
        )
    return pd.DataFrame(rows).sort_values(["batch", "regret_s_per_request"], ignore_index=True)


def plot(table: pd.DataFrame, ranked: pd.DataFrame) -> Plot:
    """Curves of all methods, one panel for each batch size, with the band over seeds."""
    batches = sorted(table["batch"].unique())
    names = list(dict.fromkeys(name for name in ranked["method"] if not name.startswith("best fixed")))
    palette = dict(zip(names, sns.color_palette("husl", len(names)), strict=True))
    palette |= {"plain": PLAIN, "spin": SPIN}
    with plot_style():
        figure = new_figure(7.0, 15.0)
        for axes, batch in zip(np.atleast_1d(figure.subplots(1, len(batches))), batches, strict=True):
            own = ranked[ranked["batch"] == batch]
            colours = {name: palette.get(name, "black") for name in own["method"]}
            shown = table[table["batch"] == batch]
            sns.lineplot(
                shown, x="requests", y="regret_s", hue="method", hue_order=list(own["method"])[::-1], palette=colours,
                errorbar=("pi", 100 * (BAND[1] - BAND[0])), seed=0, legend=False, ax=axes, linewidth=1.6,
                err_kws={"alpha": 0.10},
            )  # fmt: skip
            write_ends(axes, shown, list(own["method"]), colours)
            axes.set(
                xlabel="requests served", ylabel="regret over the oracle (s)" if batch == batches[0] else "",
                title=f"batch {batch}", ylim=(0, None),
            )  # fmt: skip
        title = finding(ranked)
        set_title(figure, title)
    alt = "Lines of cumulated regret over requests served, one for each selector, with bands over seeds."
    low, high = (f"{100 * share:.0f}" for share in BAND)
    caption = f"Mean over seeds, band from the {low}th to the {high}th percentile; methods by their regret at the end."
    return Plot("regret", figure, bands(table), title, alt, caption)


def write_ends(axes: Axes, table: pd.DataFrame, methods: list[str], colours: Mapping[str, Any]) -> None:
    """Each method's name to the right of its curve's end, moved apart where they would overlap."""
    last = table[table["requests"] == table["requests"].max()].groupby("method")["regret_s"].mean()
    step = last.max() / 26
    heights = np.array([last[name] for name in methods])  # rising: methods are ranked
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + step)
    right = table["requests"].max()
    for name, height in zip(methods, heights, strict=True):
        axes.annotate(
            name.replace("best fixed ", "best fixed:\n"), (right, height), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=10, color=colours[name], annotation_clip=False,
        )  # fmt: skip


def finding(ranked: pd.DataFrame) -> str:
    """The figure's title: who learns with least regret, and how that compares with the best fixed drafter."""
    parts = []
    for batch, own in ranked.groupby("batch"):
        means = own.set_index("method")["regret_s_per_request"]
        fixed = next(name for name in means.index if name.startswith("best fixed"))
        best = next(name for name in means.index if name not in (fixed, "plain", *HINDSIGHT))
        parts.append(f"at batch {batch} it is {best} with {means[best] / means[fixed]:.2f}x")
    return "Selector of least regret, and its regret over the best fixed drafter's: " + ", ".join(parts)


def main() -> None:
    """Simulate, print the table at the end of the curves, and write figure, CSV and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--num-prompts", type=int, default=120, help="requests of a run, drawn from the 240 of the trace"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/regret"), help="folder of what was simulated")
    parser.add_argument("--out", type=Path, help="folder of README.md, regret.png and regret.csv")
    options = parser.parse_args()
    table = with_best_fixed_only(simulate_all(options))
    ranked = summary(table)
    text = ranked.to_markdown(index=False, floatfmt=".3f")
    print(text)
    if options.out:
        drawn = plot(table, ranked)
        drawn.save(options.out)
        seeds = f"{options.seeds} seeds x {options.num_prompts} requests"
        (options.out / "README.md").write_text(
            PAGE.format(
                title=drawn.title,
                alt=drawn.alt,
                caption=drawn.caption,
                seeds=seeds,
                k=MAX_NUM_SPECULATIVE_TOKENS,
                table=text,
            )
        )


if __name__ == "__main__":
    run_main(main)
