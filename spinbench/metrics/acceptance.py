"""How much of what was drafted was kept: rates, lengths and the profile over draft positions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinbench.metrics.tables import RunTables


@dataclass(frozen=True)
class PositionRates:
    """Acceptance by position in the draft (first entry: the first drafted token), each 0 to 1."""

    marginal: tuple[float, ...]
    """Drafts in which position i was accepted / all drafts, also those shorter than i: vLLM's meaning."""
    conditional: tuple[float | None, ...]
    """Drafts in which position i was accepted / drafts that proposed it and had everything before it accepted."""
    reached: tuple[int, ...]
    """The denominators of `conditional`."""


def position_rates(rounds: pd.DataFrame) -> PositionRates:
    """Marginal and conditional acceptance by position over the rounds in which something was drafted.

    Of a token tree a position is a depth.
    """
    drafts = rounds["drafted"].to_numpy() > 0
    drafted, accepted = (rounds[column].to_numpy()[drafts] for column in ("draft_depth", "accepted"))
    positions = range(1, int(drafted.max(initial=0)) + 1)
    kept = [int(np.count_nonzero(accepted >= i)) for i in positions]
    reached = [int(np.count_nonzero((accepted >= i - 1) & (drafted >= i))) for i in positions]
    return PositionRates(
        marginal=tuple(count / len(drafted) for count in kept),
        conditional=tuple(k / r if r else None for k, r in zip(kept, reached, strict=True)),
        reached=tuple(reached),
    )


def acceptance_length_by_drafter(rounds: pd.DataFrame) -> dict[str, float]:
    """Tokens emitted per (round, request) of each drafter, bonus included; rounds without a drafter are left out."""
    return {str(name): float(mean) for name, mean in rounds.groupby("drafter")["emitted"].mean().items()}


def acceptance_length_by_category(tables: RunTables) -> dict[str, float]:
    """Tokens emitted per (round, request) of each category of requests, whatever drafted."""
    if tables.requests["category"].isna().all():
        return {}
    return {
        str(name): float(mean) for name, mean in with_category(tables).groupby("category")["emitted"].mean().items()
    }


def with_category(tables: RunTables) -> pd.DataFrame:
    """The rounds with the category of their request in one more column."""
    category_of = tables.requests.set_index("request_id")["category"]
    return tables.rounds.assign(category=tables.rounds["request_id"].map(category_of))
