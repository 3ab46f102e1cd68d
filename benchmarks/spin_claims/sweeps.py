"""What is run for the claims of SPIN's paper: experiments of `conf/experiment`, and one open parameter at a time."""

import re
from collections.abc import Iterator

DTYPE = "bfloat16"
"""Half precision: the V100 has float16 only, of the same size and speed in a roofline."""
LAYOUTS = ("packed", "padded", "grouped", "decomposed")
SMALLEST = "llama-68m-shape"
DEVICE = "v100_32gb_spin"
TARGETS: dict[str, tuple[str, str, int, str]] = {
    "llama_7b": ("llama-7b-shape", DEVICE, 1, DTYPE),
    "llama_13b": ("llama-13b-shape", DEVICE, 2, DTYPE),
    "llama_30b": ("llama-30b-shape", DEVICE, 4, DTYPE),
    "llama_7b,datasheet": ("llama-7b-shape", "v100_32gb", 1, DTYPE),
    "llama_7b,datasheet float32": ("llama-7b-shape", "v100_32gb", 1, "float32"),
}
"""Profiles by models and what is different: target, device, devices of the target, dtype."""

DATASHEETS = {dtype: f"profiles/llama-7b-shape-v100_32gb-{dtype}" for dtype in (DTYPE, "float32")}
FIXED = ["selector=fixed", f"selector.drafter={SMALLEST}"]
WORKLOADS = "trace.path=alpaca_like.yaml,cp_like.yaml,mix_like.yaml"
MIX = "trace.path=mix_like.yaml"
SEEDS = "engine.acceptance_seed=0,1,2"
STEPS: dict[str, list[str]] = {
    "homogeneous": ["experiment=spin", *FIXED],
    "selection": ["experiment=spin", "selector.capacity=2"],
    "decomposition": ["experiment=ablation", "pipeline.depth=1"],
    "pipeline": ["experiment=ablation"],
}
"""The staircase, each step with those before it. The pipeline's depth is adaptive."""
BEST_FIXED = ["experiment=ablation", "selector=fixed", "selector.drafter=llama-1.1b-shape", "~selector.capacity"]
"""Decomposition and pipeline without a selector: the drafter that is the best one for all requests together."""
OWN_REWARD = {name: ["selector=spin_round_goodput", "selector.capacity=null"] for name in list(STEPS)[1:]}

OPEN: dict[str, list[list[str]]] = {
    "K": [[f"drafting.num_speculative_tokens={k}"] for k in (2, 4, 6, 12)],
    "rounds per slot": [[f"selector.rounds_per_slot={rounds}"] for rounds in (1, 2, 8, 16)],
    "slots per epoch": [[f"selector.slots_per_epoch={slots}"] for slots in (2, 4, 16, 32)],
    "exploring slots": [[f"selector.exploring_slots={slots}"] for slots in (0, 2, 4)],
    "requests a drafter may have (B_j)": [[f"selector.capacity={places}"] for places in ("3", "4", "null")],
    "KV of the next drafter": [["switching=on_demand"]],
    "estimate for each request": [["selector.per_request=false"]],
    "weight of others' rounds in it": [[f"selector.prior_rounds={rounds}"] for rounds in (0, 1, 16)],
    "reward": [["selector=spin_round_goodput"], ["selector=spin_round_goodput", "selector.capacity=null"]],
    "width of pieces": [[f"verification.width={width}"] for width in (16, 64, 128, "null")],
    "layout": [[f"verification={layout}", "~verification.width"] for layout in ("packed", "grouped", "padded")],
    "micro-batches": [[f"pipeline.depth={depth}"] for depth in (1, 2, 3, 4)],
    "split of micro-batches": [["pipeline.split=by_length"], ["pipeline.split=round_robin"]],
    "times of jobs": [[f"engine.profile={profile}"] for profile in DATASHEETS.values()],
}  # fmt: skip
"""Open parameters, and values other than the default of `experiment=ablation`; each alone."""
OF_BASELINE = ("K", "times of jobs")
"""Those that homogeneous speculative decoding has as well: the ratio is to it at the same value."""


def sweeps() -> Iterator[tuple[str, list[str]]]:
    """Name of the folder and arguments of `spinbench replay -m` for every sweep."""
    yield "plain", ["experiment=spin", "selector=plain", WORKLOADS, "verification=padded,packed"]
    yield "motivation", ["experiment=motivation"]
    yield "selection", ["experiment=selection"]
    yield "selection", ["experiment=selection", "selector=spin,spin_round_goodput", "selector.capacity=2"]
    free_k = ["drafting=by_selector", "~drafting.num_speculative_tokens"]
    yield "selection", ["experiment=selection", "selector=joint,contextual", *free_k]
    yield "decomposition", ["experiment=decomposition"]
    yield "decomposition", ["experiment=decomposition", "verification=decomposed", "verification.width=32"]
    yield "pipeline", ["experiment=pipeline"]
    yield "pipeline_round_goodput", ["experiment=pipeline", *OWN_REWARD["pipeline"]]
    for dtype in DATASHEETS:
        engine = f"engine.profile={DATASHEETS[dtype]}"
        yield f"datasheet_{dtype}/pipeline", ["experiment=pipeline", engine]
        yield (
            f"datasheet_{dtype}/plain",
            ["experiment=spin", "selector=plain", "verification=packed", WORKLOADS, engine],
        )
        one_batch = ["trace.path=alpaca_like.yaml", "scheduler.max_num_seqs=16", "verification=padded,packed"]
        yield f"datasheet_{dtype}/decomposition", ["experiment=decomposition", *one_batch, engine]
    yield "best_fixed", [*BEST_FIXED, WORKLOADS, SEEDS]
    for step, arguments in STEPS.items():
        yield f"ablation/{step}", [*arguments, WORKLOADS, SEEDS]
        if step in OWN_REWARD:
            yield f"ablation_round_goodput/{step}", [*arguments, *OWN_REWARD[step], WORKLOADS, SEEDS]
        models = f"models={','.join(name for name in TARGETS if ',' not in name)}"
        yield f"scale/{step}", [*arguments, models, "trace.path=alpaca_like.yaml", SEEDS]
    for name, values in OPEN.items():
        for value in values:
            yield open_folder(name, value), ["experiment=ablation", *value, MIX, SEEDS]
            if name in OF_BASELINE:
                yield f"{open_folder(name, value)}/baseline", [*STEPS["homogeneous"], *value, MIX, SEEDS]


def open_folder(name: str, value: list[str]) -> str:
    """Where the runs of one value of an open parameter are."""
    return f"open/{_folder_name(name)}/{_folder_name(','.join(value))}"


def _folder_name(text: str) -> str:
    """Of letters that an override takes as they are."""
    return re.sub(r"[^\w.-]+", "_", text)
