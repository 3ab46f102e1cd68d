"""Speculative runs against a plain run of the same trace: the share of equal answers, and each divergence's logit gap.

    python -m benchmarks.losslessness runs/lossless/plain runs/lossless/spin ... --out reports/losslessness/float32.md

The first folder is the reference. Where two answers part, the target scores the common prefix once more, in float64:
if the two tokens' logits lie within the tolerance of the runs' dtype, rounding decided between them (a near-tie);
anything wider fails, with exit code 1.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console

from benchmarks.entry import run_main
from spinbench.errors import UserError
from spinbench.metrics.store import Run, read_run
from spinbench.models.load import TargetModel, load_target

TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.5}
"""Logit gap up to which rounding can decide: about the spread of a logit over batch shapes, in that dtype."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where one request's answer parts from the reference."""

    method: str
    request_id: str
    position: int
    """Index of the first differing output token."""
    reference_token: int
    token: int
    logit_gap: float
    """Logit of the reference's token minus that of the other, in float64."""


def first_difference(reference: list[int], other: list[int]) -> int | None:
    """Index of the first token that differs, the end of the shorter one included; None if they are equal."""
    for index, (left, right) in enumerate(zip(reference, other, strict=False)):
        if left != right:
            return index
    return None if len(reference) == len(other) else min(len(reference), len(other))


def _answers(run: Run) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and output token ids by request id."""
    columns = run.requests[["request_id", "prompt_token_ids", "output_token_ids"]]
    return {str(name): (list(prompt), list(output)) for name, prompt, output in columns.itertuples(index=False)}


def divergences(target: TargetModel, reference: Run, other: Run) -> list[Divergence]:
    """Every request of `other` whose answer differs. Raises UserError if the runs served different requests."""
    expected, served = _answers(reference), _answers(other)
    if set(expected) != set(served):
        raise UserError(f"{other.meta['method']}: served other requests than {reference.meta['method']}")
    found = []
    for request_id, (prompt, theirs) in expected.items():
        ours = served[request_id][1]
        index = first_difference(theirs, ours)
        if index is None:
            continue
        if index in (len(ours), len(theirs)):
            raise UserError(f"{other.meta['method']}: {request_id} ends after {index} tokens without an end token")
        prefix = [*prompt, *theirs[:index]]
        with torch.inference_mode():
            logits = target.model(torch.tensor([prefix]), use_cache=False, logits_to_keep=1).logits[0, -1]
        gap = float(logits[theirs[index]] - logits[ours[index]])
        found.append(Divergence(str(other.meta["method"]), request_id, index, theirs[index], ours[index], gap))
    return found


def main() -> int:
    """Compare and print; the exit code says whether every divergence is a near-tie."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="the plain run's folder, then the others'")
    parser.add_argument("--out", type=Path, help="Markdown file")
    options = parser.parse_args()
    reference, *others = [read_run(folder) for folder in options.runs]
    tolerance = TOLERANCE[str(reference.meta["dtype"])]
    target = load_target(str(reference.meta["models"]["target"]["name"]), torch.float64, torch.device("cpu"))
    rows, found = [], []
    for run in others:
        parted = divergences(target, reference, run)
        found.extend(parted)
        rows.append(
            {
                "method": run.meta["method"],
                "verification": run.meta.get("verification"),
                "batch": run.meta["max_num_seqs"],
                "requests": len(run.requests),
                "output tokens": int(run.requests["output_tokens"].sum()),
                "equal answers": len(run.requests) - len(parted),
                "largest logit gap": max((abs(d.logit_gap) for d in parted), default=0.0),
                "not a near-tie": sum(abs(d.logit_gap) > tolerance for d in parted),
            }
        )
    lines = [
        f"Reference: {reference.meta['method']}, batch {reference.meta['max_num_seqs']}, {reference.meta['dtype']}, "
        f"trace {reference.meta['trace']['name']}; near-tie = logit gap of at most {tolerance}.",
        "",
        pd.DataFrame(rows).to_markdown(index=False),
        "",
        pd.DataFrame(found).to_markdown(index=False) if found else "No answer differs.",
        "",
    ]
    text = "\n".join(lines)
    Console(width=200).print(text, markup=False)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    return int(any(row["not a near-tie"] for row in rows))


if __name__ == "__main__":
    run_main(main)
