"""A run that is ready to start, on either engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spinbench.control.jobs.body import Body
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.records.run_record import RunRecord
from spinbench.workload.request import Trace

OnProgress = Callable[[Progress], None] | None
WrapBody = Callable[[Body], Body]


class Loop(Protocol):
    """Serves a trace."""

    def run(self) -> RunRecord:
        """What happened. Ctrl-C ends the run early with an incomplete record."""
        ...


@dataclass(frozen=True)
class Session:
    """Everything that serves a trace, with the facts that its results must name."""

    trace: Trace
    setting: LoopSetting
    make_loop: Callable[[OnProgress, WrapBody], Loop]
    """Starts the engine's clock and gives the loop, whose body is wrapped first."""
    decode: Callable[[Sequence[int]], str] | None
    """Output token ids to text; None where there is no tokenizer."""
    judge: Callable[[RunRecord], Mapping[str, Any]]
    """Further entries of meta.json that follow from how the run went."""
    warnings: Callable[[], Sequence[str]]
    """What the user should know of how the run went, asked for at its end."""
    facts: Mapping[str, Any]
    """Entries of meta.json that the engine knows: `dtype`, `models`, `hardware` and what it was made from; also those
    in which it differs from what the config's choices say."""
    writes: bool = True
    """Whether this process keeps what came of it; of several that share a target the first one does."""
