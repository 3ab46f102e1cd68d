"""engine=simulation: durations from a profile, acceptance from a table, a bootstrap or a law. Loads no model."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from spinbench.calibration.fitting.expected_times import ExpectingBody
from spinbench.calibration.profile.meta import ProfileMeta, check_fits
from spinbench.calibration.profile.profile_file import Profile
from spinbench.cli.config.replay import ReplayConfig, SimulationSection
from spinbench.cli.config.simulation import overlap_of, simulation_section
from spinbench.cli.engine.decisions import check_decisions, choose_num_blocks, drafter_infos, loop_setting, make_router
from spinbench.cli.engine.oracle_facts import check_drafts, check_serial, oracle_facts
from spinbench.cli.engine.session import Loop, OnProgress, Session, WrapBody
from spinbench.cli.engine.simulated_acceptance import simulated_acceptance
from spinbench.cli.engine.simulated_facts import simulated_facts
from spinbench.cli.engine.simulation_files import SimulationFiles
from spinbench.cli.engine.simulation_warnings import simulation_warnings
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.drafting.confidence import ends_while_drafting
from spinbench.control.jobs.body import Body
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.drift import time_factors
from spinbench.metrics.metric import MetricValue
from spinbench.metrics.store import Run
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import tables_from_record
from spinbench.metrics.validation import DecidedAgain, JobsCompared, RoundsCompared, compare_rounds
from spinbench.simulation.recorded_times import Diverged, RecordedTimes
from spinbench.simulation.replicas import simulated_replicas
from spinbench.simulation.scaled_times import ScaledTimes
from spinbench.simulation.session import require_confidence, require_ranks, simulated_loop
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.arrivals import ArrivalQueue
from spinbench.workload.request import Trace


class SimulatedEngine:
    """Makes sessions from files, each of which is read once."""

    def __init__(self) -> None:
        self._files = SimulationFiles()

    def check(self, config: ReplayConfig) -> None:
        """Raise UserError when profile and acceptance do not fit the config or each other."""
        engine = simulation_section(config)
        if engine.oracle_num_speculative_tokens is not None:
            check_serial(config)
        infos = drafter_infos(config.models)
        profile = self.profile(engine)
        overlap_of(config, profile)
        names = [info.name for info in infos]
        table = self.table(engine) if engine.acceptance != "synthetic" else None
        sha256 = {} if table is None else _digests(table)
        check_fits(
            profile.meta, profile.source, dtype=profile.meta.dtype, target=config.models.target, drafters=infos,
            sha256=sha256,
        )  # fmt: skip
        if table is None:
            self._files.law(engine)
        else:
            table.check_matches(sampling=config.sampling.of_texts(), drafters=dict.fromkeys(names))
        setting = check_decisions(config, self._files.costs(engine, tuple(names)), Foresight.of_no_requests(infos))
        require_ranks(setting, has_ranks=table is not None)
        if engine.oracle_num_speculative_tokens is not None:
            check_drafts(setting)
        known = table.num_rollout_tokens(names) if table is not None and engine.acceptance == "table" else 0
        require_confidence(setting, known, f"engine.acceptance={engine.acceptance}, {engine.source}")

    @contextmanager
    def session(self, config: ReplayConfig) -> Iterator[Session]:
        """A session in simulated time. Raises UserError."""
        session = self.make_session(config, None)
        # a run keeps millions of arrays and makes no cycles: looking for some again and again costs a seventh of it
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield session
        finally:
            if was_enabled:
                gc.enable()

    def decide_again(self, config: ReplayConfig, run: Run) -> DecidedAgain:
        """A real run's decisions and acceptance, made again with the real run's times.

        Where the run had no profile to price its rounds by, they are priced here, too, by what rounds took so far.
        """
        priced = run.config["engine"].get("profile") is not None
        session = self.make_session(config, RecordedTimes.of_spans(run.spans), priced)
        bodies: list[ExpectingBody] = []
        cost_model = self._files.costs(simulation_section(config), tuple(config.models.drafters))

        def expecting(body: Body) -> Body:
            bodies.append(ExpectingBody(body, cost_model.job_s))
            return bodies[-1]

        loop = session.make_loop(None, expecting)
        try:
            rounds = compare_rounds(run.rounds, tables_from_record(loop.run()).rounds)
        except Diverged as error:
            rounds = RoundsCompared(len(run.rounds), 0, str(error))
        return DecidedAgain(rounds, bodies[0].compared())

    def rescaled(self, config: ReplayConfig, jobs: Sequence[JobsCompared]) -> Mapping[str, MetricValue]:
        """The summary of a run whose jobs take what the profile says, times what it was off by in these jobs."""
        costs = self._files.costs(simulation_section(config), tuple(config.models.drafters))
        times = ScaledTimes(costs, time_factors(jobs), drafter_infos(config.models))
        record = self.make_session(config, times).make_loop(None, lambda body: body).run()
        return summarise(tables_from_record(record))

    def make_session(
        self, config: ReplayConfig, times: RecordedTimes | ScaledTimes | None, priced: bool = True
    ) -> Session:
        """A session whose jobs take what the profile predicts, or what `times` says. Raises UserError.

        `priced` False: decisions go by what rounds took so far, as on a runtime without engine.profile.
        """
        engine = simulation_section(config)
        profile, profile_digest = self._files.profile(engine)
        trace, drafters = self._files.trace(config), tuple(config.models.drafters)
        is_law = engine.acceptance == "synthetic"
        source = simulated_acceptance(engine, trace, self._files.law(engine) if is_law else self._files.table(engine))
        infos = drafter_infos(config.models, {model.name: model.macs_per_token for model in profile.meta.models})
        lengths = {request.id: source.prompt_tokens(request) for request in trace.requests}
        order = ArrivalQueue(trace.requests, config.arrivals).requests
        streams = source.streams(order, drafters)
        # the run's own model: it remembers what it was asked beyond its range
        job_times = times or self._files.costs(engine, drafters)
        cost_model = job_times if isinstance(job_times, CostModel) else None
        foresight = Foresight(
            streams,
            infos,
            np.array([lengths[request.id] for request in order]),
            np.array([request.max_new_tokens for request in order]),
        )
        costs = (cost_model or self._files.costs(engine, drafters)) if priced else None
        # those of a real run, whose times these are, did
        shares_device = engine.lanes == "streams" or isinstance(times, RecordedTimes)
        settings = _with_kv_blocks(
            config, profile.meta, trace, lengths,
            [
                loop_setting(
                    config, infos, source.eos_token_ids, 1, len(trace.requests), costs, foresight, replica,
                    shares_device,
                )
                for replica in range(config.replicas)
            ],
        )  # fmt: skip

        def make_loop(on_progress: OnProgress, wrap: WrapBody) -> Loop:
            queue = ArrivalQueue(trace.requests, config.arrivals)
            ends_early = ends_while_drafting(profile.meta.device.type)
            if cost_model is not None and config.replicas > 1:
                return simulated_replicas(
                    settings, make_router(config), queue, streams, lengths, cost_model, on_progress, wrap, ends_early
                )
            return simulated_loop(
                settings[0], queue, streams, lengths, job_times, on_progress, wrap,
                start_s=times.start_s if isinstance(times, RecordedTimes) else 0.0,
                drafts_end_early=ends_early,
                overlap=overlap_of(config, profile),
                at_once=True,
            )  # fmt: skip

        def judge(record: RunRecord) -> dict[str, Any]:
            most = engine.oracle_num_speculative_tokens
            if most is None or cost_model is None:
                return {}
            return {"oracle": oracle_facts(record, foresight, cost_model, most, config.scheduler.max_num_seqs)}

        def warnings() -> tuple[str, ...]:
            return *job_times.warnings, *simulation_warnings(config, profile.meta, settings[0], streams)

        facts = simulated_facts(engine, profile, profile_digest, source.facts)
        return Session(trace, settings[0], make_loop, decode=None, judge=judge, warnings=warnings, facts=facts)

    def profile(self, engine: SimulationSection) -> Profile:
        """The profile of the config. Raises UserError as `read_profile` does."""
        return self._files.profile(engine)[0]

    def table(self, engine: SimulationSection) -> AcceptanceTable:
        """The acceptance table of the config. Raises UserError as `read_table` does."""
        return self._files.table(engine)[0]


def _digests(table: AcceptanceTable) -> dict[str, str]:
    return {model.name: model.sha256 for model in (table.meta.target, *table.meta.drafters)}


def _with_kv_blocks(
    config: ReplayConfig,
    meta: ProfileMeta,
    trace: Trace,
    num_prompt_tokens: Mapping[str, int],
    settings: Sequence[LoopSetting],
) -> list[LoopSetting]:
    """The settings of all replicas with the KV blocks that each has. Raises UserError if a request could not be served.

    `num_prompt_tokens` are by request id.
    """
    beside = settings[0].branch_tokens
    max_tokens = {
        request.id: num_prompt_tokens[request.id] + request.max_new_tokens + beside for request in trace.requests
    }
    num_blocks = choose_num_blocks(config, max_tokens, _num_blocks_that_fit(config, meta))
    return [replace(setting, num_kv_blocks=num_blocks) for setting in settings]


def _num_blocks_that_fit(config: ReplayConfig, meta: ProfileMeta) -> int | None:
    """KV blocks beside the weights on devices like the profile's; None for a measured one, which had what it needed."""
    if meta.kind == "measured":
        return None
    drafters = [name for name in (meta.drafter(drafter).model for drafter in config.models.drafters) if name]
    # models of one device share its memory; slots are numbered alike everywhere, so the fullest device decides
    on_device: dict[str, list[list[str]]] = {
        "shared": [[meta.target, *drafters]],
        "drafters_together": [[meta.target], drafters],
        "own_devices": [[meta.target], *([name] for name in drafters)],
    }
    tokens = min(
        meta.kv_capacity_tokens(models, config.kv.gpu_memory_utilization)
        for models in on_device[config.placement.kind]
        if models
    )
    return tokens // config.kv.block_size
