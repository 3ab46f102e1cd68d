"""Logits over the paged pool equal the model's own forward, for every way that rows and keys can lie."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from spinbench.control.job import TokenSpan
from spinbench.control.request_state import RequestState
from spinbench.errors import UserError
from spinbench.runtime.model_runner import ModelRunner
from spinbench.workload.request import Request
from tests.runtime import tiny_models

BLOCK = 4
CONTEXTS = (3, 9, 17, 30)


def _states(scattered: bool) -> list[RequestState]:
    rng = np.random.default_rng(0)
    free = rng.permutation(60).tolist() if scattered else list(range(60))
    states = []
    for index, length in enumerate(CONTEXTS):
        tokens = tuple(rng.integers(0, tiny_models.VOCAB, length).tolist())
        request = Request(id=str(index), arrival_s=0.0, max_new_tokens=8, prompt_token_ids=tokens)
        state = RequestState(request, tokens, 0.0, 0, BLOCK)
        state.add_blocks([free.pop(0) for _ in range(-(-(length + 8) // BLOCK))])
        states.append(state)
    return states


def _own_logits(family: str, state: RequestState) -> torch.Tensor:
    model = tiny_models.random_model(family, 0)
    return model(torch.from_numpy(state.token_ids(0, state.num_tokens))[None], use_cache=False).logits[0]


@pytest.mark.parametrize("scattered", [False, True], ids=["consecutive", "scattered"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_prefill_then_ragged_verification(family, scattered):
    runner = ModelRunner(tiny_models.random_model(family, 0), 60 * BLOCK)
    states = _states(scattered)
    assert states[1].slots_contiguous != scattered
    tails = (1, 4, 2, 5)  # rows of the second pass
    with torch.inference_mode():
        first = [TokenSpan(s, 0, s.num_tokens - t) for s, t in zip(states, tails, strict=True) if s.num_tokens > t]
        tokens = torch.from_numpy(np.concatenate([s.state.token_ids(s.start, s.stop) for s in first]))
        logits = runner.packed(first, tokens, torch.arange(len(tokens)))
        expected = torch.cat([_own_logits(family, span.state)[: span.stop] for span in first])
        assert (logits - expected).abs().max() < 1e-12

        second = [TokenSpan(s, s.num_tokens - t, s.num_tokens) for s, t in zip(states, tails, strict=True)]
        tokens = torch.from_numpy(np.concatenate([s.state.token_ids(s.start, s.stop) for s in second]))
        expected = torch.cat([_own_logits(family, span.state)[span.start :] for span in second])
        logits = runner.packed(second, tokens, torch.arange(len(tokens)))
        assert (logits - expected).abs().max() < 1e-12

        width = max(tails)
        rectangle = torch.zeros(len(second), width, dtype=torch.int64)
        for row, span in enumerate(second):
            rectangle[row, : span.num_tokens] = torch.from_numpy(span.state.token_ids(span.start, span.stop))
        real = torch.cat([row * width + torch.arange(span.num_tokens) for row, span in enumerate(second)])
        logits = runner.padded(second, rectangle.view(-1), width, real)
        assert (logits - expected).abs().max() < 1e-12


def test_attention_of_another_kind_is_refused_not_miscomputed():
    config = MistralConfig(
        vocab_size=tiny_models.VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, sliding_window=10, max_position_embeddings=64,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval().requires_grad_(False)
    states = _states(False)
    expected = model(torch.from_numpy(states[1].token_ids(0, 9))[None], use_cache=False).logits[0]
    runner = ModelRunner(model, 60 * BLOCK)
    within, beyond = TokenSpan(states[1], 0, 9), TokenSpan(states[2], 0, 17)
    with torch.inference_mode():
        logits = runner.packed([within], torch.from_numpy(states[1].token_ids(0, 9)), torch.arange(9))
        assert (logits - expected).abs().max() < 1e-12
        with pytest.raises(UserError, match="context of 17 tokens exceeds this model's sliding window of 10"):
            runner.packed([beyond], torch.from_numpy(states[2].token_ids(0, 17)), torch.arange(17))


def test_only_the_asked_rows_get_logits():
    runner = ModelRunner(tiny_models.random_model("llama", 0), 60 * BLOCK)
    state = _states(False)[2]
    with torch.inference_mode():
        tokens = torch.from_numpy(state.token_ids(0, 17))
        logits = runner.packed([TokenSpan(state, 0, 17)], tokens, torch.tensor([16, 4]))
    assert (logits - _own_logits("llama", state)[[16, 4]]).abs().max() < 1e-12


def test_padding_rows_leave_no_trace_in_the_pool():
    runner = ModelRunner(tiny_models.random_model("llama", 0), 60 * BLOCK)
    states = _states(False)
    spans = [TokenSpan(states[0], 0, 1), TokenSpan(states[1], 0, 5)]
    with torch.inference_mode():
        runner.padded(spans, torch.ones(10, dtype=torch.int64), 5, torch.tensor([0]))
    written = runner.pool.keys[0].abs().sum((1, 2)).nonzero()[:, 0].tolist()
    own = [int(states[0].slots(0, 1)[0]), *states[1].slots(0, 5).tolist(), runner.pool.null_slot]
    assert written == sorted(own)
