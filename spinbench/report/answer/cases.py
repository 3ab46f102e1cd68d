"""What would change the answer, as the page says it: near competitors, and who is best under other circumstances."""

from collections.abc import Iterator, Sequence

from spinbench.report.answer.answer import Answer, CaseRow
from spinbench.report.answer.cells import answer_table, gain_text, number_text
from spinbench.report.pages.cells import ABSENT, Cell
from spinbench.report.pages.document import Block, Items, Text
from spinbench.sweep.reason import by_reason

SHOWN_COMPETITORS = 6
"""Rows of the page's table; the CSV has all."""
AS_GOOD = 1.005
"""A ratio below shows as 1.00."""


def case_blocks(answer: Answer) -> Iterator[Block]:
    """The blocks under the heading."""
    yield from _competitors(answer)
    if not answer.cases:
        return
    most = max(row.num_set_ups for row in answer.cases)
    yield Text(
        f"The {most} that lead, baselines among them, simulated elsewhere (batches and loads on a part of the trace, "
        "each category alone):"
    )
    served = [row for row in answer.cases if row.best is not None]
    if served:
        columns = {"elsewhere": True, "decided by": True, "over the recommended one": False,
                   "acceptance length of that": False, "best there": True}  # fmt: skip
        yield answer_table(columns, [_case_cells(row) for row in served])
    failures = _failures(answer)
    if failures:
        yield Items(failures)


def _competitors(answer: Answer) -> Iterator[Block]:
    near, others = answer.competitors, len(answer.finalists) - 1
    if not near:
        yield Text("No other finalist comes within the bounds.")
        return
    shown = f"the nearest {SHOWN_COMPETITORS} " if len(near) > SHOWN_COMPETITORS else ""
    yield Text(f"Not to be told apart from it within the bounds: {shown}{len(near)} of {others} other finalists.")
    columns = {"set-up": True, answer.unit: False, "acceptance length": False,
               "gain of the recommended one over it (bounds)": False}  # fmt: skip
    yield answer_table(
        columns,
        [
            [row.name, number_text(row.value), f"{row.acceptance_length:.2f}", gain_text(row.of_chosen)]
            for row in near[:SHOWN_COMPETITORS]
        ],
    )


def _case_cells(row: CaseRow) -> list[Cell]:
    length = ABSENT if row.acceptance_length is None else f"{row.acceptance_length:.2f}"
    if row.ratio is None:
        return [*map(Cell, (row.where, row.metric)), Cell(ABSENT), Cell(length), Cell(str(row.best), True)]
    best = Cell(str(row.best), True)
    if row.ratio < AS_GOOD:
        best = Cell(f"the recommended one, {row.best} as good" if row.changes else "the recommended one")
    return [*map(Cell, (row.where, row.metric)), Cell(f"{row.ratio:.2f}x", number=row.ratio), Cell(length), best]


def _failures(answer: Answer) -> list[str]:
    """A line for each reason, with the circumstances in which it came up."""
    lines = []
    failed = [row for row in answer.cases if row.failure is not None]
    for who in dict.fromkeys(_who(row) for row in failed):
        by_where = {row.where: row for row in failed if _who(row) == who}
        for wheres, why in by_reason((where, str(row.failure)) for where, row in by_where.items()):
            lines.append(f"{_together([by_where[where] for where in wheres])}: {who}: {why}")
    return lines


def _who(row: CaseRow) -> str:
    if row.best is None:
        return "none can be served"
    if row.ratio is None:
        return "the recommended one cannot be served"
    return f"{row.num_failed} of {row.num_set_ups} cannot be served"


def _together(rows: Sequence[CaseRow]) -> str:
    """Their circumstances: `batch 8, 16; category code, maths`."""
    values: dict[str, list[str]] = {}
    for row in rows:
        values.setdefault(row.axis, []).append(row.value)
    return "; ".join(f"{axis} {', '.join(of)}" for axis, of in values.items())
