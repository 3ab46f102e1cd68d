"""`speculation_profile.json` 1.0, the exchange format of NVIDIA Model-Optimizer (examples/specdec_bench).

It gives the acceptance of one drafter by position in the draft, in both conventions under their own names: *marginal*
rates, P(the first i + 1 drafted tokens are all accepted), as vLLM's synthetic sampler wants them, and *conditional*
ones, P(drafted token i + 1 is accepted, given that those before it were), as Dynamo's mocker does. Acceptance lengths
count the target's own token, so length 1 means that nothing drafted was kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinbench.errors import UserError
from spinbench.json_file import read_json
from spinbench.text_file import write_text
from spinbench.workload.acceptance.walk import WalkedRounds

SCHEMA_VERSION = "1.0"
FILE_NAME = "speculation_profile.json"
TOLERANCE = 0.02
"""Of the mean acceptance length that the rates imply, as in Model-Optimizer."""
RATE_TOLERANCE = 1e-3
"""Of the rates among themselves; they are written with six digits."""


@dataclass(frozen=True, slots=True)
class SpeculationProfile:
    """The rates of one drafter; entry i of both is about drafted token i + 1."""

    conditional_accept_rates: tuple[float, ...]
    marginal_accept_rates: tuple[float, ...]
    num_speculative_tokens: int


def speculation_profile(
    rounds: WalkedRounds,
    categories: Sequence[str | None],
    num_speculative_tokens: int,
    *,
    method: str,
    draft_checkpoint: Mapping[str, Any],
    target_model: Mapping[str, Any],
    measurement_conditions: Mapping[str, Any],
) -> dict[str, Any]:
    """The file's content for all rounds of some requests, the last ones of each included, with `categories` by row.

    `method` is the format's name for the kind of drafter: `draft_model` for a model of its own, whose draft of K tokens
    begins its draft of K + 1, so that the rates hold for every smaller K. Raises ValueError without rounds.
    """
    if not len(rounds.accepted):
        raise ValueError("no round, no rates")
    counts = np.bincount(rounds.accepted, minlength=num_speculative_tokens + 1)
    # kept[i]: rounds that kept at least i tokens
    kept = counts[::-1].cumsum()[::-1]
    marginal = kept[1:] / kept[0]
    conditional = np.divide(kept[1:], kept[:-1], out=np.zeros(len(marginal)), where=kept[:-1] > 0)
    mean = rounds.acceptance_length
    implied = 1.0 + float(marginal.sum())
    return {
        "schema_version": SCHEMA_VERSION,
        "measured": True,
        "method": method,
        "draft_checkpoint": dict(draft_checkpoint),
        "target_model": dict(target_model),
        "num_speculative_tokens": num_speculative_tokens,
        "block_size": None,
        "max_supported_k": num_speculative_tokens,
        "verification_method": "longest_prefix",
        "conditional_accept_rates": _rounded(conditional),
        "marginal_accept_rates": _rounded(marginal),
        "mean_accept_length": round(mean, 6),
        "mean_accept_length_per_request": round(_mean_per_request(rounds), 6),
        "accept_length_model": "chain_analytic" if method == "draft_model" else "measured_per_k",
        "accept_length_by_k": {str(num_speculative_tokens): round(mean, 6)},
        "acceptance_length_histogram": {str(n + 1): int(count) for n, count in enumerate(counts) if count},
        "per_category": _per_category(rounds, categories),
        "measurement_conditions": dict(measurement_conditions),
        "validation": {
            "mean_consistency": {
                "implied_mean_accept_length": round(implied, 6),
                "reported_mean_accept_length": round(mean, 6),
                "abs_delta": round(abs(implied - mean), 6),
                "tolerance": TOLERANCE,
                "passed": abs(implied - mean) <= TOLERANCE,
            },
            "marginal_monotonicity": {"passed": True, "violations": []},
        },
    }


def write_speculation_profile(path: Path, profile: Mapping[str, Any]) -> None:
    """Leaves the profile in `path`. Raises UserError when it cannot be written."""
    write_text(path, json.dumps(profile, indent=2, allow_nan=False) + "\n")


def read_speculation_profile(path: Path) -> SpeculationProfile:
    """The rates in `path`.

    Raises UserError when the file is missing or no such profile, is of another version, a stub without measurements, or
    of a verification that does not keep the longest right prefix, and when its rates are none or contradict each other.
    """
    raw = read_json(path, f"{path}: no such file; it would be a {FILE_NAME}")
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: key 'schema_version' is {version!r}; this version reads {SCHEMA_VERSION!r}")
    if raw.get("measured") is not True:
        raise UserError(f"{path}: a stub without measurements (measured is not true)")
    verification = raw.get("verification_method", "longest_prefix")
    if verification != "longest_prefix":
        raise UserError(
            f"{path}: key 'verification_method' is {verification!r}; only 'longest_prefix' can be simulated"
        )
    length = raw.get("num_speculative_tokens")
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise UserError(f"{path}: key 'num_speculative_tokens' is {length!r}; it must be an integer >= 1")
    conditional, marginal = (_rates(path, raw, f"{kind}_accept_rates", length) for kind in ("conditional", "marginal"))
    for place, (product, rate) in enumerate(zip(np.cumprod(conditional), marginal, strict=True)):
        if abs(product - rate) > RATE_TOLERANCE:
            raise UserError(
                f"{path}: marginal_accept_rates[{place}] is {rate:g}, but the conditional_accept_rates up to there "
                f"multiply to {product:g}; one of the two lists is of another measurement or convention"
            )
    return SpeculationProfile(conditional, marginal, length)


def _rounded(rates: np.ndarray) -> list[float]:
    return [round(float(rate), 6) for rate in rates]


def _mean_per_request(rounds: WalkedRounds) -> float:
    """Mean over requests of each one's acceptance length."""
    num_rounds = np.bincount(rounds.row)
    emitted = np.bincount(rounds.row, weights=rounds.accepted + 1)
    return float((emitted[num_rounds > 0] / num_rounds[num_rounds > 0]).mean())


def _per_category(rounds: WalkedRounds, categories: Sequence[str | None]) -> dict[str, Any] | None:
    names = sorted({category for category in categories if category is not None})
    found = {}
    for name in names:
        own = rounds.only(np.array([category == name for category in categories])[rounds.row])
        if len(own.accepted):
            found[name] = {"mean_accept_length": round(own.acceptance_length, 6)}
    return found or None


def _rates(path: Path, raw: Mapping[str, Any], key: str, length: int) -> tuple[float, ...]:
    values = raw.get(key)
    if not isinstance(values, list) or len(values) != length:
        found = f"{len(values)} entries" if isinstance(values, list) else repr(values)
        raise UserError(
            f"{path}: key {key!r} has {found}; it must be a list of num_speculative_tokens = {length} rates"
        )
    for place, value in enumerate(values):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1:
            raise UserError(f"{path}: {key}[{place}] is {value!r}; it must be a number from 0 to 1")
    return tuple(map(float, values))
