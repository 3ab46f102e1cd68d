"""One run on the runtime: the serving loop over live text."""

from collections.abc import Callable, Mapping, Sequence

from spinbench.control.jobs.body import Body
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.request_table import RequestTable
from spinbench.control.text import LiveText
from spinbench.runtime.body import TorchBody
from spinbench.workload.arrivals import ArrivalQueue, Arrivals
from spinbench.workload.request import Request


def live_loop(
    setting: LoopSetting,
    body: TorchBody,
    queue: ArrivalQueue,
    prompts: Mapping[str, tuple[int, ...]],
    on_progress: Callable[[Progress], None] | None = None,
    interface: Body | None = None,
) -> ServingLoop:
    """A loop that serves `queue` on `body`, whose clock starts now; `prompts` has token ids by request id.

    `interface` is what the loop talks to where that is not the body itself.
    """
    return live_loop_of(queue.requests, setting, body, queue, prompts, on_progress, interface)


def live_loop_of(
    requests: Sequence[Request],
    setting: LoopSetting,
    body: TorchBody,
    arrivals: Arrivals,
    prompts: Mapping[str, tuple[int, ...]],
    on_progress: Callable[[Progress], None] | None = None,
    interface: Body | None = None,
) -> ServingLoop:
    """As `live_loop`, where only some of `requests` may arrive."""
    text = LiveText(requests, prompts, body.ngrams)
    lengths = {request.id: len(prompts[request.id]) for request in requests}
    table = RequestTable(requests, lengths, len(setting.drafters))
    body.begin(text, setting.branch_tokens)
    return ServingLoop(setting, interface or body, arrivals, table, text, on_progress)
