"""Service level objectives: latency limits per request, and how many requests keep them all."""

from collections.abc import Mapping

import numpy as np

from spinbench.errors import UserError
from spinbench.metrics.latency import LatencySamples

SLO_NAMES = ("ttft", "tpot", "e2el")


def parse_slo(text: str) -> dict[str, float]:
    """Limits in milliseconds from `ttft:200 tpot:50`; names are `ttft`, `tpot`, `e2el`, separated by spaces or commas.

    Raises UserError when a part is not `name:milliseconds`, a name is unknown or repeated, or a limit is not positive.
    """
    limits: dict[str, float] = {}
    for part in text.replace(",", " ").split():
        name, colon, value = part.partition(":")
        if not colon or name not in SLO_NAMES:
            raise UserError(
                f"SLO {part!r}: write name:milliseconds with a name of {', '.join(SLO_NAMES)}, as in 'ttft:200 tpot:50'"
            )
        if name in limits:
            raise UserError(f"SLO {part!r}: {name} is given twice")
        try:
            limit_ms = float(value)
        except ValueError:
            limit_ms = float("nan")
        if not limit_ms > 0:
            raise UserError(f"SLO {part!r}: {value!r} is not a positive number of milliseconds")
        limits[name] = limit_ms
    if not limits:
        raise UserError("SLO is empty: write for example 'ttft:200 tpot:50'")
    return limits


def within_slo(samples: LatencySamples, slo_ms: Mapping[str, float]) -> np.ndarray:
    """Which completed requests keep every limit; one with a single output token keeps any `tpot` (as in vLLM)."""
    within = np.ones(len(samples.e2el_ms), dtype=bool)
    by_name = {"ttft": samples.ttft_ms, "tpot": np.nan_to_num(samples.tpot_ms), "e2el": samples.e2el_ms}
    for name, limit_ms in slo_ms.items():
        within &= by_name[name] <= limit_ms
    return within


def requests_within_slo(samples: LatencySamples, slo_ms: Mapping[str, float]) -> int:
    """How many completed requests keep every limit."""
    return int(within_slo(samples, slo_ms).sum())
