"""What a round that is over tells those who learn."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.context import RoundOutcome
from spinbench.control.drafting.drafter_groups import DrafterGroups
from spinbench.control.jobs.body import JobDone
from spinbench.control.rounds.round import Round
from spinbench.control.text import Text

Hindsight = TypeVar("Hindsight")


def round_outcome(
    round_: Round,
    text: Text,
    accepted: IntArray,
    done: JobDone,
    finished: BoolArray,
    by_drafter: DrafterGroups,
    ahead_left_s: float = 0.0,
    *,
    copies: bool,
) -> RoundOutcome:
    """Of a round whose verification is `done`, the emitted tokens being part of the text already.

    `accepted` [requests]; `finished`: whose request is over; `by_drafter` groups requests; `ahead_left_s` as in the
    outcome; `copies`: some drafters of the run copy.
    """
    rows, drafted = round_.rows, round_.draft_depth
    return RoundOutcome(
        rows=rows,
        drafter=round_.drafter,
        groups=partial(by_drafter.of, round_.drafter),
        by_lookup=round_.by_lookup & (drafted > 0) if copies else round_.by_lookup,
        drafted_ahead=round_.drafted_ahead,
        drafted=drafted,
        drafted_nodes=round_.drafted,
        draft_steps=round_.draft_steps,
        accepted=accepted,
        lookup_hindsight=partial(_over_emitted, text.lookup_hindsight, rows, round_.output_tokens, accepted),
        ngram_hindsight=partial(_over_emitted, text.ngram_hindsight, rows, round_.output_tokens, accepted),
        draft_time_s=round_.draft_times.duration_s,
        verify_time_s=done.end_s - done.start_s,
        group_size=round_.draft_times.group_size,
        finished=finished,
        num_in_flight=round_.num_in_flight,
        ahead_left_s=ahead_left_s,
    )


def _over_emitted(
    hindsight: Callable[[IntArray, IntArray, int], Hindsight],
    rows: IntArray,
    num_output_tokens: IntArray,
    accepted: IntArray,
) -> Hindsight:
    """What a text knows at the tokens that a round emitted, which few ask for."""
    return hindsight(rows, num_output_tokens, int(accepted.max()) + 1)
