"""What a serving loop is given to decide with, and what it tells while it runs."""

from dataclasses import dataclass, field

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.draft_length.by_match_order import MatchOrderDraftLength
from spinbench.control.draft_length.confident import StopsOnConfidence
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.draft_length.protocol import DraftLength, WeighsRounds
from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.drafting.confidence import ConfidenceStop
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.full_information import LearnsFromAll
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.protocol import VerificationLayout
from spinbench.control.pipeline import DraftWhileVerifyPipeline, Pipeline, SerialPipeline
from spinbench.control.placement import SHARED, Placement
from spinbench.control.rounds.setting import RoundSetting
from spinbench.control.selector.best_fixed import BestFixedSelector
from spinbench.control.selector.contextual import ContextualSelector
from spinbench.control.selector.merged import MERGED, MergedSelector
from spinbench.control.selector.protocol import Branches, Selector
from spinbench.control.switching import SwitchingKind
from spinbench.errors import UserError


@dataclass(frozen=True, slots=True)
class LoopSetting:
    """What the loop decides with. Raises UserError for parts that do not go together."""

    drafters: tuple[DrafterInfo, ...]
    selector: Selector
    draft_length: DraftLength
    layout: VerificationLayout
    eos_token_ids: frozenset[int]
    num_kv_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    pipeline: Pipeline = field(default_factory=SerialPipeline)
    placement: Placement = SHARED
    """Where jobs run, which is the body's business; decisions take it into account only by what rounds cost."""
    switching: SwitchingKind = "on_demand"

    @property
    def stop(self) -> ConfidenceStop | None:
        """Where models end their drafts of themselves; None = they draft what they are told to."""
        return self.draft_length.stop if isinstance(self.draft_length, StopsOnConfidence) else None

    def __post_init__(self) -> None:
        if isinstance(self.selector, LearnsFromAll) and (
            not isinstance(self.pipeline, SerialPipeline) or self.drafts_ahead
        ):
            raise UserError(
                "this selector asks all drafters about what was emitted, which it does between two rounds: it needs "
                "pipeline=serial"
            )
        blind = FixedDraftLength | MatchOrderDraftLength | TreeDraftLength
        if self.merged and not isinstance(self.draft_length, blind):
            raise UserError(
                "selector=merged asks several drafters about a request at once, and this draft length looks at the one "
                "that was chosen: it needs drafting=fixed, drafting=by_match_order or drafting=tree"
            )
        if self.has_trees and not isinstance(self.layout, PackedLayout):
            raise UserError(
                "token trees (drafting=tree, selector=merged) are verified under a mask of their own, which only "
                "verification=packed has"
            )
        if self.tree and isinstance(self.selector, LearnsFromAll | ContextualSelector | BestFixedSelector):
            raise UserError(
                "this selector weighs drafters by what chains of their first choices come to, or take; trees come to "
                "more, and take more: set another selector, or drafting=fixed"
            )

        if self.drafts_ahead:
            self._check_drafting_ahead()

    def _check_drafting_ahead(self) -> None:
        if self.has_trees:
            raise UserError(
                "pipeline=draft_while_verify goes on behind the end of a draft, and a token tree (drafting=tree, "
                "selector=merged) has many: set another drafting or selector, or pipeline=serial"
            )
        if self.stop:
            raise UserError(
                "drafting=confident ends a draft where its drafter is no longer sure, and pipeline=draft_while_verify "
                "goes on from there: set another drafting, or pipeline=serial"
            )
        if not any(drafter.has_kv_cache for drafter in self.drafters):
            raise UserError(
                "pipeline=draft_while_verify is for drafters with a network, and models.drafters names none: lookups "
                "and n-gram tables draft in no time; set pipeline=serial"
            )

    @property
    def of_rounds(self) -> RoundSetting:
        """What its rounds have in common, made anew for each that asks."""
        return RoundSetting(
            self.drafters,
            self.layout,
            measure_confidence=self.selector.needs_confidence,
            tree=self.tree,
            members=self.merged,
            stop=self.stop,
            branches=self.branches,
        )

    @property
    def drafts_ahead(self) -> bool:
        """Whether drafters go on while what they drafted is verified."""
        return isinstance(self.pipeline, DraftWhileVerifyPipeline)

    @property
    def drafts_follow_each_other(self) -> bool:
        """Whether a round's drafts are chains by models, made one after another to their full length, with nothing
        else to be done or decided meanwhile."""
        serial = isinstance(self.pipeline, SerialPipeline) and not self.drafts_ahead
        one_lane = self.placement.num_devices(len(self.drafters)) == 1 and self.switching == "on_demand"
        models = all(drafter.kind == "model" for drafter in self.drafters)
        chains = not (self.has_trees or self.stop or self.selector.needs_confidence)
        return serial and one_lane and models and chains

    @property
    def weighs_rounds(self) -> bool:
        """Whether draft lengths depend on how many micro-batches there are."""
        return isinstance(self.draft_length, WeighsRounds) and self.draft_length.weighs_rounds

    @property
    def tree(self) -> TreeShape | None:
        """What each draft looks like; None = chains."""
        return self.draft_length.tree if isinstance(self.draft_length, TreeDraftLength) else None

    @property
    def merged(self) -> tuple[int, ...]:
        """Drafters that draft together; none = one for each request."""
        return self.selector.members if isinstance(self.selector, MergedSelector) else ()

    @property
    def has_trees(self) -> bool:
        """Whether what is verified may branch."""
        return self.of_rounds.has_trees

    @property
    def branches(self) -> bool:
        """Whether a request may have a second drafter beside its first one."""
        return self.branching is not None

    @property
    def branching(self) -> Branches | None:
        """The selector, where a request may have a second drafter."""
        selector = self.selector
        return selector if isinstance(selector, Branches) and selector.branches else None

    @property
    def drafter_names(self) -> tuple[str, ...]:
        """By the numbers of drafters in records."""
        return (*(drafter.name for drafter in self.drafters), *((MERGED,) if self.merged else ()))

    def num_draft_tokens(self, depth: IntArray) -> IntArray:
        """Tokens at the most that are verified beside the newest one, where paths have `depth` tokens."""
        nodes = depth if self.tree is None else self.tree.num_nodes(depth)
        return nodes * max(1, len(self.merged), 2 * self.branches)

    @property
    def max_num_draft_tokens(self) -> int:
        """The largest `num_draft_tokens`."""
        return int(self.num_draft_tokens(np.array(self.draft_length.max_num_speculative_tokens)))

    @property
    def branch_tokens(self) -> int:
        """KV slots that a request may need beyond its longest text: depth is cut there, and branches are beside it."""
        return self.max_num_draft_tokens - self.draft_length.max_num_speculative_tokens


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    finished_requests: int
    emitted_tokens: int
