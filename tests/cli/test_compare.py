"""`spinbench compare` on simulated runs and sweeps."""

import json
import shutil
from pathlib import Path

import pytest

from spinbench.cli.main import main
from spinbench.sweep.folder import SweepFolder
from tests.cli.test_sweep import given, setup  # noqa: F401

pytestmark = pytest.mark.usefixtures("setup")


def run(name: str, *overrides: str) -> None:
    sweep = ["-m"] if any("," in one for one in overrides) else []
    place = f"hydra.sweep.dir={name}" if sweep else f"hydra.run.dir={name}"
    assert main(["replay", *sweep, *given(), place, "keep=tables", *overrides]) == 0


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, dict]:
    capsys.readouterr()
    code = main(["compare", *arguments])
    out = capsys.readouterr().out
    return code, out, json.loads(Path("compare.json").read_text())


def by_metric(content: dict) -> dict[str, dict]:
    return {one["metric"]: one for one in content["differences"]}


def test_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run("a", "drafting.num_speculative_tokens=1")
    run("b", "drafting.num_speculative_tokens=4")
    code, out, content = compared(capsys, "a", "b", "--fail-if", "acceptance_length < 1x")
    assert code == 0
    assert content["differing"] == {"drafting.num_speculative_tokens": {"a": "1", "b": "4"}}
    assert "drafting.num_speculative_tokens: 1 -> 4" in out
    found = by_metric(content)
    length = found["acceptance_length"]
    assert length["verdict"] == "higher"
    assert 1 < length["low"] < length["ratio"] < length["high"]
    assert length["drawn"] == "requests"
    assert found["output_throughput"]["verdict"] == "noise unknown"
    summaries = [json.loads(Path(name, "summary.json").read_text()) for name in "ab"]
    for metric, one in found.items():
        assert [one["before"], one["after"]] == [summary[metric] for summary in summaries]
    # the other way round it is lower
    code, out, content = compared(capsys, "b", "a", "--fail-if", "acceptance_length < 0.99x")
    assert code == 1
    assert "fails: acceptance_length < 0.99x: A " in out
    assert by_metric(content)["acceptance_length"]["verdict"] == "lower"
    code, _, content = compared(capsys, "a", "a")
    assert {one["verdict"] for one in content["differences"]} == {"equal"}
    assert (code, content["differing"]) == (0, {})


def test_plain_decoding_is_simulated_once_and_compared_whatever_k_is(capsys: pytest.CaptureFixture[str]) -> None:
    run("a", "selector=plain,random", "drafting.num_speculative_tokens=1,2")
    points = SweepFolder(Path("a")).points().values()
    assert sorted(point.choices["selector"] for point in points) == ["plain", "random", "random"]
    run("b", "selector=plain,random", "drafting.num_speculative_tokens=2,4")
    # as an older version did
    plain = next(Path("b") / point.folder for point in SweepFolder(Path("b")).points().values()
                 if point.choices["selector"] == "plain")  # fmt: skip
    shutil.copytree("b", "c", ignore=shutil.ignore_patterns("sweep.json"))
    shutil.copytree(plain, "c/again")
    config = Path("c/again/config.yaml")
    config.write_text(config.read_text().replace("num_speculative_tokens: 4", "num_speculative_tokens: 2"))
    for other in ("b", "c"):
        code, out, content = compared(capsys, "a", other, "--metrics", "output_throughput")
        assert code == 0
        assert "2 settings in common, 1 repeat each; only in A: 1, only in B: 1" in out
        assert {one["verdict"] for one in content["differences"]} == {"equal"}


def test_two_sweeps_share_settings_and_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    run("a", "selector=random", "drafting.num_speculative_tokens=1,2", "repeat=0,1")
    run("b", "selector=epsilon_greedy", "drafting.num_speculative_tokens=2,4", "repeat=0,1")
    code, out, content = compared(capsys, "a", "b", "--metrics", "output_throughput", "mean_e2el_ms")
    assert code == 0
    assert "1 setting in common, 2 repeats each; only in A: 1, only in B: 1" in out
    assert content["settings"][0]["setting"] == {"drafting.num_speculative_tokens": 2}
    assert "selector._target_" in content["differing"]
    found = by_metric(content)
    assert found["output_throughput"]["drawn"] == "repeats"
    assert found["mean_e2el_ms"]["drawn"] == "requests and repeats"


def test_summaries_alone_have_no_requests_to_draw(capsys: pytest.CaptureFixture[str]) -> None:
    run("a", "drafting.num_speculative_tokens=1,2", "keep=summary")
    _, _, content = compared(capsys, "a", "a", "--metrics", "mean_e2el_ms")
    assert [(one["verdict"], one["drawn"]) for one in content["differences"]] == [("equal", "nothing")] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "spinbench compare: the following arguments are required: B"),
        (["a", "nowhere"], "nowhere: no such folder"),
        (["a", "a", "--fail-if", "speed < 1"], "no metric 'speed'; metrics are "),
        (["a", "a", "--metrics", "speed"], "--metrics: no metric 'speed'"),
        (["a", "a", "--fail-if", "request_goodput < 1"], "no metric 'request_goodput'"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    if len(arguments) > 1:
        run("a")
    capsys.readouterr()
    assert main(["compare", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
