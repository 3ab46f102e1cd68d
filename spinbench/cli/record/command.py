"""What `spinbench record` does: the target's answers once, then one pass of each drafter over them."""

from pathlib import Path

from spinbench.cli.config.device_choice import choose_device
from spinbench.cli.config.replay import parse_config
from spinbench.cli.engine.assemble import Assembly, assemble, num_threads, sampling
from spinbench.cli.engine.decisions import drafter_infos, read_trace
from spinbench.cli.engine.model_shelf import ModelShelf
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.interrupt import Interrupted, uninterrupted
from spinbench.cli.out_folder import remove_if_empty
from spinbench.cli.progress import show_stage
from spinbench.cli.record.columns import record_drafter, table_without_drafters, with_lookup_agreed
from spinbench.cli.record.config import RecordConfig, plain_replay
from spinbench.cli.record.summary import PROFILES_FOLDER, print_table, walks, write_profiles
from spinbench.cli.record.texts import check_table_texts, served_texts, texts_of_run
from spinbench.cli.record.work import WORK_FOLDER, RecordWork
from spinbench.errors import UserError
from spinbench.metrics.store import SUMMARY_FILE
from spinbench.runtime.out_of_memory import too_little_memory
from spinbench.workload.acceptance.drafter_name import is_ngram, models_of
from spinbench.workload.acceptance.from_table import streams_of_table
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.acceptance.table_file import META_FILE, POSITIONS_FILE, REQUESTS_FILE, read_table, write_table
from spinbench.workload.acceptance.table_meta import SamplingMeta

OWN_NAMES = frozenset({META_FILE, POSITIONS_FILE, REQUESTS_FILE, PROFILES_FOLDER, WORK_FOLDER})
"""What may be in a folder that this command writes to."""


class Record:
    """The command, with the models that its points share."""

    def __init__(self) -> None:
        self._shelf = ModelShelf()

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with config, folders or trace; loads no model."""
        config = parse_config(point.config, RecordConfig)
        choose_device(config.runtime)
        if point.folder.absolute() != Path(config.out).absolute():
            raise UserError(
                f"hydra puts this in {point.folder}, and out is {config.out}; a table's folder is out: set "
                f"out={point.folder}, and leave hydra.run.dir and hydra.sweep.dir as they are"
            )
        _check_folders(point.folder, config)
        sampling(plain_replay(config))
        config.sampling.of_texts()
        if config.trace.max_prompt_tokens is None:
            read_trace(plain_replay(config), None)

    def run(self, point: Point) -> None:
        """Leave the table in the point's folder.

        Raises UserError, and Interrupted on Ctrl-C; finished stages stay in the folder `work` inside and are gone on
        with the next time.
        """
        config = parse_config(point.config, RecordConfig)
        work = RecordWork(point.folder)
        try:
            less = "take smaller models, or lower kv.gpu_memory_utilization, kv.num_blocks or scheduler.max_num_seqs"
            with num_threads(config.runtime.num_threads), too_little_memory(f"recording {config.models.target}", less):
                table = self._table(config, work)
            with uninterrupted():
                write_table(point.folder, table)
                _show(config, point.folder, table)
                work.remove()
        except (UserError, KeyboardInterrupt) as error:
            remove_if_empty(point.folder)
            if isinstance(error, UserError):
                raise
            if work.has_stages:
                raise Interrupted(f"finished stages are kept in {point.folder}; the same command goes on") from error
            raise Interrupted("no stage was finished; nothing was written") from error

    def _table(self, config: RecordConfig, work: RecordWork) -> AcceptanceTable:
        law = config.sampling.of_texts()
        before = read_table(Path(config.merge)) if config.merge is not None else None
        with show_stage("loading the models"):
            assembly = assemble(plain_replay(config), self._shelf)
            drafters = [self._shelf.drafter(name) for name in models_of(tuple(config.models.drafters))]
        if before is not None:
            _check_table(before, config, assembly, law)
            table = with_lookup_agreed(before, assembly)
        elif config.from_run is not None:
            texts = texts_of_run(Path(config.from_run), assembly, law)
            table = table_without_drafters(config, assembly, law, texts)
        else:
            texts = served_texts(assembly, config.runtime.dtype, law, work)
            table = table_without_drafters(config, assembly, law, texts)
        for drafter in drafters:
            known = table.columns.get(drafter.name)
            if known is not None:
                table.check_matches(drafters={drafter.name: drafter.weights_sha256})
            lacks_agreement = known is not None and is_ngram(drafter.name) and known.copy_agreed is None
            if known is None or lacks_agreement or known.num_rollout_tokens < config.rollout_tokens:
                rollouts = max(config.rollout_tokens, 1 if known is None else known.num_rollout_tokens)
                table = record_drafter(table.without_drafter(drafter.name), drafter, config, assembly, work, rollouts)
        if table is before:
            raise UserError(
                f"{table.where}: holds all of models.drafters already; there is nothing to add (for longer rollouts, "
                "raise rollout_tokens)"
            )
        return table


def _check_folders(folder: Path, config: RecordConfig) -> None:
    if config.merge is not None and config.from_run is not None:
        raise UserError("merge and from_run are both set; the answers come from one of them: leave the other null")
    if config.merge is not None:
        read_table(Path(config.merge))
    if config.from_run is not None and not (Path(config.from_run) / SUMMARY_FILE).is_file():
        raise UserError(
            f"from_run={config.from_run}: no run here ({SUMMARY_FILE} is missing; an unfinished run has none)"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; set out to a folder")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in names if name not in OWN_NAMES and not name.endswith(".tmp")]
    if foreign:
        raise UserError(f"{folder}: holds something else ({foreign[0]}); set out to another folder")
    in_place = config.merge is not None and Path(config.merge).resolve() == folder.resolve()
    if META_FILE in names and not in_place:
        raise UserError(
            f"{folder}: holds an acceptance table already; delete it, set out to another folder, or add drafters to it "
            f"with merge={folder}"
        )


def _check_table(table: AcceptanceTable, config: RecordConfig, assembly: Assembly, law: SamplingMeta) -> None:
    """Raise UserError unless drafters recorded now belong beside those in the table."""
    target, trace = assembly.target, assembly.trace
    table.check_matches(target_sha256=target.weights_sha256, trace_sha256=trace.sha256, sampling=law)
    if table.meta.dtype != config.runtime.dtype:
        raise UserError(
            f"{table.where}: was recorded with engine.dtype={table.meta.dtype}, not {config.runtime.dtype}; "
            "set it likewise"
        )
    check_table_texts(table, assembly)


def _show(config: RecordConfig, folder: Path, table: AcceptanceTable) -> None:
    drafters = tuple(dict.fromkeys((*config.models.drafters, *table.columns)))
    macs = {drafter.name: drafter.macs_per_token for drafter in table.meta.drafters}
    infos = drafter_infos(plain_replay(config, drafters).models, macs)
    streams = streams_of_table(table, drafters)
    rounds = walks(streams, infos, config.num_speculative_tokens)
    write_profiles(folder, table, rounds, config.num_speculative_tokens)
    print_table(folder, table, streams, infos, rounds, config.num_speculative_tokens)
