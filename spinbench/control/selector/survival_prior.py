"""What is believed of drafted tokens before any was seen, and how far that may be left."""

from dataclasses import dataclass

PRIOR_LOG_ODDS_MODEL = -0.5
"""A model's token, about 0.38: what is believed before anything was drafted."""
PRIOR_LOG_ODDS_COPY = (-3.0, -1.0, 0.0, 1.5)
"""A copied token by matched tokens: 0.05, 0.27, 0.5, 0.82."""
PRIOR_CHANCES_NGRAM = (0.02, 0.07, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
"""The n-gram table's next token by class of confidence: what the table itself says."""


@dataclass(frozen=True, slots=True)
class SurvivalPrior:
    """How far estimates may part from what is shared, as standard deviations in log-odds, all > 0."""

    shared: float = 1.0
    """Of a source, and of a copy's class."""
    place: float = 0.5
    """Of a place in the draft."""
    category: float = 0.5
    own: float = 0.4
    """Of a single request, for one source, and for all its models together."""
    token: float = 0.8
    """Of the newest token."""
    memory_rounds: float = 1000.0
    """Observations that shared weights remember, > 0; a request's own remember a tenth of it."""
