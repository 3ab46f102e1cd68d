"""A made-up trace of stated distributions, for tests and for load that no public trace has."""

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spinbench.workload.arrivals import ArrivalPattern, scheduled_arrivals_s
from spinbench.workload.length_law import LengthLaw
from spinbench.workload.request import Request


class SyntheticTrace(BaseModel):
    """What a synthetic trace is drawn from. Prompt and answer lengths are independent of each other."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    requests: Annotated[int, Field(ge=1, le=10_000_000)]
    """Requests in all."""
    prompt_tokens: LengthLaw
    output_tokens: LengthLaw
    """Exactly as many are decoded (`ignore_eos`)."""
    request_rate: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """Mean requests per second of a Poisson process; `None` = all arrive at 0, for `arrivals.kind` to place."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seeds lengths and arrival times; each has a stream of its own, so changing one law leaves the rest as it is."""


def synthetic_requests(trace: SyntheticTrace) -> list[Request]:
    """The requests of a synthetic trace in order of arrival, the same on every call.

    The id is `synthetic-` and the request's number from 0, which is also its seed.
    """
    prompt_rng, output_rng = (np.random.default_rng(part) for part in np.random.SeedSequence(trace.seed).spawn(2))
    prompt_tokens = trace.prompt_tokens.draw(trace.requests, prompt_rng).tolist()
    output_tokens = trace.output_tokens.draw(trace.requests, output_rng).tolist()
    requests = [
        Request(
            id=f"synthetic-{number}",
            arrival_s=0.0,
            max_new_tokens=output_tokens[number],
            prompt_len_tokens=prompt_tokens[number],
            ignore_eos=True,
            seed=number,
        )
        for number in range(trace.requests)
    ]
    if trace.request_rate is None:
        return requests
    pattern = ArrivalPattern("gamma", request_rate=trace.request_rate, seed=trace.seed)
    arrivals_s = scheduled_arrivals_s(requests, pattern)
    return [replace(request, arrival_s=arrival_s) for request, arrival_s in zip(requests, arrivals_s, strict=True)]
