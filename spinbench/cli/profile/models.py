"""The models of a profile: loaded ones, or sizes alone, with what the profile's meta file says of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from spinbench.calibration.datasheet.device import BYTES
from spinbench.calibration.profile.loaded_model import model_meta, shape_of
from spinbench.calibration.profile.meta import DrafterMeta, ModelMeta
from spinbench.cli.engine.decisions import drafter_infos
from spinbench.cli.engine.model_shelf import ModelShelf, macs_of
from spinbench.cli.profile.config import ProfileConfig
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.errors import UserError
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.models.model_shape import ModelShape, find_shape
from spinbench.workload.acceptance.drafter_name import is_ngram, kind_of, model_of
from spinbench.workload.acceptance.ngram_model import NgramModel


@dataclass(frozen=True)
class LoadedModels:
    """The target and its drafters in memory."""

    target: TargetModel
    drafters: tuple[tuple[DrafterMeta, DrafterInfo, DrafterModel | NgramModel | None], ...]
    metas: tuple[ModelMeta, ...]

    @property
    def shapes(self) -> dict[str, ModelShape]:
        """Sizes by name, the target's first."""
        found = {self.target.name: shape_of(self.target.name, self.target.model)}
        for meta, _, model in self.drafters:
            if isinstance(model, DrafterModel) and meta.model is not None:
                found.setdefault(meta.model, shape_of(meta.model, model.model))
        return found


def drafter_metas(config: ProfileConfig) -> tuple[DrafterMeta, ...]:
    """What kind each drafter is, and which model it asks."""
    return tuple(
        DrafterMeta(name=name, kind=kind_of(name), model=None if is_ngram(name) else model_of(name))
        for name in config.models.drafters
    )


def named_shapes(config: ProfileConfig) -> dict[str, ModelShape] | None:
    """Sizes by name, the target's first, if the models are shapes; None if they must be loaded.

    Raises UserError for a mixture, and for an unknown shape.
    """
    names = [config.models.target, *(meta.model for meta in drafter_metas(config) if meta.model is not None)]
    found = {name: find_shape(name) for name in names}
    shapes = {name: shape for name, shape in found.items() if shape is not None}
    if shapes and len(shapes) < len(found):
        other = next(name for name, shape in found.items() if shape is None)
        raise UserError(f"models: {next(iter(shapes))} is a shape without weights and {other!r} is none; take one kind")
    return shapes or None


def shape_metas(shapes: Mapping[str, ModelShape], dtype: str) -> tuple[ModelMeta, ...]:
    """What the meta file says of shapes."""
    size = BYTES[dtype]
    return tuple(
        ModelMeta(
            name=name,
            sha256=None,
            macs_per_token=shape.macs_per_token,
            weights_bytes=shape.num_parameters * size,
            kv_bytes_per_token=shape.kv_bytes_per_token(size),
        )
        for name, shape in shapes.items()
    )


def load_models(config: ProfileConfig, shelf: ModelShelf, dtype: str, device: torch.device) -> LoadedModels:
    """The models of the config. Raises UserError for one that cannot be loaded."""
    target = shelf.target(config.models.target, getattr(torch, dtype), device)
    metas = {target.name: model_meta(target.name, target.model, target.weights_sha256)}
    models = shelf.drafters(config.models.drafters)
    for model in models:
        if isinstance(model, DrafterModel):
            metas.setdefault(model.name, model_meta(model.name, model.model, model.weights_sha256))
    infos = drafter_infos(config.models, macs_of(models))
    drafters = tuple(zip(drafter_metas(config), infos, models, strict=True))
    return LoadedModels(target, drafters, tuple(metas.values()))
