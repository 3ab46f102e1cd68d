"""The canonical trace: JSON Lines, one request a line, checked when read and when written."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from spinbench.errors import UserError
from spinbench.whole_file import whole_file
from spinbench.workload.json_line import parse_json_lines
from spinbench.workload.request import Request, Trace
from spinbench.workload.trace_file import TraceFile, read_trace_file

MAX_TOKENS = 2**31 - 1
"""Largest length and token id: what fits the 32-bit columns of a run's records."""

PROMPT_KEYS = ("prompt", "prompt_token_ids", "prompt_len_tokens")

Text = Annotated[str, Field(min_length=1)]
Length = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
TokenId = Annotated[int, Field(ge=0, le=MAX_TOKENS)]
HashId = Annotated[int, Field(ge=0, le=2**64 - 1)]


class RequestLine(BaseModel):
    """The keys of one line, in the order they are written; `Request` says what they mean."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    id: Text
    arrival_s: Annotated[float, Field(ge=0)]
    max_new_tokens: Length
    prompt: Text | None = None
    prompt_token_ids: Annotated[tuple[TokenId, ...], Field(min_length=1)] | None = None
    prompt_len_tokens: Length | None = None
    ignore_eos: bool = False
    category: Text | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    hash_ids: tuple[HashId, ...] | None = None


def read_trace(path: Path) -> Trace:
    """The trace in a canonical JSONL file, sorted by arrival (equal times keep the file's order).

    Raises UserError, naming the line, for anything that is not a valid request.
    """
    file = read_trace_file(path)
    requests = sorted(read_requests(file), key=lambda request: request.arrival_s)
    return Trace(name=path.stem, requests=tuple(requests), path=path, sha256=file.sha256)


def read_requests(file: TraceFile) -> list[Request]:
    """The requests of a canonical file in the file's order. Raises UserError at the first bad line."""
    first_line: dict[str, int] = {}
    requests = []
    for number, line in parse_json_lines(file, RequestLine):
        given = [key for key in PROMPT_KEYS if getattr(line, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise file.error(number, f"a request needs exactly one of {', '.join(PROMPT_KEYS)}; it has {found}")
        if line.id in first_line:
            raise file.error(number, f"duplicate id {json.dumps(line.id)} (first on line {first_line[line.id]})")
        first_line[line.id] = number
        requests.append(
            Request(
                id=line.id,
                arrival_s=line.arrival_s,
                max_new_tokens=line.max_new_tokens,
                prompt=line.prompt,
                prompt_token_ids=line.prompt_token_ids,
                prompt_len_tokens=line.prompt_len_tokens,
                ignore_eos=line.ignore_eos,
                category=line.category,
                seed=line.seed,
                hash_ids=line.hash_ids,
            )
        )
    return requests


def write_trace(requests: Iterable[Request], path: Path) -> None:
    """Writes a canonical JSONL file, in the order given and in one step: a reader never sees half of it.

    Keys at their default are left out. Raises UserError when `read_trace` would refuse the result, before anything
    is written, or when the file cannot be written.
    """
    text = "".join(_line(request) for request in requests)
    if not text:
        raise UserError(f"{path}: not written: a trace needs at least one request")
    read_requests(TraceFile(path=path, text=text, sha256=""))
    try:
        with whole_file(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _line(request: Request) -> str:
    values = {}
    for key, field in RequestLine.model_fields.items():
        value = getattr(request, key)
        if field.is_required() or value != field.default:
            values[key] = value
    return json.dumps(values, ensure_ascii=False) + "\n"
