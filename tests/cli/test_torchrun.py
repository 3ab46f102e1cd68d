"""What does not go with a target that several processes share, found before they meet."""

import pytest

from tests.cli.conftest import CommandLine

RANKS = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As torchrun starts the first of two processes."""
    for name, value in RANKS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["placement=own_devices"], "placement is own_devices and engine.tensor_parallel 2"),
        (["engine.graphs=eager"], "engine.graphs is eager and engine.tensor_parallel 2"),
        (["-m", "seed=0,1"], "engine.tensor_parallel is 2; it is for one run of spinbench replay"),
        (["engine.tensor_parallel=1"], "engine.tensor_parallel is 1, and torchrun started 2 processes"),
        (["engine=huggingface", "selector=plain"], "torchrun started 2 processes"),
    ],
)
def test_what_does_not_go_together_is_refused(
    spinbench: CommandLine, started: pytest.MonkeyPatch, overrides: list[str], reason: str
) -> None:
    asked = [] if "engine=huggingface" in overrides else ["engine.tensor_parallel=2"]
    # a sweep's folder has another key
    base = [text for text in spinbench.overrides() if "-m" not in overrides or not text.startswith("hydra.run.dir")]
    done = spinbench("replay", *base, *asked, *overrides)
    assert done.code == 2
    assert reason in done.err
    assert len(done.err.splitlines()) == 1


def test_the_first_process_speaks_for_all(spinbench: CommandLine, started: pytest.MonkeyPatch) -> None:
    started.setenv("RANK", "1")
    done = spinbench.replay("engine.tensor_parallel=2", "placement=own_devices")
    assert (done.code, done.err) == (2, "")


def test_other_commands_take_whole_targets(spinbench: CommandLine) -> None:
    given = [one for one in spinbench.overrides() if not one.startswith(("arrivals", "hydra"))]
    done = spinbench("record", *given, "engine.tensor_parallel=2", "out=table")
    assert done.code == 2
    assert "engine.tensor_parallel is 2; it is for one run of spinbench replay" in done.err
