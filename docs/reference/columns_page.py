"""docs/columns.md, from the schemas of a run's tables and the docstrings of what is recorded."""

import ast
import inspect
import textwrap

import pyarrow as pa

from docs.reference.markdown import MADE, code, table
from spinbench.control.records.round_record import RoundRecord
from spinbench.control.records.run_record import RequestRecord
from spinbench.control.records.span_record import SpanRecord
from spinbench.metrics.tables import REQUEST_SCHEMA, ROUND_SCHEMA, SPAN_SCHEMA, TEXT_SCHEMA

INTRODUCTION = """\
# Columns of a run's tables

`requests.parquet`, `rounds.parquet` and `spans.parquet`, the same for both engines. Times are seconds on the run's
clock, which on the runtime is the machine's and in a simulation begins at 0; `meta.json` has the run's `start_s` and
`end_s`.
"""
PLAIN = {
    "request_id": "Its name in the trace.",
    "category": "Its category in the trace; null = none.",
    "seed": "Seeds its sampling noise.",
    "first_scheduled_s": "When it was first admitted to the batch.",
    "first_token_s": "When its first token was there.",
    "finish_s": "When its last token was there, or when it was given up.",
    "prompt_tokens": "Length of its prompt.",
    "output_tokens": "Length of its answer.",
    "max_new_tokens": "Length at which its answer is cut.",
    "num_preemptions": "How often its KV was given up and computed again.",
    "prompt_token_ids": "The prompt.",
    "output_token_ids": "The answer.",
    "output_text": "The answer as text; null in simulations, and without a tokenizer.",
    "prompt": "The prompt as text; null for traces without text.",
    "round_index": "Number of the round.",
    "emitted": "Tokens that it got: those accepted, and the target's own.",
    "draft_end_s": "End of its draft; null where nothing was drafted.",
    "verify_start_s": "Beginning of its verification.",
    "verify_end_s": "End of its verification.",
    "start_s": "Beginning of the job.",
    "end_s": "End of the job.",
    "request_ids": "Whose job it was.",
    "useful_cells": "(query row x key) positions of attention that were needed.",
    "padded_cells": "Positions that were computed or read for the sake of a rectangle.",
}
"""Of columns whose field needs no docstring where it is."""


def columns_page() -> str:
    """The page. Raises KeyError for a column that nobody explains."""
    request_columns = pa.schema([*REQUEST_SCHEMA, *TEXT_SCHEMA])
    parts = [MADE, "", INTRODUCTION]
    for name, schema, record in (
        ("requests.parquet", request_columns, RequestRecord),
        ("rounds.parquet", ROUND_SCHEMA, RoundRecord),
        ("spans.parquet", SPAN_SCHEMA, SpanRecord),
    ):
        meanings = PLAIN | field_meanings(record)
        rows = [[code(field.name), str(field.type), meanings[field.name]] for field in schema]
        about = (record.__doc__ or "").split("\n\n")[0]
        parts.extend((f"## {name}\n", f"{about}\n", table(("column", "type", "meaning"), rows)))
    return "\n".join(parts)


def field_meanings(record: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, where it has one."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[before.target.id] = inspect.cleandoc(str(after.value.value))
    return found
