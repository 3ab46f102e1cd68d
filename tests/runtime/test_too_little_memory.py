"""Scoring, Hugging Face's generate and processes that share a target, on a device with too little memory."""

import logging
import signal
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from spinbench.metrics.identities import check_identities
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.huggingface.generator import Answers, HuggingFaceGenerator
from spinbench.runtime.kv.kv_pool import KvPool
from spinbench.runtime.out_of_memory import TooLittleMemory, too_little_memory
from spinbench.runtime.process_group import Ranks
from spinbench.runtime.recording.teacher_forcing import score_texts
from spinbench.workload.request import Request
from tests.runtime import recorded, serving, tiny_models
from tests.runtime.huggingface import test_generator
from tests.runtime.scarce_memory import ScarceMemory

TORCHS_WORDS = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.81 GiB of which 10.10 GiB is "
    "free. Including non-PyTorch memory, this process has 129.70 GiB memory in use. If reserved but unallocated memory "
    "is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


def test_the_line_says_what_how_much_and_what_helps():
    with pytest.raises(TooLittleMemory) as found, too_little_memory("loading", "take less"):
        raise torch.OutOfMemoryError(TORCHS_WORDS)
    assert str(found.value) == (
        "loading: out of memory (CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.81 "
        "GiB of which 10.10 GiB is free); take less"
    )


def _scarce_passes(patch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Passes of more tokens fail behind their last layer, when their KV is written. Returns sizes of those that fit."""
    real, sizes = ModelRunner.run, []

    def run(self: ModelRunner, token_ids: torch.Tensor, *rest):
        logits = real(self, token_ids, *rest)
        if len(token_ids) > most:
            raise torch.OutOfMemoryError("scarce")
        sizes.append(len(token_ids))
        return logits

    patch.setattr(ModelRunner, "run", run)
    return sizes


def _scarce_pools(patch: pytest.MonkeyPatch, most: int) -> None:
    real = KvPool.__init__

    def init(self: KvPool, shape, num_slots: int, *rest) -> None:
        if num_slots > most:
            raise torch.OutOfMemoryError("scarce")
        real(self, shape, num_slots, *rest)

    patch.setattr(KvPool, "__init__", init)


def test_a_recording_is_the_same_in_passes_that_fit(monkeypatch, caplog):
    texts, model = recorded.texts("drafter_invariant"), recorded.models()[1][2]
    whole = score_texts(model, texts, serving.NUCLEUS, rollout_tokens=3)
    sizes = _scarce_passes(monkeypatch, 40)
    told: list[int] = []
    columns = score_texts(model, texts, serving.NUCLEUS, None, told.append, rollout_tokens=3)
    for name in ("rank", "probability", "top_probability", "rollout"):
        np.testing.assert_array_equal(getattr(columns, name), getattr(whole, name))
    assert 20 < max(sizes) <= 40
    assert told == sorted(told)
    assert told[-1] == texts.offsets[-1]
    assert "out of memory where drafter 'small_vocabulary' reads texts, 4096 tokens a pass: 2048" in caplog.text


def test_texts_are_read_with_a_kv_pool_that_fits(monkeypatch):
    texts, model = recorded.texts("greedy"), recorded.models()[1][0]
    whole = score_texts(model, texts, serving.GREEDY)
    _scarce_pools(monkeypatch, 16 * 8)
    np.testing.assert_array_equal(score_texts(model, texts, serving.GREEDY).rank, whole.rank)


def test_a_drafter_that_cannot_read_one_token_is_one_line(monkeypatch):
    _scarce_passes(monkeypatch, 0)
    with pytest.raises(
        TooLittleMemory, match=r"drafter 'good' reads texts, 1 tokens a pass, \d+\.\d GB free; lower kv"
    ):
        score_texts(recorded.models()[1][0], recorded.texts("greedy"), serving.GREEDY)


def _scarce_generate(patch: pytest.MonkeyPatch, fits: Callable[[Sequence[Request]], bool]) -> None:
    real = HuggingFaceGenerator.generate

    def generate(self: HuggingFaceGenerator, requests: Sequence[Request], prompts: Sequence) -> Answers:
        if not fits(requests):
            raise torch.OutOfMemoryError("scarce")
        return real(self, requests, prompts)

    patch.setattr(HuggingFaceGenerator, "generate", generate)


def test_generate_answers_in_batches_that_fit(monkeypatch):
    _scarce_generate(monkeypatch, lambda requests: len(requests) <= 3)
    record = test_generator.served(8, arrivals="all_at_once")[1]
    test_generator.assert_same_answers(record)
    spans = [(span.kind, len(span.request_ids)) for span in record.spans]
    assert spans == [("out_of_memory", 8), ("out_of_memory", 4), *[("generate", 2)] * 4]


def test_what_generate_cannot_answer_alone_is_given_up(monkeypatch, caplog):
    _scarce_generate(monkeypatch, lambda requests: "r2" not in [request.id for request in requests])
    with caplog.at_level(logging.WARNING):
        record = test_generator.served(4)[1]
    check_identities(record, [request.id for request in test_generator.TRACE])
    reasons = {request.request_id: request.finish_reason for request in record.requests}
    assert [name for name, reason in reasons.items() if reason == "out_of_memory"] == ["r2"]
    expected = serving.outputs(test_generator.ours())
    assert serving.outputs(record) == expected | {"r2": ()}
    assert "request 'r2' is given up: Hugging Face's generate is out of memory with it alone" in caplog.text


class Alone(Ranks):
    """One of two processes, without the other, which would say what this one says."""

    def of_first(self, value):
        return value


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, object]]:
    """What was asked of signals."""
    asked: list[tuple[int, object]] = []
    monkeypatch.setattr(signal, "signal", lambda *what: asked.append(what))
    return asked


def _after(count: int) -> Callable[[str, object], bool]:
    seen: list[str] = []

    def fits(kind: str, spans: object) -> bool:
        seen.append(kind)
        return len(seen) <= count

    return fits


def test_the_first_of_several_processes_keeps_what_is_finished(monkeypatch, told):
    target, models = tiny_models.shared()
    trace = serving.requests(8, max_new_tokens=16)
    plain = serving.outputs(serving.serve(target, [], trace, selector="plain"))
    ScarceMemory(monkeypatch, _after(6), ["verify"])
    ranks = Alone(0, 2, None)
    record = serving.serve(target, models, trace, selector="fixed good", max_num_seqs=3, ranks=ranks)
    assert ranks.ended_by is not None
    assert ranks.ended_by.startswith("process 0 of 2, in a verify job of ")
    assert "with engine.tensor_parallel this ends the run: lower kv.gpu_memory_utilization" in ranks.ended_by
    assert not record.complete
    finished = {one.request_id for one in record.requests if one.finish_reason in ("stop", "length")}
    assert 0 < len(finished) < len(trace)
    for name, tokens in serving.outputs(record).items():
        assert tokens == plain[name][: len(tokens) if name not in finished else None]
    assert told == [(signal.SIGTERM, signal.SIG_IGN)]


def test_another_process_ends_at_once_and_says_nothing_to_the_first(monkeypatch, told):
    target, _ = tiny_models.shared()
    ScarceMemory(monkeypatch, _after(1), ["verify"])
    ranks = Alone(1, 2, None)
    with pytest.raises(TooLittleMemory, match="process 1 of 2, in a verify job of 3 requests: out of memory"):
        serving.serve(target, [], serving.requests(3, 8), selector="plain", max_num_seqs=3, ranks=ranks)
    assert not told
