"""What runs before the clock starts: every drafter, and with graphs every size that a batch shrinks through."""

from typing import Any

import pytest

from spinbench.cli.engine import warm_up as module
from spinbench.control.selector.fixed import FixedSelector
from spinbench.runtime.session import live_loop
from tests.cli.conftest import CommandLine


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, list[int], list[int]]]:
    """Of each warming loop its selector, its answers' lengths, and its prompts'."""
    found: list[tuple[Any, list[int], list[int]]] = []

    def noted(setting: Any, body: Any, queue: Any, prompts: Any) -> Any:
        lengths = [request.max_new_tokens for request in queue.requests]
        found.append((setting.selector, lengths, [len(prompts[request.id]) for request in queue.requests]))
        return live_loop(setting, body, queue, prompts)

    monkeypatch.setattr(module, "live_loop", noted)
    monkeypatch.setattr(module, "MAX_PROMPT_TOKENS", 4)
    return found


def test_short_answers_once(spinbench: CommandLine, loops: list[tuple[Any, list[int], list[int]]]) -> None:
    assert spinbench.replay("drafting.num_speculative_tokens=1").code == 0
    assert [(lengths, prompts) for _, lengths, prompts in loops] == [([8, 8, 8], [4, 4, 4])]


def test_with_graphs_each_drafter_and_every_batch_size(
    spinbench: CommandLine, loops: list[tuple[Any, list[int], list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "graph_mode", lambda engine: "cuda")
    assert spinbench.replay("drafting.num_speculative_tokens=1", "engine.graphs=eager").code == 0
    assert [type(selector) for selector, *_ in loops] == [FixedSelector, FixedSelector]
    assert {selector._drafter for selector, *_ in loops} == {0, 1}
    for _, lengths, prompts in loops:
        # answers have 12 and more tokens: as many, or two for each of three drafters, itself and three requests
        assert lengths == [4, 9, 14]
        assert min(prompts) > 4
    del loops[:]
    assert spinbench.replay("selector=plain", "models.drafters=[prompt_lookup]", "hydra.run.dir=plain").code == 0
    assert len(loops) == 1
