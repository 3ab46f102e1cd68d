"""What a serving loop is given to decide with, and what it tells while it runs."""

from dataclasses import dataclass, field

from spinbench.control.confidence import ConfidenceStop
from spinbench.control.draft_length import DraftLength
from spinbench.control.draft_length_confident import StopsOnConfidence
from spinbench.control.drafter import DrafterInfo
from spinbench.control.full_information import LearnsFromAll
from spinbench.control.layout import VerificationLayout
from spinbench.control.pipeline import Pipeline, SerialPipeline
from spinbench.control.placement import SHARED, Placement
from spinbench.control.selector.protocol import Selector
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
    """Read by the body: decisions do not depend on it."""
    switching: SwitchingKind = "on_demand"

    @property
    def stop(self) -> ConfidenceStop | None:
        """Where models end their drafts of themselves; None = they draft what they are told to."""
        return self.draft_length.stop if isinstance(self.draft_length, StopsOnConfidence) else None

    def __post_init__(self) -> None:
        if isinstance(self.selector, LearnsFromAll) and not isinstance(self.pipeline, SerialPipeline):
            raise UserError(
                "this selector asks all drafters about what was emitted, which it does between two rounds: it needs "
                "pipeline=serial"
            )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    finished_requests: int
    emitted_tokens: int
