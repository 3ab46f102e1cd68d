"""What models are served: the section `models`."""

from typing import Annotated

from pydantic import Field, model_validator

from spinbench.cli.config.section import Section
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.errors import UserError
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX

MatchLength = Annotated[int, Field(ge=1, le=NgramIndex.MAX_ORDER)]


class PromptLookupSection(Section):
    """The n-grams of prompt lookup."""

    max_match_tokens: MatchLength
    min_match_tokens: MatchLength
    min_match_tokens_before_model: MatchLength


class ModelsSection(Section):
    """The target and its candidate drafters."""

    target: Annotated[str, Field(min_length=1)]
    drafters: list[Annotated[str, Field(min_length=1)]]
    prompt_lookup: PromptLookupSection
    use_chat_template: bool

    @model_validator(mode="after")
    def _consistent(self) -> "ModelsSection":
        twice = next((name for name in self.drafters if self.drafters.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"models.drafters names {twice!r} twice; each drafter can be there once")
        lookup = self.prompt_lookup
        keys = ["min_match_tokens"]
        if any(name.endswith(LOOKUP_SUFFIX) for name in self.drafters):
            keys.append("min_match_tokens_before_model")
        for key in keys:
            if getattr(lookup, key) > lookup.max_match_tokens:
                raise UserError(
                    f"models.prompt_lookup.{key} is {getattr(lookup, key)}; it must be at most max_match_tokens "
                    f"({lookup.max_match_tokens})"
                )
        return self
