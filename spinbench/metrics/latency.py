"""When each request's tokens reached the client, and the four latencies that follow from it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinbench.control.records.run_record import COMPLETED
from spinbench.metrics.order import by_request_and_time
from spinbench.metrics.tables import RunTables

LATENCIES = {
    "ttft": "time to first token: first_token_s - arrival_s, queueing included",
    "tpot": "time per output token: (e2el - ttft) / (output_tokens - 1); requests with one output token are left out",
    "itl": "inter-token latency: gap between consecutive emissions of one request, as a streaming client sees it",
    "e2el": "end-to-end latency: finish_s - arrival_s",
}


@dataclass(frozen=True)
class LatencySamples:
    """The latencies of the completed requests in milliseconds; `itl` has one value per gap, over all requests."""

    ttft_ms: np.ndarray
    """[completed]"""
    tpot_ms: np.ndarray
    """[completed]; NaN for requests with one output token."""
    itl_ms: np.ndarray
    """[gaps]"""
    e2el_ms: np.ndarray
    """[completed]"""

    def of(self, name: str) -> np.ndarray:
        """The defined samples of one of `ttft`, `tpot`, `itl`, `e2el`, in milliseconds."""
        samples = {"ttft": self.ttft_ms, "tpot": self.tpot_ms, "itl": self.itl_ms, "e2el": self.e2el_ms}[name]
        return samples[~np.isnan(samples)]


def completed_requests(requests: pd.DataFrame) -> pd.DataFrame:
    """The requests that ran to their end token or their length limit."""
    return requests[requests["finish_reason"].isin(COMPLETED)]


def latency_samples(tables: RunTables) -> LatencySamples:
    """Latencies of every completed request, in the order of the request table."""
    done = completed_requests(tables.requests)
    arrival_s = done["arrival_s"].to_numpy(dtype=float)
    ttft_s = done["first_token_s"].to_numpy(dtype=float) - arrival_s
    e2el_s = done["finish_s"].to_numpy(dtype=float) - arrival_s
    later_tokens = done["output_tokens"].to_numpy(dtype=float) - 1
    tpot_s = np.divide(e2el_s - ttft_s, later_tokens, out=np.full(len(done), np.nan), where=later_tokens > 0)
    return LatencySamples(
        ttft_ms=ttft_s * 1e3, tpot_ms=tpot_s * 1e3, itl_ms=_emission_gaps_s(tables, done) * 1e3, e2el_ms=e2el_s * 1e3
    )


def _emission_gaps_s(tables: RunTables, done: pd.DataFrame) -> np.ndarray:
    """Seconds between consecutive emissions of the same request. [gaps]

    A request emits at its first token, at the end of each of its rounds, and at the end of each prefill that rebuilt
    its KV after a preemption (which yields a token as well).
    """
    events = (
        (done["request_id"], done["first_token_s"]),
        (tables.rounds["request_id"], tables.rounds["verify_end_s"]),
        _repeated_prefills(tables, done),
    )
    code_of = pd.Index(done["request_id"])
    codes = np.concatenate([code_of.get_indexer(pd.Index(request_id)) for request_id, _ in events])
    times_s = np.concatenate([time_s.to_numpy(dtype=float) for _, time_s in events])
    known = codes >= 0  # rounds of requests that were not completed do not count
    codes, times_s = codes[known], times_s[known]
    order = by_request_and_time(codes, times_s)
    codes, times_s = codes[order], times_s[order]
    return np.diff(times_s)[codes[1:] == codes[:-1]]


def _repeated_prefills(tables: RunTables, done: pd.DataFrame) -> "tuple[pd.Series[str], pd.Series[float]]":
    """Requests and times."""
    again = done.loc[done["num_prefill_emitted_tokens"] > 1, ["request_id", "first_token_s"]]
    if again.empty:  # as in most runs
        return again["request_id"], again["first_token_s"]
    prefills = tables.spans.loc[tables.spans["kind"] == "prefill", ["request_ids", "start_s", "end_s"]]
    rows = prefills.explode("request_ids").merge(again, left_on="request_ids", right_on="request_id")
    rows = rows[rows["start_s"] >= rows["first_token_s"]]
    return rows["request_id"], rows["end_s"].astype(float)
