"""Whether every method gave the text that plain decoding gave, token for token."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinbench.metrics.latency import completed_requests
from spinbench.metrics.store import Run
from spinbench.report.section import Section

SHOWN_REQUESTS = 8


@dataclass(frozen=True, eq=False)
class Losslessness:
    """The outputs of all runs of a section held against plain decoding."""

    reference: str | None
    """What the runs were held against; None when the section has no plain run with token ids."""
    compared_outputs: int
    unchecked_because: str
    """Why there is no reference."""
    differing: pd.DataFrame
    """One row per output that differs: label, load, repeat, request_id, position, plain_token, other_token."""
    is_simulated: bool = False
    """Whether every answer was looked up, so that none can differ unless the simulator is wrong."""

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.reference is None:
            return f"Losslessness was not checked: {self.unchecked_because}."
        if self.differing.empty:
            if self.is_simulated:
                return (
                    f"All {self.compared_outputs:,} outputs equal those of {self.reference}, as they must: simulated "
                    "answers are the recorded ones, so this says nothing of the models."
                )
            return f"Lossless: all {self.compared_outputs:,} outputs equal those of {self.reference}, token for token."
        first = self.differing.iloc[0]
        requests = ", ".join(sorted(self.differing["request_id"].unique())[:SHOWN_REQUESTS])
        return (
            f"**{len(self.differing):,} of {self.compared_outputs:,} outputs differ** from those of {self.reference}: "
            f"requests {requests}; the first is {first['request_id']} in {first['label']} at {first['load']}, "
            f"from output token {first['position']} on."
        )


def check_outputs(section: Section) -> Losslessness:
    """Compares every run's output tokens with plain decoding at the same load, and plain with its first run.

    So a difference that comes from the load alone is charged to plain decoding and not to a method.
    """
    sampling = section.settings[0].runs[0].meta.get("sampling") or {}
    if sampling.get("kind") == "rejection" and sampling.get("temperature"):
        return Losslessness(
            None, 0, "under rejection sampling the text depends on who drafts, only its law does not", _table([])
        )
    if not all(setting.has_tables for setting in section.settings):
        return Losslessness(None, 0, "of some runs only the summary was kept (keep=summary)", _table([]))
    plain = [setting for setting in section.settings if setting.is_baseline]
    first_outputs = _outputs(plain[0].runs[0]) if plain else {}
    if not first_outputs:
        return Losslessness(None, 0, "there is no plain run with output tokens in this section", _table([]))
    rows: list[dict[str, object]] = []
    compared = 0
    for setting in section.settings:
        baseline = None if setting.is_baseline else section.plain_like(setting)
        expected = _outputs(baseline.runs[0]) if baseline else first_outputs
        for repeat, run in enumerate(setting.runs):
            if run is plain[0].runs[0]:
                continue
            found = _outputs(run)
            for request_id in sorted(expected.keys() & found.keys()):
                compared += 1
                position = first_difference(expected[request_id], found[request_id])
                if position is not None:
                    rows.append(
                        {
                            "label": setting.label,
                            "load": setting.load.label,
                            "repeat": run.meta.get("repeat", repeat),
                            "request_id": request_id,
                            "position": position,
                            "plain_token": _at(expected[request_id], position),
                            "other_token": _at(found[request_id], position),
                        }
                    )
    return Losslessness("plain decoding at the same load", compared, "", _table(rows), section.is_simulated)


def first_difference(one: np.ndarray, other: np.ndarray) -> int | None:
    """The first position at which two token lists differ, or at which one ends; None when they are equal."""
    shared = min(len(one), len(other))
    differing = np.flatnonzero(one[:shared] != other[:shared])
    if len(differing):
        return int(differing[0])
    return None if len(one) == len(other) else shared


def _outputs(run: Run) -> dict[str, np.ndarray]:
    done = completed_requests(run.requests)
    return {
        str(request_id): np.asarray(ids)
        for request_id, ids in zip(done["request_id"], done["output_token_ids"], strict=True)
        if len(ids)
    }


def _at(token_ids: np.ndarray, position: int) -> str:
    return str(token_ids[position]) if position < len(token_ids) else "end"


def _table(rows: list[dict[str, object]]) -> pd.DataFrame:
    names = ["label", "load", "repeat", "request_id", "position", "plain_token", "other_token"]
    return pd.DataFrame(rows, columns=pd.Index(names))
