"""Lines with a time, two lengths and the hashes of the prompt's blocks, as Mooncake and vLLM write them."""

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spinbench.workload.json_line import parse_json_lines
from spinbench.workload.readers.length_rows import length_rows
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.trace import MAX_TOKENS, HashId
from spinbench.workload.trace_file import TraceFile

Count = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


class HashedLengthsLine(BaseModel):
    """One request; other keys, such as `chat_id` of the Alibaba traces, are not needed."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True)

    timestamp: Annotated[float, Field(ge=0)]
    input_length: Count
    output_length: Count
    hash_ids: tuple[HashId, ...] | None = None


def hashed_length_rows(file: TraceFile, name: str, ticks_per_s: float) -> TraceRows:
    """The lengths, times and hashes of the file, see `length_rows`; a `timestamp` counts `ticks_per_s` a second."""
    lines = [line for _, line in parse_json_lines(file, HashedLengthsLine)]
    return length_rows(
        name,
        np.array([line.timestamp for line in lines], np.float64) / ticks_per_s,
        np.array([line.input_length for line in lines], np.int64),
        np.array([line.output_length for line in lines], np.int64),
        hash_ids=[line.hash_ids for line in lines],
    )
