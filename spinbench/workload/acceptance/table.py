"""The acceptance table: what the target said, and how every drafter would have done at every position."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spinbench.errors import UserError
from spinbench.workload.acceptance.drafter_name import model_of, models_of
from spinbench.workload.acceptance.table_meta import DrafterMeta, SamplingMeta, TableMeta

Bytes = npt.NDArray[np.uint8]
OUTSIDE_VOCABULARY = 255
"""Rank of a token that the drafter cannot draft, and of all ranks from 255 on."""


@dataclass(frozen=True, eq=False)
class RecordedRequests:
    """The requests of a table, one entry each, in the order of their positions."""

    ids: tuple[str, ...]
    prompt_tokens: npt.NDArray[np.int64]
    max_new_tokens: npt.NDArray[np.int64]
    stopped: npt.NDArray[np.bool_]
    """Whether the text ends with an end token; else it was cut after `max_new_tokens`."""
    ignores_eos: npt.NDArray[np.bool_]
    seeds: npt.NDArray[np.int64]
    categories: tuple[str | None, ...]
    offsets: npt.NDArray[np.int64]
    """[requests + 1]: where the positions of each request begin."""

    def __len__(self) -> int:
        """Requests."""
        return len(self.ids)

    @property
    def num_positions(self) -> int:
        """Output tokens of all requests."""
        return int(self.offsets[-1])

    @property
    def output_tokens(self) -> npt.NDArray[np.int64]:
        """Length of each text."""
        return np.diff(self.offsets)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The place of each request."""
        return {name: row for row, name in enumerate(self.ids)}


@dataclass(frozen=True, eq=False)
class DrafterColumns:
    """One drafter at every position, uint8 [positions] each."""

    rank: Bytes
    """Tokens that it scores above the target's; 0 = it would be accepted, 255 = 255 or more, or outside its vocabulary.

    At temperature > 0 of the scores perturbed with the target's noise, by which it drafts."""
    probability: Bytes
    """Softmax of its logits at the target's token, coded by `encode_probability`; 255 outside its vocabulary."""
    top_probability: Bytes
    """Of its likeliest token: the confidence that the runtime measures, coded likewise."""
    rollout: Bytes | None = None
    """[K - 1, positions]: the same for the 2nd to the K-th token that it would draft from there on, whether those
    before are right or not; 255 where a run could not draft so many. None = not recorded."""
    copy_agreed: Bytes | None = None
    """[positions] of an n-gram table: tokens, at most `MAX_AGREED`, that it would draft and a copy from the longest
    match would have alike; `NOTHING_TO_COMPARE` without a match. None = not recorded."""

    @property
    def num_rollout_tokens(self) -> int:
        """K: tokens of a draft whose confidence is known."""
        return 1 if self.rollout is None else 1 + len(self.rollout)

    def confidence(self, num_tokens: int) -> Bytes:
        """Codes of a draft's first tokens, [num_tokens, positions]."""
        first = self.top_probability[None]
        return first if self.rollout is None else np.concatenate((first, self.rollout))[:num_tokens]


@dataclass(frozen=True, eq=False)
class AcceptanceTable:
    """Recorded once per trace, target, drafters and sampling; gives the acceptance of every policy exactly.

    Position t of a request stands for its output token y_t, given its prompt and y_0 .. y_(t-1).
    """

    meta: TableMeta
    requests: RecordedRequests
    token_ids: npt.NDArray[np.int32]
    """[positions]"""
    match_order: Bytes
    """[positions]: see `LookupColumns`."""
    lookup_run: Bytes
    """[3, positions]: see `LookupColumns`."""
    columns: Mapping[str, DrafterColumns]
    """By the drafter's name, in the order of `meta.drafters`."""
    lookup_agreed: Bytes | None = None
    """[positions]: see `LookupColumns`; None in tables that were recorded without it."""
    folder: Path | None = None
    """Where it was read from; named in errors."""

    @property
    def where(self) -> str:
        """How errors call this table."""
        return str(self.folder) if self.folder is not None else "acceptance table"

    def column(self, drafter: str) -> DrafterColumns:
        """The columns of the model that a drafter uses. Raises UserError when there are none."""
        name = model_of(drafter)
        if name is None or name not in self.columns:
            has = ", ".join(self.columns) or "none"
            raise UserError(
                f"{self.where}: drafter {drafter!r} is not recorded in it; recorded are {has} (add one with spinbench "
                "record merge=FOLDER)"
            )
        return self.columns[name]

    def num_rollout_tokens(self, drafters: Iterable[str]) -> int:
        """Tokens of a draft whose confidence is known of all models that these drafters use."""
        models = models_of(tuple(drafters))
        return min((self.column(name).num_rollout_tokens for name in models), default=0)

    def without_drafter(self, name: str) -> "AcceptanceTable":
        """The table with one drafter less."""
        left = tuple(drafter for drafter in self.meta.drafters if drafter.name != name)
        return replace(
            self,
            meta=self.meta.model_copy(update={"drafters": left}),
            columns={drafter.name: self.columns[drafter.name] for drafter in left},
        )

    def with_drafter(self, drafter: DrafterMeta, columns: DrafterColumns) -> "AcceptanceTable":
        """The table with one drafter more. Raises UserError when another one of that name is in it."""
        if drafter.name in self.columns:
            raise UserError(f"{self.where}: drafter {drafter.name!r} is in it already")
        return replace(
            self,
            meta=self.meta.model_copy(update={"drafters": (*self.meta.drafters, drafter)}),
            columns={**self.columns, drafter.name: columns},
        )

    def check_matches(
        self,
        *,
        target_sha256: str | None = None,
        trace_sha256: str | None = None,
        sampling: SamplingMeta | None = None,
        drafters: Mapping[str, str | None] | None = None,
    ) -> None:
        """Raise UserError, naming the first difference, if this table is not of that target, trace, sampling, drafters.

        `drafters` gives the digest of each drafter's weights by the run's name of it, None = whichever; what is None is
        not compared.
        """
        target, trace = self.meta.target, self.meta.trace
        if target_sha256 is not None and target_sha256 != target.sha256:
            raise UserError(
                f"{self.where}: was recorded with target {target.name!r} of weights {target.sha256[:12]}, not "
                f"{target_sha256[:12]}; record it again for this target"
            )
        if trace_sha256 is not None and trace_sha256 != trace.sha256:
            raise UserError(
                f"{self.where}: was recorded on trace {trace.name!r} of digest {trace.sha256[:12]}, not "
                f"{trace_sha256[:12]}; replay that trace, or record this one"
            )
        if sampling is not None and not self.meta.sampling.same_law(sampling):
            raise UserError(f"{self.where}: was recorded with sampling {self.meta.sampling}, not {sampling}")
        own = {drafter.name: drafter.sha256 for drafter in self.meta.drafters}
        for name, sha256 in (drafters or {}).items():
            model = model_of(name)
            if model is None:
                continue
            self.column(name)
            if sha256 is not None and sha256 != own[model]:
                raise UserError(
                    f"{self.where}: drafter {model!r} was recorded with weights {own[model][:12]}, not {sha256[:12]}; "
                    "record it again"
                )
