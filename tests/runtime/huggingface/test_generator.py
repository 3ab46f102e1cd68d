"""Hugging Face's generate as a peer: the same texts as plain decoding on our runtime, recorded as our runs are."""

import functools
from dataclasses import replace

import pytest

from spinbench.control.jobs.job import CatchUpJob, TokenSpans
from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.identities import check_identities
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.huggingface.generator import Assistance, HuggingFaceGenerator
from spinbench.runtime.huggingface.static_batches import GenerateBody, StaticBatchLoop
from spinbench.workload.arrivals import ArrivalKind, ArrivalPattern, ArrivalQueue
from tests.runtime import serving, tiny_models

TRACE = serving.requests(8, max_new_tokens=16)
PROMPTS = {request.id: request.prompt_token_ids or () for request in TRACE}


@functools.cache
def target() -> TargetModel:
    """Some of its answers end with an end token."""
    plain = tiny_models.target("llama")
    answers = serving.outputs(serving.serve(plain, [], TRACE, selector="plain"))
    return replace(plain, eos_token_ids=frozenset({answers["r1"][5], answers["r3"][3]}))


@functools.cache
def drafters() -> list[DrafterModel]:
    return tiny_models.drafters(target())


@functools.cache
def ours() -> RunRecord:
    return serving.serve(target(), [], TRACE, selector="plain")


def served(
    max_num_seqs: int, assistance: Assistance | None = None, arrivals: ArrivalKind = "trace"
) -> tuple[GenerateBody, RunRecord]:
    queue = ArrivalQueue(TRACE, ArrivalPattern(kind=arrivals))
    generator = HuggingFaceGenerator(target(), assistance)
    body = GenerateBody(generator, queue.requests, PROMPTS, target().model.device)
    return body, StaticBatchLoop(body, body, queue, PROMPTS, max_num_seqs).run()


def assert_same_answers(record: RunRecord) -> None:
    check_identities(record, [request.id for request in TRACE])
    assert serving.outputs(record) == serving.outputs(ours())
    reasons = {request.request_id: request.finish_reason for request in ours().requests}
    assert {request.request_id: request.finish_reason for request in record.requests} == reasons
    assert set(reasons.values()) == {"stop", "length"}


@pytest.mark.parametrize("max_num_seqs", [1, 3, 8])
def test_generate_gives_our_texts(max_num_seqs):
    assert_same_answers(served(max_num_seqs)[1])


@pytest.mark.parametrize("num_assistant_tokens", [1, 4, None])
@pytest.mark.parametrize("drafter", ["good", "poor", "small_vocabulary"])
def test_assisted_generation_gives_our_texts(drafter, num_assistant_tokens):
    model = next(model for model in drafters() if model.name == drafter)
    assert_same_answers(served(1, Assistance(model, num_assistant_tokens))[1])


def test_prompt_lookup_gives_our_texts():
    assert_same_answers(served(1, Assistance(None, 3))[1])


def test_the_models_that_we_serve_are_left_as_they_were():
    attention = target().model.config._attn_implementation
    defaults = target().model.generation_config
    model = drafters()[2]
    head = model.model.get_output_embeddings()
    served(1, Assistance(model, 2))
    assert target().model.config._attn_implementation == attention
    assert target().model.generation_config is defaults
    assert model.model.get_output_embeddings() is head


def test_one_span_for_each_batch_and_all_its_answers_at_its_end():
    record = served(3, arrivals="all_at_once")[1]
    spans = list(record.spans)
    assert [len(span.request_ids) for span in spans] == [3, 3, 2]
    assert {span.kind for span in spans} == {"generate"}
    by_id = {request.request_id: request for request in record.requests}
    for span in spans:
        members = [by_id[name] for name in span.request_ids]
        assert {request.finish_s for request in members} == {span.end_s}
        assert {request.first_scheduled_s for request in members} == {span.start_s}
        assert all(span.start_s < (request.first_token_s or 0) <= span.end_s for request in members)
        assert span.num_tokens == sum(request.prompt_tokens + request.output_tokens for request in members)
    assert len(record.rounds) == 0


def test_a_body_of_generate_refuses_other_jobs():
    body = served(8)[0]
    spans = TokenSpans(*(ours().rounds.row[:0] for _ in range(3)))
    with pytest.raises(TypeError, match="generate takes whole prompts, not a CatchUpJob"):
        body.submit(CatchUpJob(0, spans))
    with pytest.raises(RuntimeError, match="no job in flight"):
        body.next_event(None)
