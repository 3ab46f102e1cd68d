"""Requests of which a trace says when they came and how long they were, but not their text."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.request import Request


def length_rows(
    name: str,
    times_s: npt.NDArray[np.float64],
    prompt_tokens: npt.NDArray[np.int64],
    output_tokens: npt.NDArray[np.int64],
    categories: Sequence[str | None] | None = None,
    hash_ids: Sequence[tuple[int, ...] | None] | None = None,
) -> TraceRows:
    """One request a row: its length as prompt, exactly `output_tokens` tokens of answer (`ignore_eos`).

    All arguments are [rows] and there is at least one. `arrival_s` counts from the earliest row. The id is `name` and
    the row's number from 0, which is also the seed: it names the same row under every option. A row without a token of
    prompt or of answer is a failed request; it is dropped.
    """
    arrivals_s = times_s - times_s.min()
    served = np.flatnonzero((prompt_tokens > 0) & (output_tokens > 0))
    requests = [
        Request(
            id=f"{name}-{row}",
            arrival_s=arrival_s,
            max_new_tokens=max_new_tokens,
            prompt_len_tokens=prompt_len_tokens,
            ignore_eos=True,
            category=None if categories is None else categories[row],
            seed=row,
            hash_ids=None if hash_ids is None else hash_ids[row],
        )
        for row, arrival_s, prompt_len_tokens, max_new_tokens in zip(
            served.tolist(),
            arrivals_s[served].tolist(),
            prompt_tokens[served].tolist(),
            output_tokens[served].tolist(),
            strict=True,
        )
    ]
    return TraceRows(requests, dropped_rows=len(times_s) - len(requests))
