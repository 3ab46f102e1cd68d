"""One run in the simulator: the serving loop over text that is known."""

from collections.abc import Callable, Mapping

from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.overlap import Overlap
from spinbench.control.draft_length.confident import StopsOnConfidence
from spinbench.control.jobs.body import Body
from spinbench.control.jobs.draft_series import DraftsAtOnce
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.request_table import RequestTable
from spinbench.errors import UserError
from spinbench.simulation.answers import Answers
from spinbench.simulation.body import JobTimes, SimulatedBody
from spinbench.simulation.recorded_times import RecordedTimes
from spinbench.simulation.serial_body import AtOnceBody, SerialBody
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
    drafts_end_early: bool = True,
    overlap: Overlap | None = None,
    at_once: bool = False,
) -> ServingLoop:
    """A loop that serves `queue` in simulated time; the streams' rows are `queue.requests`.

    `interface` wraps the body that the loop talks to; no job starts before `start_s`; `drafts_end_early` is explained
    at `Answers`, `overlap` at `SimulatedBody`. `at_once`: where a round's drafts follow each other on one lane, and a
    cost model says how long they take, they are done at one go. The run is the same and takes less time, but
    `interface` does not see their jobs. Raises UserError for a selector that must see a drafter's confidence, which
    tables hold in steps only, and for a policy that ends drafts by a confidence that `streams` do not know.
    """
    check_acceptance(setting, streams)
    table = RequestTable(queue.requests, num_prompt_tokens, len(setting.drafters))
    text, drafters, placement = RecordedText(streams), setting.drafters, setting.placement
    answers = Answers(streams, table.num_prompt_tokens, drafters, drafts_end_early)
    drafts: DraftsAtOnce | None = None
    if at_once and isinstance(times, CostModel) and setting.drafts_follow_each_other:
        body = drafts = AtOnceBody(answers, drafters, times, start_s)
    elif isinstance(times, RecordedTimes) or placement.num_devices(len(drafters)) > 1:
        body = SimulatedBody(answers, drafters, times, start_s, placement, overlap)
    else:
        body = SerialBody(answers, drafters, times, start_s)
    return ServingLoop(setting, interface(body) if interface else body, queue, table, text, on_progress, drafts)


def check_acceptance(setting: LoopSetting, streams: AcceptanceStreams) -> None:
    """Raise UserError for decisions that need to know more of drafters than `streams` do."""
    require_confidence(setting, streams.num_rollout_tokens, "this acceptance")
    if setting.selector.needs_confidence:
        raise UserError(
            "this selector asks for the drafter's confidence itself, which an acceptance table holds in steps of 4 % "
            "only; choose another selector, or engine=runtime"
        )
    require_ranks(setting, streams.rank is not None)


def require_ranks(setting: LoopSetting, has_ranks: bool) -> None:
    """Raise UserError for trees where it is not known what a drafter's second choices come to."""
    if setting.tree and not has_ranks:
        raise UserError(
            "drafting=tree needs to know which rank each token had with the drafters, and a synthetic law says only "
            "whether it was the first: set engine.acceptance=table or bootstrap, or another drafting"
        )


def require_confidence(setting: LoopSetting, num_rollout_tokens: int, where: str) -> None:
    """Raise UserError if drafts are ended by their drafter's confidence further on than acceptance knows that.

    `num_rollout_tokens` is how many tokens of a draft it knows it of; `where` says where acceptance is from.
    """
    policy = setting.draft_length
    asks_models = any(drafter.has_kv_cache or drafter.asks_ngrams for drafter in setting.drafters)
    if isinstance(policy, StopsOnConfidence) and asks_models and policy.max_model_tokens > num_rollout_tokens:
        most, known = policy.max_model_tokens, num_rollout_tokens
        raise UserError(
            f"{where}: knows drafters' confidence for {known} token{'' if known == 1 else 's'} of a draft, and this "
            f"draft-length policy ends drafts of up to {most} by it; set engine.acceptance=table with a table of "
            f"spinbench record rollout_tokens={most} (merge=FOLDER adds that to one), whose requests asked for as many "
            "tokens as here"
        )
