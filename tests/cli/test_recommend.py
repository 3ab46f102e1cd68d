"""`spinbench recommend` on small made-up files, resumed, with its override file used, and confirmed on tiny models."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from omegaconf import OmegaConf

from spinbench.cli.config.replay import resolved
from spinbench.cli.hydra_app.app import compose_points, sweep_points
from spinbench.cli.hydra_app.override_text import shortest_overrides, with_overrides
from spinbench.cli.hydra_app.override_value import override_value
from spinbench.cli.locations import PACKAGE
from spinbench.cli.main import main
from spinbench.cli.recommend.answer import chosen_of
from spinbench.sweep.folder import SweepFolder
from spinbench.workload.load import load_trace
from spinbench.workload.trace_options import TraceOptions
from tests.cli.conftest import CommandLine
from tests.forked import Forked
from tests.simulation.small_setup import DRAFTERS, TARGET, write_setup

SET_UPS = [
    "selector=plain",
    "selector=fixed selector.drafter=${each:${models.drafters}} drafting=fixed drafting.num_speculative_tokens=3",
    "selector=round_robin drafting=fixed drafting.num_speculative_tokens=2 models.drafters=[tiny-shape,prompt_lookup]",
    "selector=random drafting=fixed drafting.num_speculative_tokens=2",
]
"""1 + 4 + 1 + 1."""
ASKED = [
    "simulation.profile=profile", "simulation.acceptance=synthetic", "simulation.source=law.yaml", "models=huggingface",
    f"models.target={TARGET}", f"models.drafters=[{','.join(DRAFTERS)}]", "trace.path=trace.jsonl", "confirm=never",
    "scheduler.max_num_seqs=4", f"search.set_ups={override_value(SET_UPS)}", "halving.smallest_requests=4",
    "halving.finalists=3", "halving.factor=2", "what_if.max_num_seqs=[2,64]", "what_if.loads=[0.5]", "launcher=serial",
]  # fmt: skip
OUTPUTS = (
    "answer.md", "answer.html", "answer.json", "candidates.csv", "conf/experiment/recommended.yaml",
    "points/points.parquet",
)  # fmt: skip


def ask(folder: str, *more: str) -> int:
    return main(["recommend", *ASKED, f"hydra.run.dir={folder}", *more])


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes().replace(folder.name.encode(), b"DIR") for name in OUTPUTS}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommend")
    write_setup(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert ask("undisturbed") == 0
    return folder


@pytest.fixture
def here(answered: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(answered)
    return answered


def test_the_answer_is_the_best_that_was_simulated(here: Path) -> None:
    answer = json.loads(Path("undisturbed/answer.json").read_text())
    table = pd.read_csv("undisturbed/candidates.csv")
    assert len(table) == 7
    # 7 -> 4 -> 3 and the classes' best, on 4, 8 and all 16 requests
    assert [row["requests"] for row in answer["rungs"]] == [4, 8, 16]
    assert answer["rungs"][0]["set_ups"] == 7
    whole = table[table["part"] == 1].set_index("set_up")["output_throughput"]
    assert answer["chosen"] == whole.idxmax()
    assert answer["value"] == pytest.approx(whole.max(), rel=1e-4)
    assert answer["plain"] == "selector=plain"
    singles = table[(table["role"] == "single") & (table["part"] == 1)].set_index("set_up")["output_throughput"]
    assert answer["single"] == singles.idxmax()
    for base in ("plain", "single"):
        gain = answer[f"over_{base}"]
        assert gain["ratio"] == pytest.approx(whole[answer["chosen"]] / whole[answer[base]], rel=1e-4)
        assert gain["low"] <= gain["ratio"] <= gain["high"]
    assert answer["error_source"] is None, "nobody measured an analytic profile"
    # a batch beyond the profile's limit is left out, and there are two categories
    cases = [(row["axis"], row["value"]) for row in answer["cases"]]
    assert [case for case in cases if case[0] == "batch"] == [("batch", "2")]
    assert [case for case in cases if case[0] == "category"] == [("category", "chat"), ("category", "code")]
    assert all(row["ratio"] >= 1 for row in answer["cases"])
    page = Path("undisturbed/answer.md").read_text()
    assert page.startswith(f"# Run `{answer['chosen']}`")
    assert "the simulator's own error is **unknown**" in page
    assert "Not confirmed: not asked for (confirm=never)." in page


def test_what_is_never_asked_is_not_loaded(here: Path) -> None:
    memory = {row["called"]: row for row in json.loads(Path("undisturbed/answer.json").read_text())["memory"]}
    assert memory["plain"]["drafter_weights_bytes"] == memory["plain"]["drafter_kv_bytes"] == 0
    assert memory["plain"]["target_weights_bytes"] > 0
    assert memory["plain"]["kv_blocks"] > 0
    assert len(memory["best single"]["drafters"]) <= 1


def test_the_override_file_gives_the_recommended_run_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.loads(Path("undisturbed/answer.json").read_text())
    table = pd.read_csv("undisturbed/candidates.csv").set_index("set_up")
    traffic = ["engine=simulation", "engine.profile=profile", "engine.acceptance=synthetic", "engine.source=law.yaml"]
    words = [word for word in answer["command"].split()[2:] if word != "engine=runtime"]
    assert words[:3] == ["--config-dir", "undisturbed/conf", "experiment=recommended"]
    assert main(["replay", *words, *traffic, "hydra.run.dir=again"]) == 0
    summary = json.loads(Path("again/summary.json").read_text())
    assert summary["output_throughput"] == pytest.approx(table.loc[answer["chosen"], "output_throughput"], rel=1e-5)
    # and its config is that of the point, key by key
    done = {path.parent.name: json.loads(path.read_text()) for path in Path("undisturbed/points").glob("*/point.json")}
    asked = OmegaConf.to_container(OmegaConf.load("again/config.yaml"), resolve=True)
    assert asked in [one["config"] for one in done.values()]


def test_given_again_or_killed_half_way_it_gives_the_same_bytes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = outputs(here / "undisturbed")
    points = {path: path.stat().st_mtime_ns for path in Path("undisturbed/points").glob("*/point.json")}
    assert ask("undisturbed") == 0
    said = capsys.readouterr().out
    assert f"run {json.loads(Path('undisturbed/answer.json').read_text())['chosen']}\n  " in said
    assert outputs(here / "undisturbed") == before
    assert points == {path: path.stat().st_mtime_ns for path in Path("undisturbed/points").glob("*/point.json")}
    process = Forked(lambda: ask("killed"), here)
    while process.poll() is None and sum(1 for _ in Path("killed/points").glob("*/point.json")) < 5:
        time.sleep(0.005)  # leaves it the core
    process.send_signal(signal.SIGKILL)
    assert process.end()[0] == -signal.SIGKILL
    assert not Path("killed/answer.json").exists()
    half = {path: path.stat().st_mtime_ns for path in Path("killed/points").glob("*/point.json")}
    assert ask("killed") == 0
    assert all(path.stat().st_mtime_ns == when for path, when in half.items())
    assert outputs(here / "killed") == before


def test_an_slo_is_sought_instead_where_one_is_given(here: Path) -> None:
    # three set-ups, and only what differs from the search above is asked beside them
    few = [SET_UPS[0], SET_UPS[1].replace("${each:${models.drafters}}", "small-shape"), SET_UPS[-1]]
    changed = [f"search.set_ups={override_value(few)}", "what_if.max_num_seqs=[]", "what_if.categories=false"]
    asked = ["slo='e2el:400'", "arrivals=poisson", "arrivals.request_rate=40", "hydra.run.dir=slo"]
    assert main(["recommend", *with_overrides(ASKED, changed), *asked]) == 0
    answer = json.loads(Path("slo/answer.json").read_text())
    table = pd.read_csv("slo/candidates.csv")
    assert (answer["objective"], answer["slo"]) == ("request_goodput", "e2el:400")
    assert answer["value"] == pytest.approx(table.loc[table["part"] == 1, "request_goodput"].max(), rel=1e-4)
    assert [row["metric"] for row in answer["cases"] if row["axis"] == "load"] == ["request_goodput"]
    assert "requests/s within the SLO" in Path("slo/answer.md").read_text()


def test_categories_are_those_of_the_requests_that_are_asked_about(here: Path) -> None:
    drawn = ["trace.num_prompts=6", "trace.sample_seed=1", "what_if.max_num_seqs=[]", "what_if.loads=[]"]
    assert ask("drawn", *drawn, "halving.smallest_requests=6") == 0
    served = [
        json.loads(path.read_text())["metrics"]["completed"] for path in Path("drawn/points").glob("*/point.json")
    ]
    requests = load_trace(Path("trace.jsonl"), "spinbench", TraceOptions(num_prompts=6, sample_seed=1)).requests
    code = sum(request.category == "code" for request in requests)
    # trace.categories=[code] would have drawn 6 of the file's 8
    assert set(served) == {code, 6 - code, 6}
    # all 7 set-ups were simulated on all of it at once; the best 3 and both baselines are worth more
    answer = json.loads(Path("drawn/answer.json").read_text())
    assert len(answer["finalists"]) == 7
    assert {row["num_set_ups"] for row in answer["cases"]} <= {3, 4, 5}


def test_lengths_without_texts_take_bootstrapped_acceptance_and_no_torch(here: Path) -> None:
    words = with_overrides(
        [word for word in ASKED if not word.startswith("search")],
        [
            "simulation.acceptance=bootstrap", "simulation.source=questions_table", "models.drafters=[tiny-shape]",
            "what_if.max_num_seqs=[]", "what_if.loads=[]", "arrivals=trace", "hydra.run.dir=lengths",
            "search.set_ups=['selector=plain','selector=fixed selector.drafter=tiny-shape drafting=fixed']",
        ],
    )  # fmt: skip
    script = (
        "import sys\nfrom spinbench.cli.main import main\n"
        f"code = main(['recommend', *{words!r}])\nassert not {{'torch', 'matplotlib'}} & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("lengths/answer.json").read_text())["acceptance"] == "bootstrap"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search.set_ups=['selector=plain']"], "search.set_ups has no single drafter with a fixed K"),
        (["search.set_ups=['selector=fixed selector.drafter=tiny-shape']"], "search.set_ups has no plain decoding"),
        (["search.set_ups=['selector=plain','trace.part=0.5']"], "trace is the same for all of them"),
        (["search.set_ups=['selector=plain','selector']"], "search.set_ups[1]: 'selector' is no override"),
        (["search.set_ups=['selector=plain','selector=nobody']"], "nobody"),
        (["search.set_ups=['selector=plain','selector=fixed selector.drafter=nobody']"], "nobody"),
        (["halving.factor=1"], "halving.factor is 1; it must be >= 2"),
        (["validations=[nowhere]"], "nowhere/validation.csv: no such file"),
        (["confirm=always"], "confirm is always, and that cannot be: the profile is of float16"),
        (["confirm=perhaps"], "one of auto, never, always"),
        (["models.drafters=[]"], "models.drafters is empty"),
        (["slo=fast"], "SLO 'fast'"),
        (["what_if.loads=[0]"], "what_if.loads[0] is 0; it must be > 0"),
        (["selector=plain"], "selector"),
    ],
)
def test_what_is_wrong_is_one_line(here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", *with_overrides(ASKED, words), "hydra.run.dir=wrong"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert said in err
    assert not Path("wrong/answer.json").exists()


def test_a_folder_of_something_else_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other").mkdir(exist_ok=True)
    Path("other/mine.txt").write_text("mine")
    assert ask("other") == 2
    assert "other: is not empty (mine.txt)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["selector=fixed", "selector.drafter=a+b", "models.drafters=[a+b,'c d',\"it's\"]", "slo='ttft:1 tpot:2'"],
        ["engine=simulation", "trace=azure_2023", "trace.path=x.csv", "arrivals=poisson", "arrivals.request_rate=inf"],
        ["drafting=by_match_order", "drafting.num_speculative_tokens=[1,1,1,9]", "kv.num_blocks=7", "method='null'"],
    ],
)  # fmt: skip
def test_the_shortest_overrides_give_the_same_config(overrides: list[str]) -> None:
    point = compose_points("replay", [overrides])[0][0]
    plain = resolved(point.config)
    again = compose_points("replay", shortest_overrides([(plain, point.choices)]))[0][0]
    assert resolved(again.config) == plain
    assert again.choices == point.choices


@pytest.mark.parametrize(
    ("b", "taken"),
    [
        ((12.0, 13.0), "b"),  # better in both repeats
        ((9.0, 30.0), "a"),  # better in one only
        ((10.0, 11.0), "a"),  # as good
        ((None, 13.0), "a"),  # served once
    ],
)
def test_real_runs_overrule_the_simulator_where_another_is_better_in_every_repeat(
    b: tuple[float | None, float | None], taken: str
) -> None:
    throughput = {("a", 0): 10.0, ("a", 1): 11.0, ("b", 0): b[0], ("b", 1): b[1]}
    rows = [
        {"method": name, "repeat": repeat, "output_throughput": value} for (name, repeat), value in throughput.items()
    ]
    sides = {name: SimpleNamespace(set_up=SimpleNamespace(name=name)) for name in "ab"}
    question = SimpleNamespace(config=SimpleNamespace(repeats=2), objective="output_throughput")
    found = SimpleNamespace(best=sides["a"], confirmed=list(sides.values()))
    assert chosen_of(question, found, pd.DataFrame(rows)) is sides[taken]
    assert chosen_of(question, found, None) is sides["a"]


def test_tiny_models_confirm_it(spinbench: CommandLine, prepared_for_real: list[str]) -> None:
    outcome = spinbench("recommend", *prepared_for_real, "confirm=auto", "hydra.run.dir=real")
    assert outcome.code == 0, outcome.err
    answer = json.loads(Path("real/answer.json").read_text())
    assert answer["not_confirmed"] is None, answer["not_confirmed"]
    assert "the profile's error on jobs that its fit had not seen" in answer["error_source"]
    names = {row["method"] for row in answer["measured"]}
    assert {answer["chosen"], answer["plain"], answer["single"]} <= names
    assert all(row["value"] > 0 for row in answer["measured"])
    assert answer["order_held"] in (True, False)
    store = SweepFolder(Path("real/confirm"))
    points = list(store.points().values())
    assert len(points) == 2 * len(names)
    # in turns: each method once before any has its second run
    assert [point.config["repeat"] for point in points] == [0] * len(names) + [1] * len(names)
    page = Path("real/answer.md").read_text()
    assert "In turns, 2 times each" in page
    measured = {path: path.stat().st_mtime_ns for path in Path("real/confirm").glob("*/point.json")}
    assert spinbench("recommend", *prepared_for_real, "confirm=auto", "hydra.run.dir=real").code == 0
    assert measured == {path: path.stat().st_mtime_ns for path in Path("real/confirm").glob("*/point.json")}
    assert Path("real/answer.md").read_text() == page


@pytest.fixture
def prepared_for_real(spinbench: CommandLine) -> list[str]:
    """Overrides that ask about the tiny models, with a profile and a table of them."""
    given = [word for word in spinbench.overrides() if not word.startswith(("hydra", "arrivals", "engine"))]
    given.append(f"models.drafters=[{spinbench.models.good_drafter},prompt_lookup]")
    models = [word for word in given if word.startswith("models")]
    engine = ["engine.dtype=float64", "engine.num_threads=1"]
    sizes = [
        "max_num_seqs=3", "max_context_tokens=64", "max_num_batched_tokens=64", "max_num_speculative_tokens=2",
        "repeats=1", "precision=0", "layouts=[packed]", "hydra.run.dir=profile",
    ]  # fmt: skip
    assert spinbench("profile", *models, *engine, *sizes).code == 0
    assert spinbench("record", *given, *engine, "out=table").code == 0
    set_ups = ["selector=plain", "selector=fixed selector.drafter=prompt_lookup drafting=fixed", "selector=random"]
    return [
        *given, "simulation.profile=profile", "simulation.source=table", "runtime.dtype=float64",
        "runtime.num_threads=1", f"search.set_ups={override_value(set_ups)}", "search.combined_with="
        "['drafting.num_speculative_tokens=2']", "launcher=serial", "repeats=2", "what_if.loads=[]",
        "what_if.max_num_seqs=[]", "what_if.categories=false",
    ]  # fmt: skip


def test_a_sweep_of_the_override_file_composes(here: Path) -> None:
    shutil.copytree("undisturbed/conf", "conf", dirs_exist_ok=True)
    points = sweep_points("replay", ["--config-dir", "conf", "experiment=recommended", "scheduler.max_num_seqs=1,2"])
    assert [resolved(point.config)["scheduler"]["max_num_seqs"] for point in points] == [1, 2]
