"""What meta.json says of a simulated run beside the oracle."""

from typing import Any

from spinbench.cli.config.replay import ReplayConfig
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.oracle.batch_bound import batch_bound
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.optimum import oracle
from spinbench.control.records.run_record import RunRecord
from spinbench.control.regret import Regret, decode_time_s
from spinbench.errors import UserError

NOT_SERIAL = (
    "engine.oracle_num_speculative_tokens: the oracle is known for jobs that run one after another; set "
    "pipeline=serial placement=shared, or null"
)


def check_serial(config: ReplayConfig) -> None:
    """Raise UserError for a run whose jobs may overlap: the oracle's time is that of jobs one after another."""
    if config.replicas > 1:
        raise UserError(
            f"engine.oracle_num_speculative_tokens: the oracle is known for one replica, and replicas is "
            f"{config.replicas}; set replicas=1, or null"
        )
    depth = config.pipeline.get("depth", 1)
    if config.placement.kind != "shared" or depth != 1:
        raise UserError(NOT_SERIAL)


def check_drafts(setting: LoopSetting) -> None:
    """Raise UserError for a run whose drafters draft trees or in company, or beside the verification of others.

    The oracle is that of chains, each of one drafter and made for its round, which others may well beat. Not so
    branches that are chains of one drafter each: what is accepted of them is a chain that the oracle would have drafted
    alone, for fewer rows.
    """
    if setting.drafts_ahead:
        raise UserError(NOT_SERIAL)
    if setting.tree or setting.merged:
        raise UserError(
            "engine.oracle_num_speculative_tokens: the oracle is known for chains, not for token trees (drafting=tree, "
            "selector=merged); set it to null"
        )


def oracle_facts(
    record: RunRecord, foresight: Foresight, model: CostModel, max_num_speculative_tokens: int, max_num_seqs: int
) -> dict[str, Any]:
    """Share of the oracle's goodput and regret, over all requests.

    Raises UserError for a run with preemptions: a prefill that is done again emits tokens that no round has to.
    """
    if any(request.num_preemptions for request in record.requests):
        raise UserError("the run had preemptions, for which the oracle is no bound; raise kv.num_blocks")
    if not record.complete:
        return {}
    if max_num_seqs == 1:
        kind, best = "exact", oracle(foresight, model, max_num_speculative_tokens)
    else:
        kind, best = "bound", batch_bound(foresight, model, max_num_speculative_tokens, max_num_seqs)
    total = Regret(decode_time_s(record), best.time_s, foresight.streams.num_tokens - 1).total
    return {
        "kind": kind,
        "max_num_speculative_tokens": max_num_speculative_tokens,
        "share_of_oracle": float(total.share_of_oracle[0]),
        "regret_s": float(total.regret_s[0]),
        "regret_tokens": float(total.regret_tokens[0]),
    }
