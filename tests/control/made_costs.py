"""Cost models with made-up numbers, such that nothing is free by accident and no two things cost the same."""

from collections.abc import Sequence

import numpy as np

from spinbench.control.cost_curve import Curve, RaggedAttention, RectangleAttention
from spinbench.control.cost_model import CostModel, DrafterCost, GapCost, JobCost, ModelCost
from spinbench.control.drafter import DrafterInfo

MAX_ROWS = 64


def cost_model(drafters: Sequence[DrafterInfo], seed: int = 0, drafter_scale: float = 0.2) -> CostModel:
    """Random costs, of milliseconds and below; a drafter's are `drafter_scale` of the target's."""
    rng = np.random.default_rng(seed)
    target = _model("target", rng, 1.0)
    return CostModel(
        target=target,
        drafters=tuple(_drafter(info, rng, drafter_scale) for info in drafters),
        prefill=_job(rng, 1.0),
        verify={"packed": _job(rng, 1.0), "padded": _job(rng, 1.0)},
        gaps={kind: GapCost(*(1e-4 * rng.random(2))) for kind in ("prefill", "catch_up", "draft", "verify")},
    )


def _drafter(info: DrafterInfo, rng: np.random.Generator, scale: float) -> DrafterCost:
    model = _model(info.name, rng, scale) if info.kind != "prompt_lookup" else None
    return DrafterCost(
        info.name,
        model,
        _job(rng, scale) if model else None,
        _job(rng, scale) if model else None,
        JobCost(0.0, *(1e-4 * rng.random(2)), 0.0) if info.kind != "model" else None,
    )


def _job(rng: np.random.Generator, scale: float) -> JobCost:
    return JobCost(1 + rng.random(), *(scale * 1e-4 * rng.random(3)))


def _model(name: str, rng: np.random.Generator, scale: float) -> ModelCost:
    def curve(start_s: float) -> Curve:
        # steps of very different sizes, so neither convex nor concave
        steps = scale * 1e-3 * rng.random(MAX_ROWS - 1) ** 4
        return Curve(tuple(range(1, MAX_ROWS + 1)), tuple((start_s + np.cumsum([0.0, *steps])).tolist()))

    def coefficients(count: int) -> list[float]:
        return (scale * 1e-6 * rng.random(count)).tolist()

    return ModelCost(
        name=name,
        forward=curve(scale * 1e-3 * (0.5 + rng.random())),
        head=curve(0.0),
        ragged=RaggedAttention(*coefficients(9)),
        rectangle={"padded": RectangleAttention(*coefficients(5))},
        max_num_requests=MAX_ROWS,
        max_context_tokens=4096,
    )
