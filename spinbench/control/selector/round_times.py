"""Chooses where a decision learns what rounds cost."""

from dataclasses import replace

from spinbench.control.costs.learned_times import LearnedTimes
from spinbench.control.costs.overlap import NOT_SLOWED
from spinbench.control.costs.profiled_times import ProfiledTimes
from spinbench.control.costs.round_prices import RoundTimes
from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.selector.protocol import SelectorSetting


def round_times(
    setting: SelectorSetting, sources: DraftSources, max_num_speculative_tokens: int, *, learn_costs: bool = False
) -> RoundTimes:
    """From a profile where there is one, else, or if asked to, learned from the run's own times."""
    costs, schedule = setting.cost_model, setting.schedule
    if costs is None or learn_costs:
        return LearnedTimes(sources, max_num_speculative_tokens, replace(schedule, overlap=NOT_SLOWED))
    return ProfiledTimes(costs, sources, max_num_speculative_tokens, schedule)
