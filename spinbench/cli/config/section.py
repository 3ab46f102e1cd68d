"""What the sections of a config have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Unknown keys are errors, and 4 is no text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def kind_tag(section: Any) -> str | None:
    """The tag of a section that is one of several kinds: what its `kind` says, as a mapping or made already."""
    kind = section.get("kind") if isinstance(section, dict) else getattr(section, "kind", None)
    return f"kind={kind}" if isinstance(kind, str) else None
