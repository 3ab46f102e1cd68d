"""What the sections of a config have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Unknown keys are errors, and 4 is no text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
