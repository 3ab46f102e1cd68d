"""A folder as a reader of the pages has it: own models, which are tiny here, and commands given in it."""

import logging
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from spinbench.cli.main import main
from spinbench.metrics.store import read_run
from tests.cli.conftest import loaded_once, save_tiny_model, save_tokenizer
from tests.docs.page import Command, File, steps

__all__ = ["loaded_once"]

SMALLER = {
    "launcher=processes": "launcher=serial",
    "trace.num_prompts=24": "trace.num_prompts=8",
    "trace.num_prompts=8": "trace.num_prompts=3",
    "trace.max_output_tokens=64": "trace.max_output_tokens=12",
    "trace.max_output_tokens=32": "trace.max_output_tokens=12",
    "repeats=3": "repeats=1",
    "repeats=2": "repeats=1",
    "precision=0.05": "precision=0",
    "max_num_seqs=8": "max_num_seqs=2",
    "max_num_speculative_tokens=4": "max_num_speculative_tokens=2",
    "selector=plain,random,epsilon_greedy,spin,spin_round_goodput,contextual": "selector=plain,contextual",
    "drafting.num_speculative_tokens=2,4": "drafting.num_speculative_tokens=2",
    "scheduler.max_num_seqs=1,8": "scheduler.max_num_seqs=8",
    "max_num_batched_tokens=512": "max_num_batched_tokens=64",
    "max_context_tokens=512": "max_context_tokens=64",
    "distill.self_play.lines=400": "distill.self_play.lines=24",
    "distill.held_out_lines=40": "distill.held_out_lines=4",
}
"""Words of the pages, and what tiny models are given instead, so that a page takes seconds."""

FEWER = (
    "search.set_ups=['selector=plain','selector=fixed selector.drafter=models/drafter,prompt_lookup drafting=fixed',"
    "'selector=joint drafting=by_selector']",
    "what_if.loads=[]",
    "what_if.max_num_seqs=[]",
    "what_if.categories=false",
    "launcher=serial",
)
"""Besides, for `spinbench recommend`: a search of three kinds of set-ups."""
LOOKS = ("--help", "--cfg", "--info")
"""Of a replay, after which nothing runs; requests of a real run come faster than the page's, so that nobody waits."""
ONE_BY_ONE = ("scheduler.max_num_seqs=1", "repeats=1", "curve=[]")
"""Besides, for `spinbench capacity`: the last of a few requests waits for the others, as the last of many does."""


@dataclass(frozen=True)
class Reader:
    """Follows pages in a folder."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def follow(self, page: Path) -> None:
        """Write the page's files and give its commands, in its order; every one must succeed."""
        for step in steps(page):
            if isinstance(step, File):
                step.write()
            elif step.words:
                self.give(step)

    def give(self, command: Command) -> str:
        """Give a command; what it printed."""
        self.monkeypatch.setattr(logging.getLogger(), "handlers", [])  # Hydra's write to an earlier stdout
        self.capsys.readouterr()
        words = [SMALLER.get(word, word) for word in command.words]
        if words[:2] == ["spinbench", "replay"] and not {"engine=simulation", *LOOKS} & set(words):
            words.append("trace.time_scale=0.05")
        if words[:2] == ["spinbench", "recommend"]:
            words.extend(FEWER)
        if words[:2] == ["spinbench", "capacity"]:
            words = [*(word for word in words if not word.startswith("slo=")), *ONE_BY_ONE, f"slo=ttft:{_limit(words)}"]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in command.environment.items():
                patch.setenv(name, value)
            if words[0] == "spinbench":
                code = main(words[1:])
            else:
                assert words[0] in ("cp", "mkdir", "ln"), f"{command.line}: what to do with it?"
                code = subprocess.run(words, check=False).returncode
        out, err = self.capsys.readouterr()
        assert code == 0, f"{shlex.join(words)}\n{out}\n{err}"
        return out


def _limit(capacity: list[str]) -> float:
    """A quarter of what the last waits if all come at once: kept by who comes alone, on a machine of any speed."""
    folder = Path("runs") / f"all_at_once-{len(capacity)}"
    own = [word for word in capacity[2:] if not word.startswith(("slo=", "hydra.", "replicas=", "router="))]
    words = [*own, "engine=simulation", "arrivals=all_at_once", "scheduler.max_num_seqs=1", f"hydra.run.dir={folder}"]
    assert main(["replay", *words]) == 0
    return read_run(folder).summary["p99_ttft_ms"] / 4


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Reader:
    """Somebody in an empty folder but for two models of their own."""
    monkeypatch.chdir(tmp_path)
    for name, seed, disturbed in (("target", 0, 0.0), ("drafter", 1, 0.01)):
        folder = Path("models") / name
        save_tiny_model(folder, seed, disturbed, context_tokens=4096)
        save_tokenizer(folder)
    return Reader(monkeypatch, capsys)
