"""What changes of drafter cost: the time that requests waited for a drafter to catch up with them."""

import numpy as np
import pandas as pd

from spinbench.control.selector.merged import MERGED
from spinbench.metrics.order import by_request_and_time
from spinbench.metrics.tables import RunTables
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP, is_ngram


def switch_stalls_ms(tables: RunTables) -> np.ndarray:
    """One entry per switch, 0 where nothing was waited for.

    A switch is a (round, request) pair whose drafter is not that of the request's round before, and keeps KV: prompt
    lookup and n-gram tables do not, and a request's first round is none, nor one in which several drafters draft. Its
    stall is the time in which its drafter's lane ran catch-ups, between the moment when the request was free to start
    (verified, or prefilled again after a preemption) and the start of its draft: by catch-ups of the round itself, or
    by those that were meant to be ready earlier.
    Tokens that a drafter takes in with the first step of its draft make that longer, and are no stall.
    """
    return np.concatenate([_of_one_replica(own) for own in tables.by_replica])


def _of_one_replica(tables: RunTables) -> np.ndarray:
    rounds = tables.rounds
    request, _ = pd.factorize(rounds["request_id"])
    drafter, names = pd.factorize(rounds["drafter"])  # -1 = none
    draft_start_s, verify_end_s = (rounds[name].to_numpy(dtype=float) for name in ("draft_start_s", "verify_end_s"))
    order = by_request_and_time(request, verify_end_s)
    now, before = order[1:], order[:-1]
    keeps_kv = np.array(
        [name not in (PROMPT_LOOKUP, MERGED) and not is_ngram(name) for name in names] + [False], np.bool_
    )
    switch = (request[now] == request[before]) & (drafter[now] != drafter[before]) & keeps_kv[drafter[now]]
    switch &= ~np.isnan(draft_start_s[now])
    now, before = now[switch], before[switch]
    starts_s, free_s = draft_start_s[now], verify_end_s[before]
    free_s = np.maximum(free_s, _prefilled_s(tables, rounds["request_id"].to_numpy()[now], starts_s))
    stalls_s = np.zeros(len(now))
    for lane, own in tables.spans[tables.spans["kind"] == "catch_up"].groupby("lane"):
        waits = np.flatnonzero(np.append(names == lane, False)[drafter[now]])
        own = own.sort_values("start_s")
        busy = _BusyTime(own["start_s"].to_numpy(dtype=float), own["end_s"].to_numpy(dtype=float))
        stalls_s[waits] = busy.until(starts_s[waits]) - busy.until(np.minimum(free_s[waits], starts_s[waits]))
    return 1e3 * stalls_s


def _prefilled_s(tables: RunTables, request_ids: np.ndarray, draft_start_s: np.ndarray) -> np.ndarray:
    """When the last prefill before each draft ended, float [drafts]; -inf for requests that were never preempted."""
    requests = tables.requests
    preempted = requests.loc[requests["num_preemptions"] > 0, "request_id"]
    if preempted.empty:
        return np.full(len(request_ids), -np.inf)
    prefills = tables.spans.loc[tables.spans["kind"] == "prefill", ["end_s", "request_ids"]].explode("request_ids")
    prefills = prefills[prefills["request_ids"].isin(preempted)].astype({"end_s": float}).sort_values("end_s")
    drafts = pd.DataFrame({"request_ids": request_ids, "start_s": draft_start_s, "place": np.arange(len(request_ids))})
    drafts["request_ids"] = drafts["request_ids"].astype(prefills["request_ids"].dtype)
    last = pd.merge_asof(
        drafts.sort_values("start_s"), prefills, left_on="start_s", right_on="end_s", by="request_ids"
    ).sort_values("place")
    return last["end_s"].fillna(-np.inf).to_numpy(dtype=float)


class _BusyTime:
    """How long a lane had been busy by a time; its jobs are given in order and do not overlap."""

    def __init__(self, start_s: np.ndarray, end_s: np.ndarray) -> None:
        self._start_s = start_s
        self._end_s = end_s
        self._before_s = np.append(0.0, np.cumsum(end_s - start_s))

    def until(self, time_s: np.ndarray) -> np.ndarray:
        """Seconds, for each of the times."""
        place = np.searchsorted(self._start_s, time_s, side="right")
        rest_s = np.maximum(np.append(-np.inf, self._end_s)[place] - time_s, 0.0)
        return self._before_s[place] - rest_s
