"""First-use costs, paid before the clock starts: kernels are chosen and memory is touched at a model's first passes."""

from dataclasses import replace

import numpy as np

from spinbench.cli.assemble import Assembly
from spinbench.control.draft_length import FixedDraftLength
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.pipeline import SerialPipeline
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import Selector, SelectorSetting
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.runtime.session import live_loop
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue

MAX_PROMPT_TOKENS = 32
"""Prompts are cut to this: what matters is that each model runs, at the batch's width, not how long."""


def warm_up(assembly: Assembly) -> None:
    """Serve a few short throw-away requests with every drafter in turn.

    Raises KeyboardInterrupt if Ctrl-C ends it.
    """
    setting = assembly.setting
    # what is learned from throw-away requests must not be in the run
    draft_length = FixedDraftLength(setting.draft_length.max_num_speculative_tokens)
    if setting.tree:
        draft_length = setting.draft_length
    selector = setting.selector if setting.merged else _each_drafter(setting, len(assembly.trace.requests))
    setting = replace(setting, selector=selector, draft_length=draft_length, pipeline=SerialPipeline())
    # K + 1 tokens are emitted in a round at the most, so no drafter is left out unless the trace's answers are shorter
    most_tokens = (setting.draft_length.max_num_speculative_tokens + 1) * (len(setting.drafters) + 1)
    requests, prompts = [], {}
    for request in assembly.trace.requests[: setting.max_num_seqs]:
        requests.append(
            replace(request, arrival_s=0.0, max_new_tokens=min(request.max_new_tokens, most_tokens), ignore_eos=True)
        )
        # never longer than the request itself, so it fits the KV pool
        prompts[request.id] = assembly.prompts[request.id][:MAX_PROMPT_TOKENS]
    queue = ArrivalQueue(requests, ArrivalPattern(kind="all_at_once"))
    if not live_loop(setting, assembly.body, queue, prompts).run().complete:
        raise KeyboardInterrupt


def _each_drafter(setting: LoopSetting, num_requests: int) -> Selector:
    selector_setting = SelectorSetting(setting.drafters, setting.max_num_seqs, num_requests, np.random.default_rng(0))
    if not setting.drafters:
        return PlainSelector(selector_setting)
    return RoundRobinSelector(selector_setting, rounds_per_choice=1)
