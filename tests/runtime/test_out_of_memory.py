"""A job without memory is done in parts, and the run goes on as if nothing had happened."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinbench.control.job import TokenSpans
from spinbench.errors import UserError
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.out_of_memory import in_parts
from tests.runtime import serving, tiny_models


def of_at_most(limit: int):
    def run(places: np.ndarray) -> list[int]:
        if len(places) > limit:
            raise torch.OutOfMemoryError
        return places.tolist()

    return run


def test_parts_are_as_large_as_fits_and_in_order():
    assert in_parts("prefill", 5, of_at_most(5)) == [[0, 1, 2, 3, 4]]
    assert in_parts("prefill", 7, of_at_most(2)) == [[0], [1, 2], [3, 4], [5, 6]]


def test_one_request_that_does_not_fit_ends_the_run():
    with pytest.raises(UserError, match=r"out of memory in a prefill of one request; lower kv.gpu_memory_utilization"):
        in_parts("prefill", 2, of_at_most(0))


def test_other_errors_are_not_taken_for_it():
    def broken(places: np.ndarray) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_parts("prefill", 2, broken)


def test_a_run_goes_on(monkeypatch):
    target = tiny_models.target()
    # all there from the start, so that they are prefilled together
    trace = [replace(request, arrival_s=0.0) for request in serving.requests(4, max_new_tokens=8)]
    expected = serving.hf_outputs(target, trace)
    real, refused = ModelRunner.packed, []

    def with_little_memory(self: ModelRunner, spans: TokenSpans, *rest: object) -> torch.Tensor:
        if len(spans) > 1 and int(spans.num_tokens.sum()) > 8:
            refused.append(len(spans))
            raise torch.OutOfMemoryError
        return real(self, spans, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelRunner, "packed", with_little_memory)
    models = tiny_models.drafters(target)
    record = serving.serve(target, models, trace, selector="round_robin", draft_length=1, max_num_seqs=3)
    assert refused
    assert serving.outputs(record) == expected
