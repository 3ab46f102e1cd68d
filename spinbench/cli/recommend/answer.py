"""From what a search found to the answer: which set-up, what it gains, what it costs, what would change it."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.cli.hydra_app.session import own_choices_option
from spinbench.cli.recommend.points import Simulated
from spinbench.cli.recommend.question import Question, of_question
from spinbench.cli.recommend.recommended_file import CONFIG_FOLDER, EXPERIMENT, write_recommended
from spinbench.cli.recommend.search import Found, Gains
from spinbench.cli.recommend.what_if import Case
from spinbench.cli.replay.provenance import command_line
from spinbench.report.answer.answer import (
    Answer,
    CaseRow,
    Compared,
    FinalistRow,
    MeasuredRow,
    MemoryRow,
    RungRow,
)
from spinbench.report.answer.cells import gain_text
from spinbench.report.answer.page import answer_sentences, write_page
from spinbench.report.comparison.paired import paired_ratios
from spinbench.workload.acceptance.drafter_name import models_of

TRAFFIC = ("trace", "arrivals", "slo", "seed", "sampling")
"""Keys of the question that a replay of the answer needs as well."""


def write_answer(
    question: Question, found: Found, gains: Gains, cases: Sequence[Case], runs: pd.DataFrame | None, reason: str | None
) -> tuple[Path, list[str]]:
    """Leave the page (answer.md, answer.html), answer.json, candidates.csv and the experiment file in the folder.

    Gives the path of answer.md, and its first words as lines. Raises UserError when they cannot be written.
    """
    measured = _measured(question, found, gains, runs)
    chosen = chosen_of(question, found, runs)
    over_plain, over_single = gains.of(chosen, found.plain), gains.of(chosen, found.single)
    about = [
        f"Made by: {command_line('recommend', question.command)}",
        f"Predicted: {gain_text(over_plain)} plain decoding, {gain_text(over_single)} the best single drafter.",
    ]
    path = write_recommended(question.folder, chosen.set_up, about)
    traffic = of_question(question.real, TRAFFIC)
    engine = [] if reason is not None else of_question(question.real, ["engine"])
    simulator, run = SimulatedEngine(), ["spinbench", "replay", *_finding(question), f"experiment={EXPERIMENT}"]
    answer = Answer(
        command=shlex.join([*run, *engine, *traffic]),
        made_by=command_line("recommend", question.command),
        experiment=path.relative_to(question.folder).as_posix(),
        chosen=chosen.set_up.name,
        best_simulated=found.best.set_up.name,
        plain=found.plain.set_up.name,
        single=found.single.set_up.name,
        objective=question.objective,
        unit=question.unit,
        value=_value(question, chosen),
        over_plain=over_plain,
        over_single=over_single,
        error_source=gains.model.source if gains.model is not None else None,
        target=question.config.models.target,
        trace=question.trace.name,
        num_requests=len(question.trace.requests),
        arrivals=question.config.arrivals.kind,
        slo=question.config.slo,
        device=question.profile.meta.device.name,
        profile_kind=question.profile.meta.kind,
        dtype=question.profile.meta.dtype,
        acceptance=question.config.simulation.acceptance,
        memory=tuple(
            _memory(question, simulator, called, one)
            for called, one in (("recommended", chosen), ("plain", found.plain), ("best single", found.single))
        ),
        finalists=tuple(_finalist(question, found, gains, one, chosen) for one in found.finalists),
        cases=tuple(_case(case, chosen) for case in cases),
        measured=tuple(measured),
        repeats=question.config.repeats,
        order_held=_order_held(measured),
        not_confirmed=reason,
        rungs=tuple(
            RungRow(
                max(1, round(rung.part * len(question.trace.requests))), len(rung.scores), len(rung.ranked),
                rung.ranked[0] if rung.ranked else "",
            )
            for rung in found.rungs
        ),
        failed=tuple(
            (name, one.failure) for name, one in found.outcomes.items() if one.failure is not None
        ),
        warnings=tuple(chosen.run().meta["warnings"]),
    )  # fmt: skip
    page = write_page(question.folder, answer, _candidates(question, found, gains, measured))
    return page, answer_sentences(answer)


def _finding(question: Question) -> list[str]:
    """Options under which a replay finds the experiment, and the user's own choices that it may name."""
    folder, own = f"{question.folder.as_posix()}/{CONFIG_FOLDER}", own_choices_option()
    return [*own, f"hydra.searchpath=[file://{folder}]"] if own else ["--config-dir", folder]


def _value(question: Question, one: Simulated) -> float:
    return float((one.metrics or {}).get(question.objective) or 0.0)


def chosen_of(question: Question, found: Found, runs: pd.DataFrame | None) -> Simulated:
    """The best in simulation, unless another was better in every one of at least two real repeats."""
    if runs is None or question.config.repeats < 2:
        return found.best
    better = [
        one for one in paired_ratios(runs, found.best.set_up.name, question.objective)
        if one.repeats == question.config.repeats and one.low > 1
    ]  # fmt: skip
    if not better:
        return found.best
    name = max(better, key=lambda one: one.median).method
    return next(one for one in found.confirmed if one.set_up.name == name)


def _measured(question: Question, found: Found, gains: Gains, runs: pd.DataFrame | None) -> list[MeasuredRow]:
    """Best first, as measured."""
    if runs is None:
        return []
    over = {
        base.set_up.name: {
            one.method: one for one in paired_ratios(runs, base.set_up.name, question.objective)
        }
        for base in (found.plain, found.single)
    }  # fmt: skip
    rows = []
    for one in found.confirmed:
        own = runs[runs["method"] == one.set_up.name]
        failures = [text for text in own["failure"] if text]
        rows.append(
            MeasuredRow(
                one.set_up.name,
                float(own[question.objective].astype(float).median()),
                _value(question, one),
                Compared(over[found.plain.set_up.name][one.set_up.name], gains.of(one, found.plain)),
                Compared(over[found.single.set_up.name][one.set_up.name], gains.of(one, found.single)),
                failures[0] if failures else None,
            )
        )
    return sorted(rows, key=lambda row: -row.value if not math.isnan(row.value) else math.inf)


def _order_held(measured: Sequence[MeasuredRow]) -> bool | None:
    """Whether the confirmed set-ups come in the simulated order, by their medians; None without a confirmation."""
    simulated = [row.simulated for row in measured]
    return simulated == sorted(simulated, reverse=True) if measured else None


def _finalist(question: Question, found: Found, gains: Gains, one: Simulated, chosen: Simulated) -> FinalistRow:
    metrics = one.metrics or {}
    return FinalistRow(
        one.set_up.name, one.set_up.role, _value(question, one), gains.of(one, found.plain),
        gains.of(one, found.single), gains.of(chosen, one), float(metrics.get("acceptance_length") or 0.0),
    )  # fmt: skip


def _case(case: Case, chosen: Simulated) -> CaseRow:
    best = case.outcomes[0] if case.outcomes else None
    ours = case.of(chosen.set_up.name)
    ratio = None
    if best is not None and ours is not None and case.value_of(best) > 0:
        # above 1 = the other is better, whichever way the metric counts
        pair = case.value_of(best), case.value_of(ours)
        ratio = pair[1] / pair[0] if case.metric == "mean_e2el_ms" else pair[0] / pair[1] if pair[1] > 0 else math.inf
    length = None if ours is None or ours.metrics is None else ours.metrics.get("acceptance_length")
    return CaseRow(
        case.axis, case.value, case.metric, best.set_up.name if best is not None else None,
        len(case.outcomes) + len(case.failures), len(case.failures),
        case.failures.get(chosen.set_up.name) or next(iter(case.failures.values()), None), ratio,
        None if length is None else float(length),
    )  # fmt: skip


def _memory(question: Question, simulator: SimulatedEngine, called: str, one: Simulated) -> MemoryRow:
    """Of the whole trace: KV blocks as the simulated run had them, weights as profiled."""
    config = parse_config(one.set_up.point.config, ReplayConfig)
    setting = simulator.make_session(config, None).setting
    meta = question.profile.meta
    profiled = {model.name: model for model in meta.models}
    drafters = [profiled[name] for name in models_of(tuple(config.models.drafters)) if name in profiled]
    tokens = setting.num_kv_blocks * setting.block_size
    return MemoryRow(
        called=called,
        replicas=int(one.set_up.point.config.get("replicas", 1)),
        kv_blocks=setting.num_kv_blocks,
        block_size=setting.block_size,
        target_kv_bytes=tokens * meta.model(meta.target).kv_bytes_per_token,
        drafter_kv_bytes=tokens * sum(model.kv_bytes_per_token for model in drafters),
        target_weights_bytes=meta.model(meta.target).weights_bytes,
        drafter_weights_bytes=sum(model.weights_bytes for model in drafters),
        drafters=tuple(model.name for model in drafters),
    )


def _candidates(
    question: Question, found: Found, gains: Gains, measured: Sequence[MeasuredRow]
) -> list[dict[str, Any]]:
    """A row per set-up: on the largest part that it was simulated on; gains and measurements of the finalists."""
    parts = {name: rung.part for rung in found.rungs for name in rung.scores}
    finalists = {one.set_up.name for one in found.finalists}
    real = {row.method: row for row in measured}
    rows = []
    for one in question.set_ups:
        outcome = found.outcomes[one.name]
        metrics = outcome.metrics or {}
        row: dict[str, Any] = {
            "set_up": one.name, "role": one.role, "part": parts[one.name], "objective": question.objective,
            **{name: metrics.get(name) for name in (
                "output_throughput", "request_throughput", "request_goodput", "acceptance_length", "mean_e2el_ms",
                "p99_ttft_ms", "p99_tpot_ms",
            )},
        }  # fmt: skip
        for base, called in ((found.plain, "plain"), (found.single, "single")):
            gain = gains.of(outcome, base) if one.name in finalists else None
            values = (gain.ratio, gain.low, gain.high) if gain is not None else (None, None, None)
            row |= dict(zip((f"over_{called}", f"over_{called}_low", f"over_{called}_high"), values, strict=True))
        row["measured"] = real[one.name].value if one.name in real else None
        row["overrides"] = shlex.join(one.overrides)
        row["failure"] = outcome.failure
        rows.append(row)
    return rows
