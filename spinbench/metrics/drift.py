"""How much of a simulation's error in time is the machine's drift: other timings say what jobs take by now."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spinbench.metrics.store import Run
from spinbench.metrics.validation import RATIO_KEYS, JobsCompared, job_errors


def time_factors(runs: Sequence[JobsCompared]) -> dict[tuple[str, str], float]:
    """By (kind, lane), how many times as long as expected the jobs of these runs took, all together."""
    errors = job_errors(runs)
    known = errors[(errors["real_mean_ms"] > 0) & (errors["expected_mean_ms"] > 0)]
    factors = known["real_mean_ms"] / known["expected_mean_ms"]
    return dict(zip(zip(known["job"], known["lane"], strict=True), factors.tolist(), strict=True))


def rescaled_errors(real: Sequence[Run], rescaled: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Per metric, the relative errors of simulations that took their times from elsewhere: median and largest.

    `rescaled` has the summary that belongs to each real run. A metric that some run does not have is left out.
    """
    rows = []
    for key in RATIO_KEYS:
        pairs = [(run.summary[key], summary[key]) for run, summary in zip(real, rescaled, strict=True)]
        if not pairs or any(value is None for pair in pairs for value in pair) or any(not pair[0] for pair in pairs):
            continue
        errors = np.array([simulated / measured - 1 for measured, simulated in pairs])
        rows.append(
            {
                "metric": key,
                "error": float(np.median(errors)),
                "worst": float(errors[np.abs(errors).argmax()]),
            }
        )
    return pd.DataFrame(rows, columns=["metric", "error", "worst"])
