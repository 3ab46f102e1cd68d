"""Throughput of the inflated 7B target by every kind of method and batch, beside Hugging Face's `generate`."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.part import Allowance, NotMeasured, Row
from benchmarks.gpu.scene import Scene
from benchmarks.gpu.turns import Turns
from spinbench.models.fetch import default_model_path, is_complete
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP

INFLATED_DRAFTER = "smollm2-d576-slim-general@llama-68m-shape"
TARGET = "llama-7b-shape"
PLAIN = "plain"
OUTPUT_TOKENS = 48
"""Of an answer at the most."""
NUM_PROMPTS = {1: 12, 8: 32, 32: 64}
"""By batch. At batch 1 Hugging Face's `generate` takes 25 ms a token."""


def methods() -> dict[str, list[str]]:
    """Overrides by method and batch, what is most worth knowing first."""
    several = (
        f"models.drafters=[{INFLATED_DRAFTER},smollm2-d576-general@llama-265m-shape,{PROMPT_LOOKUP},smollm2-ngram]"
    )
    one, lookup = f"models.drafters=[{INFLATED_DRAFTER}]", f"models.drafters=[{PROMPT_LOOKUP}]"
    of_kind = {
        PLAIN: ["selector=plain", lookup],
        "fixed": ["selector=fixed", f"selector.drafter={INFLATED_DRAFTER}", one],
        "spin": ["selector=spin", several],
        "joint": ["selector=joint", "drafting=by_selector", several],
        "epsilon_greedy": ["selector=epsilon_greedy", several],
        "lookup": ["selector=fixed", f"selector.drafter={PROMPT_LOOKUP}", lookup],
        "trees": ["selector=fixed", f"selector.drafter={INFLATED_DRAFTER}", "drafting=tree", one],
        "spin on two lanes": [
            "selector=spin", "placement=drafters_together", "pipeline=micro_batches", "pipeline.depth=2", several,
        ],
        "generate": ["engine=huggingface", "selector=plain", lookup],
        "assisted": ["engine=huggingface", "selector=fixed", f"selector.drafter={INFLATED_DRAFTER}", one],
    }  # fmt: skip
    order = [
        *((kind, 8) for kind in (PLAIN, "fixed", "spin", "joint", "generate")),
        *((kind, 1) for kind in (PLAIN, "fixed", "generate", "joint", "assisted")),
        *((kind, 32) for kind in (PLAIN, "joint", "spin", "generate", "fixed")),
        *((kind, 8) for kind in ("epsilon_greedy", "lookup", "spin on two lanes", "trees")),
        *((kind, 1) for kind in ("spin", "epsilon_greedy", "lookup")),
        ("epsilon_greedy", 32),
    ]
    return {
        f"{kind} at batch {batch}": [
            *of_kind[kind], f"scheduler.max_num_seqs={batch}", f"trace.num_prompts={NUM_PROMPTS[batch]}"
        ]
        for kind, batch in order
    }  # fmt: skip


def serving(scene: Scene, out: Path, allowance: Allowance) -> Iterator[Row]:
    """One row per method and batch."""
    require_inflated(scene)
    runs = Turns(out / "serving", ["models=inflated_7b", f"trace.max_output_tokens={OUTPUT_TOKENS}"], methods())
    plain: dict[str, float] = {}
    for run in runs.replayed(allowance):
        kind, _, batch = run.method.partition(" at batch ")
        if run.failure is not None:
            yield {"method": kind, "batch": int(batch), "failure": run.failure}
            continue
        summary = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))
        throughput = summary.get("output_throughput")
        if kind == PLAIN:
            plain[batch] = throughput
        yield {
            "method": kind,
            "batch": int(batch),
            "output_throughput": throughput,
            "over_plain": throughput / plain[batch] if batch in plain else None,
            "acceptance_length": summary.get("spec_decode_acceptance_length"),
            "median_tpot_ms": summary.get("median_tpot_ms"),
            "failure": "",
        }


def require_inflated(scene: Scene) -> None:
    """Raise NotMeasured where the inflated target cannot be had."""
    if not scene.on_cuda:
        raise NotMeasured("a model of LLaMA-7B's sizes is for a GPU")
    if scene.target.name != TARGET:
        raise NotMeasured(f"the GPU has no memory for {TARGET} and its KV cache")
    if not is_complete(default_model_path()):
        raise NotMeasured(f"the default model is not in {default_model_path()}; bring it there (spinbench fetch)")
