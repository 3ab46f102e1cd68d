"""What changes of drafter cost: the time that requests waited for a drafter to catch up with them."""

import numpy as np
import pandas as pd

from spinbench.metrics.tables import RunTables
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP, is_ngram


def switch_stalls_ms(tables: RunTables) -> np.ndarray:
    """One entry per switch, 0 where nothing was waited for.

    A switch is a (round, request) pair whose drafter is not that of the request's round before, and keeps KV: prompt
    lookup and n-gram tables do not, and a request's first round is none. Its stall is the time in which its drafter's
    lane ran catch-ups, between the moment when the request was free to start (verified, or prefilled again after a
    preemption) and the start of its draft: by catch-ups of the round itself, or by those that were meant to be ready
    earlier.
    Tokens that a drafter takes in with the first step of its draft make that longer, and are no stall.
    """
    rounds = tables.rounds.sort_values(["request_id", "verify_end_s"], kind="stable")
    same = rounds["request_id"].eq(rounds["request_id"].shift()).to_numpy(dtype=bool)
    drafter = rounds["drafter"]
    changed = drafter.fillna("").ne(drafter.shift().fillna("")).to_numpy(dtype=bool)
    with_kv = [name for name in drafter.dropna().unique() if name != PROMPT_LOOKUP and not is_ngram(name)]
    keeps_kv = drafter.isin(with_kv).to_numpy(dtype=bool)
    switch = same & changed & keeps_kv & rounds["draft_start_s"].notna().to_numpy(dtype=bool)
    columns = {
        "request_id": rounds["request_id"],
        "drafter": drafter,
        "free_s": rounds["verify_end_s"].shift(),
        "draft_start_s": rounds["draft_start_s"],
    }
    switches = pd.DataFrame(columns)[switch]
    free_s = np.maximum(switches["free_s"].to_numpy(dtype=float), _prefilled_before_s(tables, switches))
    stalls_s = np.zeros(len(switches))
    catch_ups = tables.spans[tables.spans["kind"] == "catch_up"]
    for lane, own in catch_ups.groupby("lane"):
        places = np.flatnonzero((switches["drafter"] == lane).to_numpy(dtype=bool))
        own = own.sort_values("start_s")
        busy = _BusyTime(own["start_s"].to_numpy(dtype=float), own["end_s"].to_numpy(dtype=float))
        starts_s = switches["draft_start_s"].to_numpy(dtype=float)[places]
        stalls_s[places] = busy.until(starts_s) - busy.until(np.minimum(free_s[places], starts_s))
    return 1e3 * stalls_s


def _prefilled_before_s(tables: RunTables, switches: pd.DataFrame) -> np.ndarray:
    """When each request's last prefill before its draft ended, float [switches]; the first one's end at the least."""
    before_s = np.full(len(switches), -np.inf)
    preempted = set(tables.requests.loc[tables.requests["num_preemptions"] > 0, "request_id"])
    if not preempted:
        return before_s
    prefills = tables.spans.loc[tables.spans["kind"] == "prefill", ["end_s", "request_ids"]].explode("request_ids")
    for request_id, own in switches.reset_index(drop=True).groupby("request_id"):
        if request_id in preempted:
            ends_s = np.sort(prefills.loc[prefills["request_ids"] == request_id, "end_s"].to_numpy(dtype=float))
            place = np.searchsorted(ends_s, own["draft_start_s"].to_numpy(dtype=float), side="right")
            before_s[own.index] = np.append(-np.inf, ends_s)[place]
    return before_s


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
