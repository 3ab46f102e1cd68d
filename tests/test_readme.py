"""What README.md tells a reader to type is what the program takes."""

import re
import shlex
from pathlib import Path

import pytest

from spinbench.cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
COMPOSED = [
    command.partition("spinbench ")[2] for command in COMMANDS
    # not those of other commands' arguments, or of a folder that another command makes
    if re.search(r"spinbench (replay|record|profile|validate|recommend|capacity) ", command) and "--config-dir" not in command
]  # fmt: skip


def test_there_are_commands_to_check() -> None:
    assert len(COMPOSED) >= 12


@pytest.mark.parametrize("command", COMPOSED)
def test_a_command_composes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    # a sweep's points are composed one by one when it runs; here each override's first value
    words = [re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in shlex.split(command) if word != "-m"]
    assert main([*words, "--cfg", "job"]) == 0, capsys.readouterr().err
    config = capsys.readouterr().out
    assert "models:" in config
    assert "???" not in config  # a key that has to be given


def test_the_commands_of_sweeps_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = README.split("## Sweep, resume, compare")[1].split("\n## ")[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 7
    small = {"trace.num_prompts=24": "trace.num_prompts=2", "launcher=processes": "launcher=serial"}
    for line in lines:
        assert main([small.get(word, word) for word in shlex.split(line)[1:]]) == 0
    assert Path("runs/sweep/points.parquet").is_file()
    assert Path("runs/sweep/report/report.html").is_file()
    assert Path("compare.json").is_file()


def test_a_recommendation_can_be_asked_for_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = README.split("## Ask what to run")[1].split("\n## ")[0]
    recommend, replay = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].splitlines()
    small = [
        "trace.num_prompts=2", "models.drafters=[prompt_lookup]", "confirm=never", "launcher=serial",
        "search.set_ups=['selector=plain','selector=fixed selector.drafter=prompt_lookup drafting=fixed']",
        "what_if.loads=[]", "what_if.max_num_seqs=[]",
    ]  # fmt: skip
    assert main([*shlex.split(recommend)[1:], *small]) == 0
    assert main([*shlex.split(replay)[1:], "engine=simulation", "trace.num_prompts=2", "hydra.run.dir=run"]) == 0
    assert Path("run/summary.json").is_file()


def test_the_commands_of_replicas_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = README.split("## Many replicas")[1].split("\n## ")[0]
    replay, capacity = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].splitlines()
    assert main([*shlex.split(replay)[1:], "trace.num_prompts=6"]) == 0
    # the whole search takes a minute; with a limit that nobody keeps it says so after its slowest rate
    words = [word for word in shlex.split(capacity)[1:] if not word.startswith(("slo=", "trace.num_prompts="))]
    assert main([*words, "trace.num_prompts=2", "slo='ttft:1 tpot:1'"]) == 2
    assert Path("runs/replicas/summary.json").is_file()


@pytest.mark.parametrize("target", re.findall(r"make (\w+)", "\n".join(COMMANDS)))
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize(
    "module",
    re.findall(
        r"python -m (benchmarks\.\w+)", README + (ROOT / "reports/benchmarks/README.md").read_text(encoding="utf-8")
    ),
)
def test_a_benchmark_exists(module: str) -> None:
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
