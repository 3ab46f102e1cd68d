"""What rounds cost those who know every text: shares of a full batch, by what overlaps in the run."""

from spinbench.control.oracle.round_cost import RoundCost, exact_round_cost
from spinbench.control.pipeline import share_of_batch
from spinbench.control.selector.protocol import SelectorSetting


def hindsight_costs(setting: SelectorSetting, selector: str) -> list[RoundCost]:
    """At each depth that the pipeline may come to with this batch, the smallest first.

    A batch has all requests of the run, or as many as run at once; at a depth it is cut in as many micro-batches.
    Raises UserError, naming the selector, where nobody knows the texts or what jobs will take.
    """
    foresight, model = setting.require_foresight(selector), setting.require_cost_model(selector)
    batch = max(1, min(setting.max_num_seqs, len(foresight.max_new_tokens)))
    return [
        exact_round_cost(
            model,
            foresight,
            setting.max_num_speculative_tokens,
            num_requests=share_of_batch(batch, depth),
            schedule=setting.schedule.with_in_flight(depth - 1),
        )
        for depth in sorted({min(depth, batch) for depth in setting.depths})
    ]
