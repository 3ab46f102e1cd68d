"""The answer to "what should I run" as a page: the set-up and its gain first, then what would change it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spinbench.report.answer.answer import Answer, Compared, MemoryRow
from spinbench.report.answer.cases import case_blocks
from spinbench.report.answer.cells import answer_table, gain_text, megabytes_text, number_text, ratio_text
from spinbench.report.answer.gain import Gain
from spinbench.report.csv_file import write_csv
from spinbench.report.pages.cells import ABSENT
from spinbench.report.pages.document import Block, Code, Document, Items, Part, Text
from spinbench.report.pages.html import html_page
from spinbench.report.pages.markdown import markdown_page
from spinbench.sweep.reason import by_reason
from spinbench.text_file import write_text

PAGE_FILE, HTML_FILE = "answer.md", "answer.html"
JSON_FILE = "answer.json"
CANDIDATES_FILE = "candidates.csv"
ACCEPTANCE = {
    "table": "as recorded", "bootstrap": "drawn from recorded answers to other texts", "synthetic": "by stated rates"
}  # fmt: skip
"""Where simulated drafts' acceptance comes from."""


def write_page(folder: Path, answer: Answer, candidates: Sequence[Mapping[str, Any]]) -> Path:
    """Leave the page, as Markdown and HTML, its JSON and the candidates' CSV in `folder`; gives the Markdown's path.

    Nothing in them depends on when they were made. Raises UserError when they cannot be written.
    """
    write_csv(folder / CANDIDATES_FILE, pd.DataFrame(candidates))
    content = json.dumps(_finite(asdict(answer)), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / JSON_FILE, content + "\n")
    document = answer_document(answer)
    write_text(folder / HTML_FILE, html_page(document))
    page = folder / PAGE_FILE
    write_text(page, markdown_page(document))
    return page


def answer_sentences(answer: Answer) -> list[str]:
    """The page's first words, for a terminal: what to run, and what that gains over what."""
    return [f"run {answer.chosen}", *(f"  {one.headline().replace('**', '')}" for one in _baselines(answer))]


def answer_document(answer: Answer) -> Document:
    """What the page says."""
    parts = {
        "": _what_to_run(answer),
        "Memory": _memory(answer),
        "What would change the answer": case_blocks(answer),
        "On real models": _on_real_models(answer),
        "How it was found": _how_it_was_found(answer),
    }
    return Document(
        f"Run `{answer.chosen}`",
        tuple(Part(heading, tuple(blocks), level=2) for heading, blocks in parts.items()),
    )


@dataclass(frozen=True)
class _Baseline:
    """What the recommended set-up is compared with."""

    called: str
    name: str
    is_chosen: bool
    gain: Gain | None
    measured: Compared | None

    def headline(self) -> str:
        if self.is_chosen:
            return f"It is {self.called}: nothing else that was tried is better."
        if self.gain is None:
            return f"No ratio to {self.called}, which reaches nothing in simulation."
        if self.measured is not None and not math.isnan(self.measured.measured.median):
            ratio = self.measured.measured.median
            return f"**{ratio:.2f}x {self.called}** on real models; predicted {gain_text(self.gain)}."
        high = "no upper bound" if math.isinf(self.gain.high) else f"{self.gain.high:.2f}x"
        unsure = "" if self.gain.is_told_apart else ", so perhaps no gain"
        return (
            f"**{self.gain.ratio:.2f}x {self.called}** in simulation, between {self.gain.low:.2f}x and {high}{unsure}."
        )

    def cells(self) -> list[str]:
        if self.is_chosen:
            return [self.called, "this is it", *([ABSENT, ABSENT] if self.measured else ()), self.name]
        real = [] if self.measured is None else [ratio_text(self.measured.measured), _within(self.measured)]
        return [self.called, gain_text(self.gain), *real, self.name]


def _baselines(answer: Answer) -> Iterator[_Baseline]:
    real = answer.chosen_measured
    over = (None, None) if real is None else (real.over_plain, real.over_single)
    for called, name, gain, measured in (
        ("plain decoding", answer.plain, answer.over_plain, over[0]),
        ("the best single drafter with a fixed K", answer.single, answer.over_single, over[1]),
    ):
        yield _Baseline(called, name, name == answer.chosen, gain, measured)


def _what_to_run(answer: Answer) -> Iterator[Block]:
    baselines = [*_baselines(answer)]
    yield Items([one.headline() for one in baselines])
    if answer.chosen != answer.best_simulated:
        yield Text(
            f"The simulator ranked `{answer.best_simulated}` first; on real models this one was better in each of "
            f"{answer.repeats} repeats, so it is recommended."
        )
    yield Code(answer.command, "sh")
    slo = f", SLO {answer.slo} (ms)" if answer.slo else ""
    analytic = ", *analytic*: estimated from a datasheet" if answer.profile_kind == "analytic" else ""
    yield Text(
        f"{answer.trace}: {answer.num_requests} requests, arrivals {answer.arrivals}{slo}; {answer.target} in "
        f"{answer.dtype} on {answer.device}{analytic}. Sought: the most {answer.unit} (`{answer.objective}`). "
        f"Simulated: {number_text(answer.value)} {answer.unit}."
    )
    columns = {"over": True, "predicted gain (bounds)": False}
    if answer.chosen_measured is not None:
        columns |= {f"measured (smallest..largest of {answer.repeats})": False, "within the bounds": True}
    columns |= {"set-up": True}  # last: it is long, and figures are to be seen without scrolling
    yield answer_table(columns, [one.cells() for one in baselines])
    if answer.error_source is None:
        yield Text(
            "The bounds hold only what other requests of the same kind would change: the profile is of a device that "
            "nobody measured, so the simulator's own error is **unknown**."
        )
    else:
        yield Text(
            f"The bounds add the simulator's error, from {answer.error_source}, to a paired bootstrap over requests, "
            "for which 95 % of the draws lie inside. How, and where they are too narrow: "
            "`spinbench/report/answer/gain.py`."
        )


def _memory(answer: Answer) -> Iterator[Block]:
    sizes = ("KV of the target", "KV of the drafters", "weights of the target", "weights of the drafters")
    columns = {"set-up": True, f"KV blocks of {answer.memory[0].block_size} tokens": False}
    columns |= {f"{size} (MB)": False for size in sizes}
    names = {"recommended": answer.chosen, "plain": answer.plain, "best single": answer.single}
    rows: dict[str, tuple[list[str], MemoryRow]] = {}
    for row in answer.memory:  # the recommended one may be one of the others
        rows.setdefault(names[row.called], ([], row))[0].append(row.called)
    yield answer_table(
        columns,
        [_memory_cells(", ".join(called), row) for called, row in rows.values()],
        "Prompt lookup and n-gram tables keep no KV, and their tables are not counted.",
    )


def _memory_cells(called: str, row: MemoryRow) -> list[str]:
    replicas = f", each of {row.replicas} replicas" if row.replicas > 1 else ""
    drafters = f" ({', '.join(row.drafters)})" if row.drafters else ""
    sizes = (row.target_kv_bytes, row.drafter_kv_bytes, row.target_weights_bytes, row.drafter_weights_bytes)
    return [f"{called}{replicas}{drafters}", f"{row.kv_blocks:,}", *map(megabytes_text, sizes)]


def _on_real_models(answer: Answer) -> Iterator[Block]:
    if answer.not_confirmed:
        yield Text(f"Not confirmed: {answer.not_confirmed}.")
        return
    yield Text(f"In turns, {answer.repeats} times each, best first:")
    columns = {"set-up": True, f"{answer.unit} (median)": False, "simulated": False}
    for base in ("plain decoding", "the best single drafter"):
        columns |= {f"over {base}": False, f"predicted over {base} (bounds)": False, f"within, over {base}": True}
    rows = []
    for row in answer.measured:
        cells = [row.method, row.failure or number_text(row.value), number_text(row.simulated)]
        for of in (row.over_plain, row.over_single):
            cells += [ratio_text(of.measured), gain_text(of.predicted), _within(of)]
        rows.append(cells)
    yield answer_table(columns, rows)
    yield Text("The simulated order held." if answer.order_held else "The simulated order did **not** hold.")


def _within(one: Compared) -> str:
    """Whether a measured gain lies between the predicted bounds."""
    return {True: "yes", False: "NO", None: ABSENT}[one.is_within]


def _how_it_was_found(answer: Answer) -> Iterator[Block]:
    yield Code(answer.made_by, "sh")
    columns = {"requests": False, "set-ups": False, "served": False, "best": True}
    yield answer_table(
        columns, [[f"{row.requests:,}", f"{row.set_ups:,}", f"{row.served:,}", row.best] for row in answer.rungs]
    )
    failed = [
        f"could not be served ({len(names)} of them): {why}: {', '.join(f'`{name}`' for name in names)}"
        for names, why in by_reason(answer.failed)
    ]
    if failed or answer.warnings:
        yield Items([*failed, *(f"mind: {line}" for line in answer.warnings)])
    every, page, settings = (f"[{name}]({name})" for name in (CANDIDATES_FILE, JSON_FILE, answer.experiment))
    yield Text(
        f"Acceptance: {ACCEPTANCE[answer.acceptance]}. Every set-up: {every}; all of this page: {page}; the settings: "
        f"{settings}."
    )


def _finite(value: Any) -> Any:
    """For JSON, which knows neither NaN nor infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
