"""What is compared with and without preparing KV ahead of a switch."""

from dataclasses import dataclass
from pathlib import Path

SWITCHING = ("on_demand", "ahead")
OWN = ["placement=own_devices"]
DEPTH_2 = ["pipeline=micro_batches", "pipeline.depth=2"]


@dataclass(frozen=True)
class SetUp:
    """Points that are compared with each other."""

    key: str
    title: str
    overrides: tuple[str, ...]
    selectors: tuple[tuple[str, ...], ...]
    lanes: tuple[tuple[str, ...], ...]
    """Pipeline and placement."""
    repeats: int
    is_real: bool = False


def set_ups(profiles: Path) -> tuple[SetUp, ...]:
    """Three that are simulated and one that is real; analytic profiles lie in `profiles` by their number format."""
    llama = (
        "models=llama_7b", "engine.acceptance=synthetic",
        "engine.source=llama_drafters.yaml", "drafting.num_speculative_tokens=8",
        "scheduler.max_num_seqs=8",
    )  # fmt: skip
    turns = "selector=round_robin", "selector.rounds_per_choice=4"
    spin_2 = ("selector=spin", "selector.capacity=2")
    lanes = (tuple(OWN), (*OWN, *DEPTH_2))
    one_device = ("placement=shared",)
    return (
        SetUp(
            "smollm2",
            "Simulated: SmolLM2, shipped table and profile (two cores of an AMD EPYC), mixed trace, batch 8, K = 4",
            ("scheduler.max_num_seqs=8",),
            (turns, ("selector=spin",), ("selector=epsilon_greedy",), ("selector=joint", "drafting=by_selector")),
            (one_device, *lanes),
            3,
        ),
        SetUp(
            "llama_short",
            "Simulated: LLaMA-7B, analytic V100 profile (float32), acceptance made up, short prompts, batch 8, K = 8",
            (*llama, f"engine.profile={profiles / 'float32'}", "trace=synthetic", "trace.path=short_prompts.yaml"),
            (turns, spin_2, ("selector=epsilon_greedy",)),
            lanes,
            3,
        ),
        SetUp(
            "llama_chat",
            "Simulated: the same in bfloat16 with prompts of up to 2,048 tokens (`synthetic_chat.yaml`, 128 requests)",
            (*llama, f"engine.profile={profiles / 'bfloat16'}", "trace=synthetic",
             "trace.max_prompt_tokens=2048", "trace.max_output_tokens=256",
             "trace.num_prompts=128"),
            (turns, spin_2, ("selector=epsilon_greedy",)),
            lanes,
            3,
        ),
        SetUp(
            "real",
            "Real: SmolLM2 in bfloat16, two CPU cores, 16 requests of the mixed trace, 64 tokens, batch 4, K = 4",
            ("arrivals=all_at_once", "scheduler.max_num_seqs=4", "trace.num_prompts=16", "trace.sample_seed=526",
             "trace.max_output_tokens=64"),
            (turns,),
            (one_device, ("placement=drafters_together",)),
            3,
            is_real=True,
        ),
    )  # fmt: skip
