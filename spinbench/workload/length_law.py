"""Laws that lengths in tokens are drawn from."""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from spinbench.workload.trace import Length

Lengths = npt.NDArray[np.int64]


class Law(BaseModel):
    """Unknown keys are errors. Numbers may come as text, as YAML read without guessing gives them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class FixedLength(Law):
    """Every length the same."""

    law: Literal["fixed"]
    tokens: Length

    def draw(self, count: int, _rng: np.random.Generator) -> Lengths:
        """`count` lengths."""
        return np.full(count, self.tokens, np.int64)


class BoundedLaw(Law):
    """A law between two bounds."""

    min_tokens: Length = 1
    max_tokens: Length

    @model_validator(mode="after")
    def _in_order(self) -> "BoundedLaw":
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens is {self.min_tokens}; it must be <= max_tokens ({self.max_tokens})")
        return self


class UniformLength(BoundedLaw):
    """Each integer from `min_tokens` to `max_tokens` equally often."""

    law: Literal["uniform"]

    def draw(self, count: int, rng: np.random.Generator) -> Lengths:
        """`count` lengths."""
        return rng.integers(self.min_tokens, self.max_tokens, size=count, endpoint=True)


class LognormalLength(BoundedLaw):
    """exp of a normal law with mean ln(`median_tokens`) and standard deviation `sigma`, rounded, then clipped.

    What lies beyond a bound is set to it, so the bounds hold some of the mass.
    """

    law: Literal["lognormal"]
    median_tokens: Annotated[float, Field(gt=0, le=2**31)]
    sigma: Annotated[float, Field(ge=0, le=10)]

    def draw(self, count: int, rng: np.random.Generator) -> Lengths:
        """`count` lengths."""
        tokens = rng.lognormal(np.log(self.median_tokens), self.sigma, size=count)
        return np.clip(np.rint(tokens), self.min_tokens, self.max_tokens).astype(np.int64)


LengthLaw = Annotated[FixedLength | UniformLength | LognormalLength, Field(discriminator="law")]
