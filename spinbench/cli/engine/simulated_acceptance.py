"""Where a simulation's acceptance comes from: a recorded table, a bootstrap from one, or a law."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spinbench.cli.config.replay import SimulationSection
from spinbench.errors import UserError
from spinbench.workload.acceptance.bootstrap import streams_by_bootstrap
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.streams import AcceptanceStreams
from spinbench.workload.acceptance.synthetic import SyntheticLaw, synthetic_streams
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.request import Request, Trace


@dataclass(frozen=True)
class SimulatedAcceptance:
    """Acceptance of a trace, and the lengths of its prompts."""

    table: AcceptanceTable | None
    facts: Mapping[str, Any]
    streams: Callable[[tuple[Request, ...], tuple[str, ...]], AcceptanceStreams]

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Tokens that end a text; none where texts are only lengths."""
        return frozenset(self.table.meta.eos_token_ids) if self.table else frozenset()

    def prompt_tokens(self, request: Request) -> int:
        """Tokens of a prompt: as the trace says, else as recorded."""
        if request.prompt_len_tokens is not None:
            return request.prompt_len_tokens
        if request.prompt_token_ids is not None:
            return len(request.prompt_token_ids)
        row = None if self.table is None else self.table.requests.row_of.get(request.id)
        if row is None or self.table is None:
            raise UserError(
                f"request {request.id!r} has a prompt of text, whose length is known only where it was recorded; set "
                "engine.acceptance=table with a table of this trace"
            )
        return int(self.table.requests.prompt_tokens[row])


def simulated_acceptance(
    engine: SimulationSection, trace: Trace, known: tuple[AcceptanceTable, str] | SyntheticLaw
) -> SimulatedAcceptance:
    """What `engine` says of it; `known` is the config's table and its digest, or its law. Raises UserError."""
    if isinstance(known, SyntheticLaw):
        law, seed = known, engine.acceptance_seed
        return SimulatedAcceptance(
            None, {"kind": "synthetic", "source": engine.source, "seed": seed},
            lambda requests, names: synthetic_streams(requests, names, law, seed),
        )  # fmt: skip
    table, digest = known
    facts: dict[str, Any] = {"kind": engine.acceptance, "source": engine.source, "sha256": digest}
    if engine.acceptance == "table":
        table.check_matches(trace_sha256=trace.sha256)
        return SimulatedAcceptance(table, facts, lambda requests, names: streams_from_table(table, requests, names))
    seed = engine.acceptance_seed
    facts["seed"] = seed
    return SimulatedAcceptance(table, facts, lambda requests, names: streams_by_bootstrap(table, requests, names, seed))
