"""First-use costs, paid before the clock starts: kernels are chosen and memory is touched at a model's first passes."""

import math
from dataclasses import replace

import numpy as np

from spinbench.cli.engine.assemble import Assembly
from spinbench.cli.engine.execution import graph_mode
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.pipeline import SerialPipeline
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import Selector, SelectorSetting
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.runtime.session import live_loop
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue

MAX_PROMPT_TOKENS = 32
"""Prompts are cut to this: what matters is that each model runs, at the batch's width, not how long."""


def warm_up(assembly: Assembly) -> None:
    """Serve a few short throw-away requests with every drafter in turn.

    With CUDA graphs, once with each drafter for all, and with answers of all lengths, so that batches shrink through
    all sizes: what is captured for them is not captured within the run. Raises KeyboardInterrupt if Ctrl-C ends it.
    """
    setting, captures = assembly.setting, graph_mode(assembly.engine) == "cuda"
    # what is learned from throw-away requests must not be in the run
    draft_length = FixedDraftLength(setting.draft_length.max_num_speculative_tokens)
    if setting.tree:
        draft_length = setting.draft_length
    setting = replace(setting, draft_length=draft_length, pipeline=SerialPipeline())
    # K + 1 tokens are emitted in a round at the most, so no drafter is left out unless the trace's answers are shorter
    most_per_round = setting.draft_length.max_num_speculative_tokens + 1
    most_tokens = most_per_round * (len(setting.drafters) + 1)
    requests = assembly.trace.requests[: setting.max_num_seqs]
    if captures:
        most_tokens += most_per_round * len(requests)
    for selector in _selectors(assembly, captures):
        short, prompts = [], {}
        for place, request in enumerate(requests):
            share = (place + 1) / len(requests) if captures else 1.0
            num_tokens = math.ceil(share * min(request.max_new_tokens, most_tokens))
            short.append(replace(request, arrival_s=0.0, max_new_tokens=num_tokens, ignore_eos=True))
            # never longer than the request itself, so it fits the KV pool; how contexts are cut depends on their length
            prompts[request.id] = assembly.prompts[request.id][: None if captures else MAX_PROMPT_TOKENS]
        queue = ArrivalQueue(short, ArrivalPattern(kind="all_at_once"))
        if not live_loop(replace(setting, selector=selector), assembly.body, queue, prompts).run().complete:
            raise KeyboardInterrupt


def _selectors(assembly: Assembly, captures: bool) -> list[Selector]:
    """One for each time that requests are served."""
    setting, num_requests = assembly.setting, len(assembly.trace.requests)
    if setting.merged:
        return [setting.selector]
    networks = [drafter.name for drafter in setting.drafters if drafter.has_kv_cache]
    if captures and networks:
        of_run = SelectorSetting(setting.drafters, setting.max_num_seqs, num_requests, np.random.default_rng(0))
        return [FixedSelector(of_run, drafter=name) for name in networks]
    return [_each_drafter(setting, num_requests)]


def _each_drafter(setting: LoopSetting, num_requests: int) -> Selector:
    selector_setting = SelectorSetting(setting.drafters, setting.max_num_seqs, num_requests, np.random.default_rng(0))
    if not setting.drafters:
        return PlainSelector(selector_setting)
    return RoundRobinSelector(selector_setting, rounds_per_choice=1)
