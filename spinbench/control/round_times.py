"""Chooses where a decision learns what rounds cost."""

from spinbench.control.cost_model import CostModel
from spinbench.control.draft_source import DraftSources
from spinbench.control.learned_times import LearnedTimes
from spinbench.control.profiled_times import ProfiledTimes
from spinbench.control.round_prices import RoundTimes


def round_times(costs: CostModel | None, sources: DraftSources, max_num_speculative_tokens: int) -> RoundTimes:
    """From a profile where there is one, else learned from the run's own times."""
    if costs is None:
        return LearnedTimes(sources, max_num_speculative_tokens)
    return ProfiledTimes(costs, sources, max_num_speculative_tokens)
