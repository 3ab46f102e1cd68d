"""A profile in the terminal: how far it is, and how well its cost model predicts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from spinbench.calibration.fitting.score import Score
from spinbench.calibration.measuring.measure import OnProgress
from spinbench.calibration.profile.meta import ProfileMeta
from spinbench.cli.progress import REFRESHES_PER_SECOND


@contextmanager
def show_timings() -> Iterator[OnProgress | None]:
    """What `measure` reports to, or None where stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("timings"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND) as display:
        task = display.add_task("profiling", total=None)

        def report(label: str, done: int, total: int) -> None:
            display.update(task, description=escape(label), completed=done, total=total)

        yield report


def print_scores(console: Console, folder: Path, meta: ProfileMeta, scores: Sequence[Score]) -> None:
    """Prints what was profiled, and the errors on held-out jobs."""
    how = "measured" if meta.kind == "measured" else "estimated (analytic), not measured,"
    console.print(
        f"[bold]{escape(meta.target)}[/] and {len(meta.drafters)} drafters, {meta.dtype}, {how} on "
        f"{escape(meta.device.name)}: {meta.num_rows.passes} passes, {meta.num_rows.jobs} jobs",
        highlight=False,
        soft_wrap=True,
    )
    if left_out := meta.did_not_fit:
        console.print(
            f"Left out, as they were out of memory: {left_out.points} passes, jobs and batches of the loop. What fits: "
            f"scheduler.max_num_seqs={left_out.max_num_seqs}, "
            f"scheduler.max_num_batched_tokens={left_out.max_num_batched_tokens}",
            highlight=False,
            soft_wrap=True,
        )
    if pace := meta.device.pace:
        console.print(
            f"Taken out: how the machine moved in pace, {pace.p10:.2f} to {pace.p90:.2f} of its mean (middle 80 %)",
            highlight=False,
            soft_wrap=True,
        )
    if meta.kind != "measured":
        console.print(
            "The errors below say how well the fitted model repeats the roofline, and nothing of the device itself.",
            highlight=False,
            soft_wrap=True,
        )
    # a roofline has no noise to set the errors beside
    of_noise = ("noise %", "floor %") if meta.kind == "measured" else ()
    table = Table("job", "lane", "held-out jobs", "MAPE %", "p90 error %", "bias %", *of_noise, box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for score in scores:
        if score.what == "job":
            figures = (
                score.mape_percent,
                score.p90_percent,
                score.bias_percent,
                *((score.noise_percent, score.floor_percent) if of_noise else ()),
            )
            style = "bold" if score.lane == "all" else None
            table.add_row(
                score.kind, escape(score.lane), str(score.num_points), *(f"{x:.1f}" for x in figures), style=style
            )
    console.print(table)
    console.print(f"  in {escape(str(folder))}", highlight=False, soft_wrap=True)
