"""Cost models with made-up numbers, such that nothing is free by accident and no two things cost the same."""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from spinbench.control.cost_curve import Curve, RaggedAttention, RectangleAttention
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.job_cost import GapCost, JobCost
from spinbench.control.costs.model_cost import DrafterCost, ModelCost
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.layout.plan import LayoutKind

MAX_ROWS = 64


def cost_model(
    drafters: Sequence[DrafterInfo], seed: int = 0, drafter_scale: float = 0.2, straight: bool = False
) -> CostModel:
    """Random costs, of milliseconds and below; a drafter's are `drafter_scale` of the target's.

    Curves over rows rise by steps of very different sizes, or, if `straight`, by equal ones.
    """
    rng = np.random.default_rng(seed)
    target = _model("target", rng, 1.0, straight)
    return CostModel(
        target=target,
        drafters=tuple(_drafter(info, rng, drafter_scale, straight) for info in drafters),
        prefill=_job(rng, 1.0),
        verify={kind: _job(rng, 1.0) for kind in get_args(LayoutKind)},
        gaps={kind: GapCost(*(1e-4 * rng.random(2))) for kind in ("prefill", "catch_up", "draft", "verify")},
    )


def _drafter(info: DrafterInfo, rng: np.random.Generator, scale: float, straight: bool) -> DrafterCost:
    model = _model(info.name, rng, scale, straight) if info.kind != "prompt_lookup" else None
    return DrafterCost(
        info.name,
        model,
        _job(rng, scale) if model else None,
        _job(rng, scale) if model else None,
        JobCost(0.0, 1e-4 * rng.random(), 1e-4 * rng.random(), 0.0) if info.kind != "model" else None,
    )


def _job(rng: np.random.Generator, scale: float) -> JobCost:
    job_s, request_s, pass_s = (scale * 1e-4 * rng.random(3)).tolist()
    return JobCost(1 + rng.random(), job_s, request_s, pass_s)


def _model(name: str, rng: np.random.Generator, scale: float, straight: bool) -> ModelCost:
    def curve(start_s: float) -> Curve:
        sizes = np.full(MAX_ROWS - 1, 0.1) if straight else rng.random(MAX_ROWS - 1) ** 4
        steps = scale * 1e-3 * sizes
        return Curve(tuple(range(1, MAX_ROWS + 1)), tuple((start_s + np.cumsum([0.0, *steps])).tolist()))

    def coefficients(count: int) -> list[float]:
        return (scale * 1e-6 * rng.random(count)).tolist()

    return ModelCost(
        name=name,
        forward=curve(scale * 1e-3 * (0.5 + rng.random())),
        head=curve(0.0),
        ragged=RaggedAttention(*coefficients(6), whole=curve(0.0)),
        rectangle={
            "padded": RectangleAttention(*coefficients(5)),
            "grouped": RectangleAttention(*coefficients(5)),
            "decomposed": RectangleAttention(*coefficients(7)),
        },
        max_num_requests=MAX_ROWS,
        max_context_tokens=4096,
    )
