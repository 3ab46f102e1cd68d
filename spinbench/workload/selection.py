"""The part of a trace that its options keep, with what was dropped and clipped counted."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spinbench.errors import UserError
from spinbench.workload.request import Request
from spinbench.workload.trace_options import TraceOptions

CountTokens = Callable[[str], int]
"""Tokens of a prompt's text, as the target will see it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Requests kept, in the order they came in."""

    requests: tuple[Request, ...]
    dropped_requests: int
    clipped_requests: int


def select_requests(
    requests: Sequence[Request], options: TraceOptions, path: Path, count_tokens: CountTokens | None = None
) -> Selection:
    """The requests that `options` keep. `path` is named in errors.

    Raises UserError for a category that the trace, or what is left of it, does not have, for a text to be measured
    without `count_tokens`, and when nothing is left.
    """
    kept = _in_window(requests, options, path)
    if options.categories is not None:
        _check_categories(kept, "categories", options.categories, path)
        kept = [request for request in kept if request.category in options.categories]
    if options.max_prompt_tokens is not None:
        limit = options.max_prompt_tokens
        kept = [request for request in kept if _prompt_tokens(request, count_tokens) <= limit]
        if not kept:
            raise UserError(f"{path}: no request has a prompt of at most trace.max_prompt_tokens = {limit} tokens")
    if options.num_prompts is not None:
        kept = _choose(kept, options.num_prompts, options.sample_seed)
    if options.part_category is not None:
        _check_categories(kept, "part_category", (options.part_category,), path)
        kept = [request for request in kept if request.category == options.part_category]
    kept = _part(kept, options)
    clipped = 0
    if options.max_output_tokens is not None:
        limit = options.max_output_tokens
        clipped = sum(request.max_new_tokens > limit for request in kept)
        kept = [replace(request, max_new_tokens=min(request.max_new_tokens, limit)) for request in kept]
    kept = _retimed(kept, options)
    return Selection(tuple(kept), dropped_requests=len(requests) - len(kept), clipped_requests=clipped)


def _in_window(requests: Sequence[Request], options: TraceOptions, path: Path) -> list[Request]:
    start_s, end_s = options.start_s, math.inf if options.end_s is None else options.end_s
    kept = [request for request in requests if start_s <= request.arrival_s < end_s]
    if requests and not kept:
        first_s, last_s = (most(request.arrival_s for request in requests) for most in (min, max))
        until = "on" if options.end_s is None else f"to trace.end_s = {end_s:g}"
        raise UserError(
            f"{path}: no request arrives from trace.start_s = {start_s:g} {until}; its requests arrive from "
            f"{first_s:g} to {last_s:g} s"
        )
    return kept


def _retimed(requests: list[Request], options: TraceOptions) -> list[Request]:
    """Arrival times from the start of the window, scaled."""
    scale = options.time_scale * options.part
    if options.start_s == 0 and scale == 1:
        return requests
    times_s = [(request.arrival_s - options.start_s) * scale for request in requests]
    if not all(map(math.isfinite, times_s)):
        raise UserError(f"trace.time_scale is {options.time_scale:g}; arrival times overflow, it must be smaller")
    return [replace(request, arrival_s=time_s) for request, time_s in zip(requests, times_s, strict=True)]


def _check_categories(requests: Sequence[Request], key: str, wanted: tuple[str, ...], path: Path) -> None:
    known = sorted({request.category for request in requests if request.category is not None})
    for category in wanted:
        if category not in known:
            has = f"categories are {', '.join(known)}" if known else "its requests have no category"
            raise UserError(f'{path}: trace.{key} names "{category}", which it does not have; {has}')


def _prompt_tokens(request: Request, count_tokens: CountTokens | None) -> int:
    if request.prompt_len_tokens is not None:
        return request.prompt_len_tokens
    if request.prompt_token_ids is not None:
        return len(request.prompt_token_ids)
    if request.prompt is None or count_tokens is None:
        raise UserError(
            f'trace.max_prompt_tokens needs a tokenizer to measure the text of request "{request.id}"; '
            "leave it null or use a trace with lengths"
        )
    return count_tokens(request.prompt)


def _choose(requests: list[Request], count: int, sample_seed: int | None) -> list[Request]:
    if count >= len(requests):
        return requests
    if sample_seed is None:
        return requests[:count]
    chosen = np.random.default_rng(sample_seed).choice(len(requests), size=count, replace=False)
    return [requests[index] for index in sorted(chosen.tolist())]


def _part(requests: list[Request], options: TraceOptions) -> list[Request]:
    """The first of a random order of all, so that parts of one seed are nested; at least one request."""
    if options.part == 1:
        return requests
    count = max(1, round(options.part * len(requests)))
    order = np.random.default_rng(options.part_seed).permutation(len(requests))
    return [requests[index] for index in sorted(order[:count].tolist())]
