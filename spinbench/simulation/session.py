"""One run in the simulator: the serving loop over text that is known."""

from collections.abc import Callable, Mapping

from spinbench.control.job import Body
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.request_table import RequestTable
from spinbench.errors import UserError
from spinbench.simulation.body import JobTimes, SimulatedBody
from spinbench.simulation.recorded_times import RecordedTimes
from spinbench.simulation.text import RecordedText
from spinbench.workload.acceptance.streams import AcceptanceStreams
from spinbench.workload.arrivals import ArrivalQueue


def simulated_loop(
    setting: LoopSetting,
    queue: ArrivalQueue,
    streams: AcceptanceStreams,
    num_prompt_tokens: Mapping[str, int],
    times: JobTimes | RecordedTimes,
    on_progress: Callable[[Progress], None] | None = None,
    interface: Callable[[Body], Body] | None = None,
    start_s: float = 0.0,
) -> ServingLoop:
    """A loop that serves `queue` in simulated time; the streams' rows are `queue.requests`.

    `interface` wraps the body that the loop talks to; no job starts before `start_s`. Raises UserError for a selector
    that must see a drafter's confidence: after a mismatch it depends on tokens that no table holds.
    """
    if setting.selector.needs_confidence:
        raise UserError(
            "this selector asks for the drafter's confidence, which the acceptance table does not hold beyond a "
            "mismatch; choose another selector, or engine=runtime"
        )
    require_ranks(setting, streams.rank is not None)
    table = RequestTable(queue.requests, num_prompt_tokens, len(setting.drafters))
    body = SimulatedBody(streams, table.num_prompt_tokens, setting.drafters, times, start_s, setting.placement)
    text = RecordedText(streams)
    return ServingLoop(setting, interface(body) if interface else body, queue, table, text, on_progress)


def require_ranks(setting: LoopSetting, has_ranks: bool) -> None:
    """Raise UserError for trees where it is not known what a drafter's second choices come to."""
    if setting.tree and not has_ranks:
        raise UserError(
            "drafting=tree needs to know which rank each token had with the drafters, and a synthetic law says only "
            "whether it was the first: set engine.acceptance=table or bootstrap, or another drafting"
        )
