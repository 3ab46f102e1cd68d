"""What an acceptance table says of its origin."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

FORMAT = 4
"""Version of the folder's layout. 2: drafters may have rollouts. 3: it may be known how far copies agree. 4: also with
an n-gram table. A table is written in the oldest format that can say it."""
KIND = "spinbench acceptance table"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class MetaSection(BaseModel):
    """Unknown keys are errors, and 4 is no text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelMeta(MetaSection):
    """A model by name and by the digest of its weights."""

    name: str
    sha256: Sha256


class DrafterMeta(ModelMeta):
    """A drafter with columns in the table."""

    kind: Literal["model", "ngram"] = "model"
    macs_per_token: Count
    rollout_tokens: Annotated[int, Field(ge=1)] = 1
    """Tokens of its own drafts whose confidence the table holds."""
    copy_agreed: bool = False
    """Whether the table tells how far copies agree with its drafts."""

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of what is missing, so that a table has the digest that it always had."""
        missing = [] if self.rollout_tokens > 1 else ["rollout_tokens"]
        missing += [] if self.copy_agreed else ["copy_agreed"]
        return {key: value for key, value in serialize(self).items() if key not in missing}


class TraceMeta(MetaSection):
    """The trace file; the table may hold only some of its requests."""

    name: str
    sha256: Sha256


class SamplingMeta(MetaSection):
    """How the target's tokens were drawn; temperature 0 = greedy, above = drafter-invariant."""

    temperature: float
    top_p: float
    top_k: int

    def __str__(self) -> str:
        """For errors."""
        if self.temperature == 0:
            return "greedy"
        return f"temperature {self.temperature:g}, top_p {self.top_p:g}, top_k {self.top_k}"

    def same_law(self, other: "SamplingMeta") -> bool:
        """Whether texts are drawn alike; at temperature 0 nothing else matters."""
        return self.temperature == other.temperature == 0 or self == other


class TableMeta(MetaSection):
    """meta.json but for what the file adds: format, counts and digests."""

    target: ModelMeta
    trace: TraceMeta
    drafters: tuple[DrafterMeta, ...]
    sampling: SamplingMeta
    dtype: str
    eos_token_ids: tuple[int, ...]
    use_chat_template: bool
    versions: dict[str, str]
    created: str
    """UTC, ISO 8601."""
    lookup_agreed: bool = False
    """Whether the table has the column of that name."""

    @property
    def format(self) -> int:
        """The oldest format that can say all this."""
        if any(drafter.copy_agreed for drafter in self.drafters):
            return FORMAT
        if self.lookup_agreed:
            return 3
        return 2 if any(drafter.rollout_tokens > 1 for drafter in self.drafters) else 1

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the key where the column is missing, as in tables of older formats, whose digest must not change."""
        values = serialize(self)
        return values if self.lookup_agreed else {k: v for k, v in values.items() if k != "lookup_agreed"}
