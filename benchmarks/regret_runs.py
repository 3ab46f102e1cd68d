"""Simulated runs of all selectors, and how far each request's time is beyond the oracle's."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hydra import compose
from omegaconf import OmegaConf

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.profile.profile_file import profile_sha256
from spinbench.cli.config.replay import ReplayConfig, SimulationSection, parse_config
from spinbench.cli.config.simulation import simulation_section
from spinbench.cli.engine.decisions import drafter_infos, read_trace
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.cli.locations import find_trace, shipped_folder
from spinbench.control.arrays import FloatArray
from spinbench.control.oracle.batch_bound import batch_bound
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.optimum import oracle
from spinbench.control.regret import decode_time_s
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
