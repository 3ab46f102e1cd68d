"""Logits over the paged pool equal the model's own forward, for every way that rows and keys can lie."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.plan import LayoutPlan
from spinbench.errors import UserError
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.kv.slot_table import SlotTable
from tests.runtime import serving, tiny_models

BLOCK = 4
CONTEXTS = (3, 9, 17, 30)
TOKENS = [np.random.default_rng(row).integers(0, tiny_models.VOCAB, length) for row, length in enumerate(CONTEXTS)]


def _slots(scattered: bool) -> SlotTable:
    slots = SlotTable(60, BLOCK)
    for num_tokens in range(1, max(CONTEXTS) + 9):
        for row, length in enumerate(CONTEXTS):
            # with no room kept for it, a request that grows along with others gets a block here and a block there
            if num_tokens <= length + 8:
                slots.hold(row, num_tokens, length + 8) if not scattered else _hold_anywhere(slots, row, num_tokens)
    return slots


def _hold_anywhere(slots: SlotTable, row: int, num_tokens: int) -> None:
    slots._find_home = lambda row, length: None  # type: ignore[method-assign]
    slots.hold(row, num_tokens, CONTEXTS[row] + 8)


def _spans(*spans: tuple[int, int, int]) -> TokenSpans:
    rows, start, stop = np.array(spans).T
    return TokenSpans(rows, start, stop)


def _tokens(spans: TokenSpans) -> torch.Tensor:
    parts = [TOKENS[row][a:b] for row, a, b in zip(spans.rows, spans.start, spans.stop, strict=True)]
    return torch.from_numpy(np.concatenate(parts))


def _own_logits(family: str, spans: TokenSpans) -> torch.Tensor:
    """Logits of the spans' rows, by transformers' own attention."""
    model = tiny_models.random_model(family, 0)
    return torch.cat([
        model(torch.from_numpy(TOKENS[row])[None], use_cache=False).logits[0, a:b]
        for row, a, b in zip(spans.rows.tolist(), spans.start.tolist(), spans.stop.tolist(), strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("scattered", [False, True], ids=["consecutive", "scattered"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_prefill_then_ragged_verification(family, scattered):
    slots = _slots(scattered)
    assert (slots.first_slot(1) < 0) == scattered
    runner = ModelRunner(tiny_models.random_model(family, 0), slots)
    tails = (1, 4, 2, 5)  # rows of the second pass
    starts = [length - tail for length, tail in zip(CONTEXTS, tails, strict=True)]
    first = _spans(*((row, 0, start) for row, start in enumerate(starts)))
    second = _spans(*((row, start, CONTEXTS[row]) for row, start in enumerate(starts)))
    with torch.inference_mode():
        tokens = _tokens(first)
        logits = runner.packed(first, tokens, torch.arange(len(tokens)))
        assert (logits - _own_logits(family, first)).abs().max() < 1e-12

        tokens, expected = _tokens(second), _own_logits(family, second)
        logits = runner.packed(second, tokens, torch.arange(len(tokens)))
        assert (logits - expected).abs().max() < 1e-12

        for layout in serving.LAYOUTS.values():
            plan = layout.plan(second.num_tokens, second.stop)
            if plan.query_width or plan.rectangles:
                logits = _tiled_logits(runner, second, plan, tokens)
                assert (logits - expected).abs().max() < 1e-12


def _tiled_logits(runner: ModelRunner, spans: TokenSpans, plan: LayoutPlan, tokens: torch.Tensor) -> torch.Tensor:
    if not plan.query_width:
        return runner.tiled(spans, tokens, plan, torch.arange(len(tokens)))
    own = torch.from_numpy(np.flatnonzero(np.arange(plan.query_width) < spans.num_tokens[:, None]))
    rectangle = torch.zeros(len(spans) * plan.query_width, dtype=torch.int64)
    rectangle[own] = tokens
    return runner.tiled(spans, rectangle, plan, own)


def test_attention_of_another_kind_is_refused_not_miscomputed():
    config = MistralConfig(
        vocab_size=tiny_models.VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, sliding_window=10, max_position_embeddings=64,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval().requires_grad_(False)
    expected = model(torch.from_numpy(TOKENS[1])[None], use_cache=False).logits[0]
    runner = ModelRunner(model, _slots(False))
    within, beyond = _spans((1, 0, 9)), _spans((2, 0, 17))
    with torch.inference_mode():
        logits = runner.packed(within, _tokens(within), torch.arange(9))
        assert (logits - expected).abs().max() < 1e-12
        with pytest.raises(UserError, match="context of 17 tokens exceeds this model's sliding window of 10"):
            runner.packed(beyond, _tokens(beyond), torch.arange(17))


def test_only_the_asked_rows_get_logits():
    runner = ModelRunner(tiny_models.random_model("llama", 0), _slots(False))
    spans = _spans((2, 0, 17))
    with torch.inference_mode():
        logits = runner.packed(spans, _tokens(spans), torch.tensor([16, 4]))
    assert (logits - _own_logits("llama", spans)[[16, 4]]).abs().max() < 1e-12


def test_padding_rows_leave_no_trace_in_the_pool():
    slots = _slots(False)
    runner = ModelRunner(tiny_models.random_model("llama", 0), slots)
    with torch.inference_mode():
        spans = _spans((0, 0, 1), (1, 0, 5))
        plan = PaddedLayout().plan(spans.num_tokens, spans.stop)
        runner.tiled(spans, torch.ones(10, dtype=torch.int64), plan, torch.tensor([0]))
    written = runner.pool.keys[0].abs().sum((1, 2)).nonzero()[:, 0].tolist()
    own = [*slots.slots(0, 0, 1).tolist(), *slots.slots(1, 0, 5).tolist(), runner.pool.null_slot]
    assert written == sorted(own)
