"""The parts of a section's report, each where the runs allow it: the answer, tables, figures, where it comes from."""

from collections.abc import Iterable

from spinbench.report.compare import (
    THROUGHPUT,
    comparison_table,
    fastest_by_category,
    oracle_table,
    switching_table,
)
from spinbench.report.factors import METHOD, factors_of, worth
from spinbench.report.figures.acceptance import acceptance_plot, positions_plot
from spinbench.report.figures.colours import colour_map
from spinbench.report.figures.heat_map import heat_map_plot
from spinbench.report.figures.latency import latency_plot
from spinbench.report.figures.load_curve import load_plot
from spinbench.report.figures.padding import padding_plot
from spinbench.report.figures.pareto import pareto_plot
from spinbench.report.figures.plot import Plot
from spinbench.report.figures.regret import regret_plot
from spinbench.report.figures.selection import selection_plot
from spinbench.report.figures.staircase import staircase_plot
from spinbench.report.figures.throughput import throughput_plot
from spinbench.report.figures.timeline import timeline_plot
from spinbench.report.focus import at_few_loads, focus, with_tables
from spinbench.report.headlines import fastest_runnable, headlines, level_sentence, sureness
from spinbench.report.lossless import check_outputs
from spinbench.report.pages.cells import comparison_cells
from spinbench.report.pages.document import Block, Code, Items, Part, Text
from spinbench.report.pages.page_files import PageFiles
from spinbench.report.provenance import commands, config_text, facts, model_table, run_table, samples
from spinbench.report.section import Section
from spinbench.report.server_load import Load

SHOWN_DIFFERENCES = 10
SHOWN_ORACLE_ROWS = 30
SHOWN_COMMANDS = 8
"""More are folded away."""


class SectionParts:
    """Makes the parts of one section. `number` is its place among several, None where it is the only one."""

    def __init__(self, section: Section, files: PageFiles, number: int | None) -> None:
        self._section, self._files, self._number = section, files, number
        self._focus = focus(section)
        self._few = at_few_loads(self._focus)
        self._recorded = with_tables(self._few)
        self._factors = factors_of(section)
        self._colours = colour_map((setting.method for setting in section.settings), section.drafters)
        self._losslessness = check_outputs(section)

    def all(self) -> list[Part]:
        """Every part that the runs give something for, in the order of the page."""
        parts = [self._answer(), *self._comparisons(), *self._interplay(), *self._yardsticks(), *self._recordings()]
        return [part for part in [*parts, *self._samples(), self._provenance()] if part is not None]

    def _answer(self) -> Part:
        section = self._section
        what = f"{section.target}, trace {section.trace}, {section.dtype}, {section.hardware}"
        lines = headlines(self._few)
        if len(self._factors.table) > len(self._focus.settings):
            lines += [level_sentence(section, load) for load in self._few.loads]
        lines += [line for load in self._few.loads for line in sureness(self._few, load)]
        blocks: list[Block] = [Items([*lines, self._losslessness.sentence])]
        if len(self._few.loads) < len(section.loads):
            blocks.append(
                Text(f"Of {len(section.loads)} loads the lowest, the middle and the highest are spoken of here.")
            )
        if self._number is None:
            return Part("", (*blocks, Text(f"*{what}.*")))
        return Part(f"Section {self._number}: {what}", tuple(blocks), level=2)

    def _comparisons(self) -> Iterable[Part | None]:
        for load in self._focus.loads:
            yield self._comparison(load)
        yield self._figure(throughput_plot(self._few, self._colours), "Throughput")
        yield self._figure(load_plot(self._focus, self._colours), "By load")

    def _comparison(self, load: Load) -> Part:
        whole, shown = comparison_table(self._section, load), comparison_table(self._focus, load)
        headers, rows = comparison_cells(shown)
        note = (
            "Medians over the repeats; speed-ups divide by the median of the fastest plain decoding at this load, "
            "whose own row so shows the noise of the baseline; best in bold"
        )
        if len(shown) < len(whole):
            note += (
                f". Shown are {len(shown)} of {len(whole)} settings: plain decoding, the fastest of each kind, and "
                "those that come nearest to the fastest over all loads; the CSV has all"
            )
        is_text = (True, *[False] * (len(headers) - 1))
        table = self._files.cells(f"comparison-{load.slug}", headers, rows, is_text, whole, f"{note}.")
        return Part(load.label.capitalize(), (table,))

    def _interplay(self) -> Iterable[Part | None]:
        factors = self._factors
        if len(factors.names) > 1:
            table = worth(factors)
            if not table.empty:
                headers = {"low": "10 % of contexts below", "high": "10 % above", "best": "fastest in"}
                note = (
                    "Settings alike in everything else, the load too, are a context; in each, throughput is divided by "
                    "its geometric mean there. Above 1 is better than the others. Without plain decoding and oracles"
                )
                shown = self._files.table("worth", table, f"{note}.", headers)
                yield Part("What each choice is worth, all else equal", (shown,))
            for name in factors.names:
                if name != METHOD:
                    yield self._figure(heat_map_plot(factors, name), f"Method by {name}")
        yield self._figure(staircase_plot(factors, self._colours), "From the simplest to the fastest")
        yield self._figure(pareto_plot(factors, self._colours), "Per user against per device")

    def _yardsticks(self) -> Iterable[Part | None]:
        recorded, files = self._recorded, self._files
        oracle = oracle_table(self._section)
        if not oracle.empty:
            note = (
                "The oracle knows every text and chooses drafter and K anew at every position; `exact` at batch 1, "
                "else a bound that no policy can reach. Medians over the repeats."
            )
            headers = {"share_of_oracle": "share of oracle goodput", "regret_s": "regret (s)",
                       "regret_tokens": "regret (tokens)"}  # fmt: skip
            table = files.table("share-of-oracle", oracle, note, headers, SHOWN_ORACLE_ROWS)
            yield Part("Beside the oracle", (table,))
            few = oracle_table(self._few)
            methods = {setting.label: setting.method for setting in self._few.settings}
            yield self._figure(regret_plot(few, methods, self._colours), "Regret")
        if recorded is not None:
            yield self._categories(recorded)
        switching = switching_table(self._focus)
        if not switching.empty:
            note = (
                "A switch is a round that another drafter with a KV cache drafts for than the request's round before. "
                "Its stall is the time that the drafter's catch-ups took between verification and draft; what goes "
                "into the draft's first step is no part of it. Medians over the repeats."
            )
            headers = {"mean_stall_ms": "mean stall (ms)", "p99_stall_ms": "p99 stall (ms)"}
            table = files.table("switches", switching, note, headers, counts=("switches",))
            yield Part("Changes of drafter", (table,))
        yield self._differences()

    def _categories(self, recorded: Section) -> Part | None:
        load = recorded.loads[0]
        table = fastest_by_category(recorded, load)
        if table.empty:
            return None
        headers = {
            "plain_tokens_per_s": "plain (tokens/s)",
            "best_fixed_drafter": "fastest fixed drafter",
            "best_fixed_speedup": "fixed over plain (x)",
            "best_method": "fastest of all",
            "best_speedup": "all over plain (x)",
        }
        note = "Output tokens per second from first scheduling to the end of each request, all repeats together."
        shown = self._files.table(f"fastest-by-category-{load.slug}", table, note, headers)
        return Part(f"Fastest by category of request, {load.label}", (shown,))

    def _differences(self) -> Part | None:
        differing = self._losslessness.differing
        if differing.empty:
            return None
        more = f" (first {SHOWN_DIFFERENCES} of {len(differing)})" if len(differing) > SHOWN_DIFFERENCES else ""
        note = "`position` counts output tokens from 0."
        table = self._files.table("differing-outputs", differing, note, rows=SHOWN_DIFFERENCES)
        return Part(f"Outputs that differ from plain decoding{more}", (table,), short="Differing outputs")

    def _recordings(self) -> Iterable[Part | None]:
        recorded = self._recorded
        if recorded is None:
            text = "Only summaries were kept of these runs (`keep=summary`): `keep=tables` adds what happened in each."
            yield Part("", (Text(text),))
            return
        padding = padding_plot(recorded, self._colours)
        yield self._figure(acceptance_plot(recorded), "Acceptance by category")
        yield self._figure(positions_plot(recorded, self._colours), "Acceptance by position")
        yield self._figure(selection_plot(recorded, self._colours), "Who drafts over time")
        yield self._figure(latency_plot(recorded, self._colours), "Latency")
        yield self._figure(padding, "Padding")
        yield self._figure(timeline_plot(recorded), "Timeline")
        if padding is None:
            yield Part("", (Text("No verify job of these runs computed a padded cell."),))

    def _figure(self, plot: Plot | None, short: str) -> Part | None:
        return None if plot is None else Part(plot.title, (self._files.picture(plot),), short=short)

    def _samples(self) -> Iterable[Part]:
        if self._recorded is None:
            return
        setting = fastest_runnable(self._recorded, self._recorded.loads[0])
        found = samples(setting) if setting is not None else []
        if setting is None or not found:
            return
        blocks: list[Block] = []
        for sample in found:
            category = f" ({sample.category})" if sample.category else ""
            length = sample.acceptance_length
            rounds = "" if length != length else f", {length:.2f} tokens per round"
            blocks.append(Text(f"**{sample.request_id}**{category}{rounds}"))
            blocks += [Code(text, "text") for text in (sample.prompt, sample.answer) if text]
        heading = f"Answers as served by {setting.label} at {setting.load.label}"
        yield Part(heading, tuple(blocks), short="Answers")

    def _provenance(self) -> Part:
        section, files = self._section, self._files
        table = run_table(section)
        runs = (
            f"Every run with its folder, the hashes of its config and inputs, its commit and command: {len(table)} rows"
        )
        blocks: list[Block] = [
            files.table("models", model_table(section), ""),
            Items([f"{what}: {value}" for what, value in facts(section)]),
            Text(f"{runs} ([CSV]({files.csv('runs', table)}))."),
        ]
        lines = commands(section)
        if lines:
            folded = f"{len(lines)} commands" if len(lines) > SHOWN_COMMANDS else ""
            blocks.append(Code("\n".join(lines), "sh", folded))
        best = max(
            (setting for setting in section.settings if not setting.is_oracle),
            key=lambda setting: setting.median(THROUGHPUT),
            default=section.settings[0],
        )
        summary = f"Config of the fastest of all, {best.label} at {best.load.label}"
        blocks.append(Code(config_text(best.runs[0]), "yaml", summary))
        return Part("Where these numbers come from", tuple(blocks))
