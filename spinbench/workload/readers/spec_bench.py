"""Spec-Bench questions (arXiv 2401.07851): JSON Lines with `question_id`, `category` and `turns`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from spinbench.workload.json_line import parse_json_lines
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.request import Request
from spinbench.workload.trace import Text
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions


class SpecBenchLine(BaseModel):
    """One question; other keys, such as `reference`, are not needed to ask it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    question_id: int
    category: Text
    turns: Annotated[tuple[Text, ...], Field(min_length=1)]


def read_spec_bench(file: TraceFile, options: TraceOptions) -> TraceRows:
    """First turns as prompts, all arriving at 0, each of `options.default_max_new_tokens`.

    The id is the question's, the seed its place in the file from 0.
    """
    first_line: dict[int, int] = {}
    requests = []
    for number, line in parse_json_lines(file, SpecBenchLine):
        question = line.question_id
        if question in first_line:
            raise file.error(number, f"duplicate question_id {question} (first on line {first_line[question]})")
        first_line[question] = number
        requests.append(
            Request(
                id=str(question),
                arrival_s=0.0,
                max_new_tokens=options.default_max_new_tokens,
                prompt=line.turns[0],
                category=line.category,
                seed=len(requests),
            )
        )
    return TraceRows(requests)
