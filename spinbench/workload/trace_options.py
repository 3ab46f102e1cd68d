"""Which requests of a trace file are replayed."""

from dataclasses import dataclass

from spinbench.errors import UserError


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Filters and caps, the same for every format. Raises UserError, naming the key, for a value out of range.

    Applied in this order: `categories`, `max_prompt_tokens`, `num_prompts` with `sample_seed`, `max_output_tokens`.
    What the first three leave out is counted in `Trace.dropped_requests`, what the last shortens in
    `Trace.clipped_requests`. Arrival times stay as they are: a thinned trace has a lower rate.
    """

    num_prompts: int | None = None
    """Requests kept at most, at least 1; `None` = all."""
    sample_seed: int | None = None
    """Seed of a random choice of `num_prompts` requests; `None` = the earliest ones."""
    categories: tuple[str, ...] | None = None
    """Categories kept; `None` = all, requests without one included."""
    max_prompt_tokens: int | None = None
    """Requests with a longer prompt are left out; at least 1. A text needs a tokenizer to be measured."""
    max_output_tokens: int | None = None
    """`max_new_tokens` is lowered to this; at least 1."""
    default_max_new_tokens: int = 128
    """`max_new_tokens` where the format states none (spec_bench); at least 1."""

    def __post_init__(self) -> None:
        for key in ("num_prompts", "max_prompt_tokens", "max_output_tokens", "default_max_new_tokens"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"trace.{key} is {value}; it must be >= 1")
        if self.sample_seed is not None and self.sample_seed < 0:
            raise UserError(f"trace.sample_seed is {self.sample_seed}; it must be >= 0")
        if self.sample_seed is not None and self.num_prompts is None:
            raise UserError("trace.sample_seed is set but trace.num_prompts is not: say how many requests to draw")
        if self.categories is not None and not self.categories:
            raise UserError("trace.categories is empty; name at least one category, or leave it null for all")
