"""The pages' files and commands, followed one after another as a reader would."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from spinbench.cli.main import main
from spinbench.metrics.store import Run, read_run
from tests.docs.conftest import Reader
from tests.docs.page import DOCS, PAGES, commands
from tests.undrawn import undrawn

__all__ = ["undrawn"]


def texts(run: Run) -> dict[str, list[int]]:
    return {row.request_id: list(row.output_token_ids) for row in run.requests.itertuples()}


@pytest.mark.usefixtures("undrawn")
def test_a_reader_gets_from_own_models_to_own_parts(reader: Reader) -> None:
    reader.follow(DOCS / "tutorial.md")
    reader.follow(DOCS / "extend.md")

    assert "prompt_lookup" in Path("mine/experiment/recommended.yaml").read_text()
    assert read_run(Path("runs/as_recommended")).summary["completed"] == 3
    answer = re.findall(r"```sh\n(spinbench replay .*?)\n```", Path("runs/recommended/answer.md").read_text())[0]
    assert "--config-dir mine" in answer
    assert main([*shlex.split(answer)[1:], "--cfg", "job"]) == 0
    # the selector, the drafter and the layout are those of the page, and none of them changes what is said
    assert set(read_run(Path("runs/win_stay")).rounds["drafter"].dropna()) > {"models/drafter"}
    assert set(read_run(Path("runs/layer_skip")).rounds["drafter"].dropna()) == {"layer_skip.first_half"}
    layout = read_run(Path("runs/largest_gap"))
    assert layout.meta["verification"] == "largest_gap"
    assert layout.summary["padding_share"] > 0
    for name in ("win_stay", "layer_skip"):
        assert texts(read_run(Path("runs") / name)) == texts(layout)
    assert layout.meta["command"].startswith("spinbench replay --config-dir mine models=mine ")
    calls = read_run(Path("runs/calls"))
    assert list(calls.requests["prompt"]) == ["Name three rivers of Europe.", "What is a lexer?"]
    assert calls.meta["trace"]["dropped_requests"] == 1


@pytest.mark.parametrize("page", ["index.md", "formats.md"])
def test_the_commands_of_a_page(reader: Reader, page: str) -> None:
    reader.follow(DOCS / page)


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_the_commands_of_trackers(reader: Reader, tracker: str) -> None:
    if find_spec(tracker) is None:
        pytest.skip(f"needs the extra {tracker}")
    (command,) = [one for one in commands(DOCS / "trackers.md") if f"sink={tracker}" in one.words]
    reader.give(command)


def test_no_page_has_commands_that_no_test_gives() -> None:
    followed = {"tutorial.md", "extend.md", "index.md", "formats.md", "trackers.md"}
    assert {page.name for page in PAGES if commands(page)} == followed
