"""ShareGPT's conversations: a JSON array of objects with `conversations`, each turn with `from` and `value`.

As in ShareGPT_V3_unfiltered_cleaned_split.json of huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from spinbench.workload.json_array import parse_json_array
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.request import Request
from spinbench.workload.trace import Length
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

HUMANS = ("human", "user")


class Turn(BaseModel):
    """Who says what."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    speaker: Annotated[str, Field(alias="from")]
    value: str


class Conversation(BaseModel):
    """One conversation; its `id` is not needed."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    conversations: list[Turn]
    output_length: Length | None = None
    """No key of the data set: tokens of the first answer, for files in which someone has counted them."""


def read_sharegpt(file: TraceFile, options: TraceOptions) -> TraceRows:
    """First human turns as prompts, all arriving at 0, each of `output_length`, else `options.default_max_new_tokens`.

    The answers are text of another model, so their length is not used. The id is `sharegpt-` and the conversation's
    place in the file from 0, which is also the seed. A conversation without a human turn, or whose first one is blank,
    is dropped.
    """
    requests = []
    place = -1
    for place, (_, conversation) in enumerate(parse_json_array(file, Conversation)):
        prompt = next((turn.value for turn in conversation.conversations if turn.speaker in HUMANS), "")
        if not prompt.strip():
            continue
        requests.append(
            Request(
                id=f"sharegpt-{place}",
                arrival_s=0.0,
                max_new_tokens=conversation.output_length or options.default_max_new_tokens,
                prompt=prompt,
                seed=place,
            )
        )
    return TraceRows(requests, dropped_rows=place + 1 - len(requests))
