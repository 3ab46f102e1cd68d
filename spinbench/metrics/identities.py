"""What must hold in every run, checked at its end: a run that breaks one of these is not a result."""

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd

from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.tables import REPLICA, RunTables, tables_from_record

CLOCK_TOLERANCE_S = 1e-9
"""Sums of floats may disagree in the last digit; a real overlap is longer."""


class IdentityError(RuntimeError):
    """A record contradicts itself: a defect of the engine that wrote it, never a user's mistake."""


def check_identities(record: RunRecord, expected_request_ids: Iterable[str] | None = None) -> None:
    """Passes when the record is consistent with itself and, if given, holds exactly the expected requests.

    Raises IdentityError with the request or lane and the numbers of the first contradiction.
    """
    check_tables(tables_from_record(record), record.complete, expected_request_ids)


def check_tables(tables: RunTables, complete: bool, expected_request_ids: Iterable[str] | None = None) -> None:
    """As `check_identities`, for tables that are built already."""
    _check_requests(tables.requests, complete, expected_request_ids)
    _check_rounds(tables)
    _check_spans(tables.spans)


def _check_requests(requests: pd.DataFrame, complete: bool, expected_request_ids: Iterable[str] | None) -> None:
    _refuse(requests, requests["request_id"].duplicated(), "request {request_id}: recorded twice")
    if expected_request_ids is not None:
        differing = set(expected_request_ids) ^ set(requests["request_id"])
        if differing:
            raise IdentityError(
                f"request {min(differing)}: in the trace or in the record, but not in both ({len(differing)} such)"
            )
    aborted = requests["finish_reason"] == "aborted"
    if complete:
        _refuse(requests, aborted, "request {request_id}: aborted in a run that calls itself complete")
    given_up = requests["finish_reason"] == "out_of_memory"
    unfinished = ~aborted & ~given_up & (requests["finish_s"].isna() | requests["first_token_s"].isna())
    _refuse(
        requests,
        unfinished,
        "request {request_id}: finish reason {finish_reason}, but first token {first_token_s}, finish {finish_s}",
    )
    steps = ("arrival_s", "first_scheduled_s", "first_token_s", "finish_s")
    for before, after in itertools.pairwise(steps):
        backwards = requests[after] < requests[before] - CLOCK_TOLERANCE_S  # false where either is missing
        _refuse(requests, backwards, f"request {{request_id}}: {after} {{{after}}} is before {before} {{{before}}}")
    too_long = requests["output_tokens"] > requests["max_new_tokens"]
    _refuse(requests, too_long, "request {request_id}: {output_tokens} output tokens, limit {max_new_tokens}")
    num_ids = requests["output_token_ids"].map(len)
    miscounted = (num_ids > 0) & (num_ids != requests["output_tokens"])  # a simulated run may keep no ids
    if miscounted.any():
        counted = requests.assign(num_ids=num_ids)
        _refuse(counted, miscounted, "request {request_id}: {output_tokens} output tokens, but {num_ids} ids")


def _check_rounds(tables: RunTables) -> None:
    rounds, requests = tables.rounds, tables.requests
    where = "request {request_id} in round {round_index}: "
    _refuse(rounds, ~rounds["request_id"].isin(requests["request_id"]), where + "not among the requests")
    _refuse(rounds, rounds["accepted"] < 0, where + "accepted {accepted}")
    _refuse(rounds, rounds["accepted"] > rounds["drafted"], where + "accepted {accepted} of {drafted} drafted")
    over = rounds["drafted"] > rounds["num_speculative_tokens"]
    _refuse(rounds, over, where + "drafted {drafted}, asked for {num_speculative_tokens}")
    too_deep = (rounds["draft_depth"] > rounds["drafted"]) | (rounds["accepted"] > rounds["draft_depth"])
    _refuse(rounds, too_deep, where + "accepted {accepted} on paths of {draft_depth} among {drafted} drafted")
    undrafted = rounds["drafter"].isna() & (rounds["drafted"] > 0)
    _refuse(rounds, undrafted, where + "{drafted} drafted tokens and no drafter")
    emitted = rounds.groupby("request_id")["emitted"].sum()
    from_rounds = requests["request_id"].map(emitted).fillna(0).astype(int)
    counted = requests.assign(from_rounds=from_rounds)
    wrong = counted["output_tokens"] != counted["num_prefill_emitted_tokens"] + counted["from_rounds"]
    _refuse(
        counted,
        wrong,
        "request {request_id}: {output_tokens} output tokens, but {num_prefill_emitted_tokens} from prefills"
        " and {from_rounds} from rounds",
    )


def _check_spans(spans: pd.DataFrame) -> None:
    where = "lane {lane}, {kind} at {start_s} s: "
    _refuse(spans, spans["end_s"] < spans["start_s"], where + "ends before it starts, at {end_s} s")
    negative = (spans["useful_cells"] < 0) | (spans["padded_cells"] < 0)
    _refuse(spans, negative, where + "{useful_cells} useful and {padded_cells} padded cells")
    tokens = ("query_tokens", "key_tokens", "peak_key_tokens")
    uncountable = (spans[list(tokens)] < 0).any(axis=1) | (spans["peak_key_tokens"] > spans["key_tokens"])
    message = "{query_tokens} query rows, {key_tokens} keys, of them {peak_key_tokens} copied at once"
    _refuse(spans, uncountable, where + message)
    overused = spans["used_tokens"] > spans["num_tokens"].where(spans["kind"] == "draft_ahead", 0)
    _refuse(spans, overused, where + "{used_tokens} tokens used of {num_tokens} that were drafted ahead")
    # replicas have lanes of the same names
    keys = [pd.factorize(spans[name], sort=True)[0] for name in (REPLICA, "lane") if name in spans]
    start_s, end_s = (spans[name].to_numpy(dtype=float) for name in ("start_s", "end_s"))
    order = np.lexsort((end_s, start_s, *reversed(keys)))
    same_lane = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    overlaps = same_lane & (start_s[order][1:] < end_s[order][:-1] - CLOCK_TOLERANCE_S)
    if overlaps.any():
        later = spans.iloc[order[1:]].assign(previous_end_s=end_s[order][:-1])
        _refuse(later, overlaps, where + "the job before it ends at {previous_end_s} s")


def _refuse(table: pd.DataFrame, bad: "pd.Series | np.ndarray", message: str) -> None:
    mask = np.asarray(bad, dtype=bool)
    if mask.any():
        row = {str(name): value for name, value in table[mask].iloc[0].items()}
        raise IdentityError(message.format(**row) + (f" ({mask.sum()} such)" if mask.sum() > 1 else ""))
