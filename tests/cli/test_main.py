"""Looking around without running: help, version, --cfg, --info, tab completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spinbench.cli.locations import find_trace, shipped_folder
from spinbench.cli.main import COMMANDS
from tests.cli.conftest import CommandLine


def test_help_names_the_commands(spinbench: CommandLine) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        outcome = spinbench(*arguments)
        assert outcome.code == 0
        for command in ("fetch", "replay", "report", "distill"):
            assert f"  {command} " in outcome.out


def test_version(spinbench: CommandLine) -> None:
    from importlib.metadata import version

    assert spinbench("--version").out == f"spinbench {version('spinbench')}\n"


@pytest.mark.parametrize("command", ["replay", "distill"])
def test_help_of_a_hydra_app_lists_groups_and_keys(spinbench: CommandLine, command: str) -> None:
    outcome = spinbench(command, "--help")
    assert outcome.code == 0
    assert f"spinbench {command}" in outcome.out
    assert "engine: huggingface, runtime" in outcome.out
    assert "dtype: auto" in outcome.out


@pytest.mark.parametrize("command", ["report", "fetch"])
def test_help_of_the_others(spinbench: CommandLine, command: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        spinbench(command, "--help")


def test_show_the_config(spinbench: CommandLine) -> None:
    outcome = spinbench("replay", "--cfg", "job", "selector=random", "selector.rounds_per_choice=9")
    assert outcome.code == 0
    assert "rounds_per_choice: 9" in outcome.out
    assert "hydra:" not in outcome.out
    assert not list(Path().iterdir())


def test_options_may_stand_between_overrides(spinbench: CommandLine) -> None:
    outcome = spinbench("replay", "selector=random", "--cfg", "job", "seed=5")
    assert (outcome.code, "seed: 5" in outcome.out) == (0, True)


def test_show_where_it_comes_from(spinbench: CommandLine) -> None:
    outcome = spinbench("replay", "--info", "defaults")
    assert outcome.code == 0
    assert "selector/spin" in outcome.out


def test_a_mistake_while_looking_is_one_line_too(spinbench: CommandLine) -> None:
    outcome = spinbench("replay", "--cfg", "job", "verification=round")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "decomposed, grouped, packed, padded" in outcome.err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("spinbench ", list(COMMANDS)),
        ("spinbench re", ["replay", "record", "recommend", "report"]),
        ("spinbench replay selector=ep", ["selector=epsilon_greedy"]),
        (
            "spinbench replay verification=",
            [f"verification={name}" for name in ("decomposed", "grouped", "packed", "padded")],
        ),
        ("spinbench replay selector=random selector.rou", ["selector.rounds_per_choice="]),
        ("spinbench distill eng", ["engine="]),
        ("spinbench record sampling=gr", ["sampling=greedy"]),
        ("spinbench profile max_c", ["max_context_tokens="]),
        ("spinbench validate rep", ["repeat=", "repeats="]),
        ("spinbench sweep ", ["status", "table"]),
        ("spinbench sweep ta", ["table"]),
        ("spinbench sweep table runs/x", []),
        ("spinbench report ", []),
    ],
)
def test_tab_completion(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    outcome = spinbench("-sc", "query=bash")
    assert outcome.code == 0
    found = outcome.out.split()
    assert [word for word in found if not word.endswith(".")] == expected


def test_tab_completion_knows_choices_of_ones_own(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    (spinbench.folder / "mine" / "selector").mkdir(parents=True)
    (spinbench.folder / "mine" / "selector" / "win_stay.yaml").write_text("# Mine.\n_target_: win_stay.WinStay\n")
    monkeypatch.setenv("COMP_LINE", "spinbench replay --config-dir mine selector=win")
    assert spinbench("-sc", "query=bash").out.split() == ["selector=win_stay"]


def hydra_commands() -> list[str]:
    return sorted(path.stem for path in shipped_folder("conf").glob("*.yaml"))


@pytest.mark.parametrize("command", hydra_commands())
def test_every_command_with_a_config_is_looked_around_in_alike(spinbench: CommandLine, command: str) -> None:
    assert command in COMMANDS
    shown = spinbench(command, "--cfg", "job")
    assert (shown.code, shown.err, "hydra:" in shown.out) == (0, "", False)
    assert "  " in shown.out
    where = spinbench(command, "--info", "defaults")
    assert (where.code, where.err, "Defaults List" in where.out) == (0, "", True)
    assert f"spinbench {command}" in spinbench(command, "--help").out
    assert not list(Path().iterdir())


def test_a_mode_in_the_config_is_as_good_as_an_option(spinbench: CommandLine) -> None:
    simulation = [
        "engine=simulation",
        "trace.num_prompts=1",
        "trace.max_output_tokens=4",
        "selector=plain",
        "keep=summary",
    ]
    done = spinbench("replay", *simulation, "hydra.mode=MULTIRUN", "seed=0,1", "hydra.sweep.dir=sweep")
    assert (done.code, done.err) == (0, "")
    assert "2 points: 2 done" in done.out
    single = spinbench("replay", *simulation, "hydra.mode=RUN", "hydra.run.dir=run")
    assert (single.code, Path("run/summary.json").is_file()) == (0, True)
    wrong = spinbench("replay", *simulation, "hydra.mode=SIDEWAYS")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)


def test_completion_is_installed_by_a_script(spinbench: CommandLine) -> None:
    outcome = spinbench("replay", "-sc", "install=bash")
    assert outcome.code == 0
    assert "complete -o nospace" in outcome.out


def test_a_trace_is_looked_for_here_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_trace("mixed.jsonl") == shipped_folder("traces") / "mixed.jsonl"
    assert find_trace("sub/nope.jsonl") == Path("sub/nope.jsonl")
    (tmp_path / "mixed.jsonl").write_text("")
    assert find_trace("mixed.jsonl") == Path("mixed.jsonl")


def test_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spinbench", "replay", "--cfg", "job", "--package", "drafting"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "num_speculative_tokens: 4" in done.stdout


def test_looking_does_not_import_torch(tmp_path: Path) -> None:
    looks = [["--help"], ["replay", "--cfg", "job"], ["-sc", "query=bash"]]
    program = (
        "import sys; from spinbench.cli.main import main\n"
        f"for look in {looks}: main(look); print('torch imported:', 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"COMP_LINE": "spinbench replay sel"},
    )  # fmt: skip
    assert [line for line in done.stdout.splitlines() if "torch imported" in line] == ["torch imported: False"] * 3
