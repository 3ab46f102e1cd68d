"""From a checked config to what decides, whatever engine will serve: trace, drafters, selector, layout, KV blocks."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from spinbench.cli.config.models import ModelsSection
from spinbench.cli.config.named_parts import make_part
from spinbench.cli.config.replay import ReplayConfig
from spinbench.cli.locations import find_trace
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.draft_length.by_selector import BySelectorDraftLength
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.draft_length.protocol import DraftLength
from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.kv_budget import blocks_for_longest, check_request_fits
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.protocol import LayoutSetting, VerificationLayout
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.pipeline import DraftWhileVerifyPipeline, Pipeline
from spinbench.control.placement import Placement
from spinbench.control.router.protocol import Router
from spinbench.control.selector.oracle import OracleSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import Selector, SelectorSetting
from spinbench.errors import UserError
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX, PROMPT_LOOKUP, is_ngram, kind_of
from spinbench.workload.load import load_trace
from spinbench.workload.request import Trace


def read_trace(config: ReplayConfig, count_tokens: Callable[[str], int] | None) -> Trace:
    """The part of the trace that the config asks for. Raises UserError naming the file and line."""
    return load_trace(find_trace(config.trace.path), config.trace.format, config.trace, count_tokens)


def choose_num_blocks(
    config: ReplayConfig, max_tokens: Mapping[str, int], available: int | None = None, limit: int | None = None
) -> int:
    """KV blocks of the run, given the longest length of each request. Raises UserError if one could not be served.

    Without `kv.num_blocks` there are `available` ones, or as many as the longest requests can fill, up to `limit`.
    """
    block_size = config.kv.block_size
    num_blocks = config.kv.num_blocks or available
    if num_blocks is None:
        num_blocks = blocks_for_longest(max_tokens.values(), config.scheduler.max_num_seqs, block_size)
        if limit is None or num_blocks <= limit:
            return num_blocks
        num_blocks = limit
    for request_id, tokens in max_tokens.items():
        check_request_fits(request_id, tokens, num_blocks, block_size)
    return num_blocks


def drafter_infos(models: ModelsSection, macs_per_token: Mapping[str, int] | None = None) -> tuple[DrafterInfo, ...]:
    """What decisions know of the drafters; without `macs_per_token` of the models their cost is 0."""
    lookup, macs = models.prompt_lookup, macs_per_token or {}
    tables = sorted({name.removesuffix(LOOKUP_SUFFIX) for name in models.drafters if is_ngram(name)})
    if len(tables) > 1:
        raise UserError(f"models.drafters has n-gram tables {', '.join(tables)}; a run can have one of them")
    return tuple(
        DrafterInfo(
            name,
            kind_of(name),
            macs.get(name.removesuffix(LOOKUP_SUFFIX), 0),
            lookup.max_match_tokens,
            lookup.min_match_tokens if name == PROMPT_LOOKUP else lookup.min_match_tokens_before_model,
        )
        for name in models.drafters
    )


def loop_setting(
    config: ReplayConfig,
    infos: tuple[DrafterInfo, ...],
    eos_token_ids: frozenset[int],
    num_blocks: int,
    num_requests: int,
    cost_model: CostModel | None = None,
    foresight: Foresight | None = None,
    replica: int = 0,
    lanes_share_device: bool = True,
) -> LoopSetting:
    """The decisions that the config names, for one replica. Raises UserError for parameters that do not fit.

    `lanes_share_device`: lanes are of one device, that of `cost_model`, and slow each other as it says.
    """
    pipeline: Pipeline = make_part("pipeline", config.pipeline)
    setting = SelectorSetting(
        infos,
        config.scheduler.max_num_seqs,
        num_requests,
        # the first replica draws what the only one would
        np.random.default_rng([config.seed, config.repeat, *([replica] if replica else [])]),
        cost_model=cost_model,
        foresight=foresight,
        placement=Placement(config.placement.kind),
        drafts_ahead=isinstance(pipeline, DraftWhileVerifyPipeline),
        depths=pipeline.depths,
    )
    # how more than two lanes slow each other nobody measured
    if cost_model and lanes_share_device and setting.placement.num_devices(len(infos)) == 2:
        setting = replace(setting, overlap=cost_model.overlap)
    drafting: DraftLength | BySelectorDraftLength = make_part("drafting", config.drafting, setting=setting)
    layout_setting = LayoutSetting(cost_model.target.rectangle if cost_model else {})
    layout: VerificationLayout = make_part("verification", config.verification, setting=layout_setting)
    setting = replace(
        setting,
        max_num_speculative_tokens=drafting.max_num_speculative_tokens,
        chooses_draft_length=isinstance(drafting, BySelectorDraftLength),
        allows_branches=isinstance(layout, PackedLayout) and not setting.drafts_ahead and not _by_rejection(config),
    )
    selector: Selector = make_part("selector", config.selector, setting=setting)
    made = LoopSetting(
        drafters=infos,
        selector=selector,
        draft_length=_draft_length(drafting, selector),
        layout=layout,
        eos_token_ids=eos_token_ids,
        num_kv_blocks=num_blocks,
        block_size=config.kv.block_size,
        max_num_seqs=config.scheduler.max_num_seqs,
        max_num_batched_tokens=config.scheduler.max_num_batched_tokens,
        pipeline=pipeline,
        placement=setting.placement,
        switching=config.switching,
    )
    if _by_rejection(config):
        _check_rejection(made)
    return made


def _draft_length(drafting: DraftLength | BySelectorDraftLength, selector: Selector) -> DraftLength:
    """The policy that `drafting` names, or the selector where that chooses K. Raises UserError if it cannot."""
    if isinstance(drafting, BySelectorDraftLength):
        return drafting.of(selector)
    if isinstance(selector, PlainSelector):
        return FixedDraftLength(0)  # no room is kept for drafts that never come
    if isinstance(selector, OracleSelector):  # the best K is part of what it knows
        if isinstance(drafting, TreeDraftLength):
            raise UserError("selector=oracle knows the best chains, not trees: set drafting=fixed")
        return selector
    return drafting


def _by_rejection(config: ReplayConfig) -> bool:
    return config.sampling.kind == "rejection" and config.sampling.temperature > 0


def _check_rejection(setting: LoopSetting) -> None:
    """Raise UserError for decisions that do not go with rejection sampling."""
    if setting.has_trees:
        raise UserError(
            "sampling.kind is rejection, which judges chains only: token trees (drafting=tree, selector=merged) need "
            "sampling=greedy or drafter_invariant"
        )
    if setting.drafts_ahead:
        raise UserError(
            "sampling.kind is rejection, which draws the bonus token apart from the drafter's guess at it, so that "
            "they seldom agree: pipeline=draft_while_verify needs sampling=greedy or drafter_invariant"
        )


def check_decisions(
    config: ReplayConfig, cost_model: CostModel | None = None, foresight: Foresight | None = None
) -> LoopSetting:
    """Raise UserError for decisions that the config cannot have on its engine, before anything is loaded."""
    infos = drafter_infos(config.models)
    make_router(config)
    return loop_setting(config, infos, frozenset(), 1, 1, cost_model, foresight)


def require_single(config: ReplayConfig) -> None:
    """Raise UserError for several replicas on an engine that has one."""
    if config.replicas > 1:
        raise UserError(f"replicas is {config.replicas}; engine.kind={config.engine.kind} has one, set replicas=1")


def make_router(config: ReplayConfig) -> Router:
    """What routes requests to replicas. Raises UserError for parameters that do not fit."""
    return make_part("router", config.router)
