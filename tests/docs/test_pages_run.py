"""The pages' files and commands, followed one after another as a reader would."""

from pathlib import Path

from spinbench.metrics.store import read_run
from tests.docs.conftest import Reader
from tests.docs.page import DOCS


def test_a_reader_gets_from_own_models_to_own_parts(reader: Reader) -> None:
    reader.follow(DOCS / "tutorial.md")
    reader.follow(DOCS / "extend.md")

    # the selector, the drafter and the layout are those of the page, and none of them changes what is said
    assert set(read_run(Path("runs/win_stay")).rounds["drafter"].dropna()) > {"models/drafter"}
    assert set(read_run(Path("runs/layer_skip")).rounds["drafter"].dropna()) == {"layer_skip.first_half"}
    layout = read_run(Path("runs/largest_gap"))
    assert layout.meta["verification"] == "largest_gap"
    assert layout.summary["padding_share"] > 0
    for name in ("win_stay", "layer_skip"):
        run = read_run(Path("runs") / name)
        assert list(map(list, run.requests["output_token_ids"])) == list(map(list, layout.requests["output_token_ids"]))
    calls = read_run(Path("runs/calls"))
    assert list(calls.requests["prompt"]) == ["Name three rivers of Europe.", "What is a lexer?"]
    assert calls.meta["trace"]["dropped_requests"] == 1
