"""What `spinbench distill` does: check the config, load the target, train what is not trained yet."""

from typing import Annotated

import torch
from pydantic import Field

from spinbench.cli.config.device_choice import choose_device, with_known_dtype
from spinbench.cli.config.replay import RuntimeSection, Section, parse_config, require_one_process
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.interrupt import Interrupted
from spinbench.models.distill.config import DistillConfig
from spinbench.models.distill.pipeline import run_distill
from spinbench.models.load import load_target
from spinbench.runtime.out_of_memory import too_little_memory


class DistillCommandConfig(Section):
    """Everything that `spinbench distill` is told."""

    engine: RuntimeSection
    target: Annotated[str, Field(min_length=1)]
    distill: DistillConfig


class Distill:
    """The command."""

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with the config; loads no model."""
        config = parse_config(point.config, DistillCommandConfig)
        require_one_process(config.engine)
        choose_device(config.engine)

    def run(self, point: Point) -> None:
        """Train what is not trained yet. Raises UserError, and Interrupted on Ctrl-C."""
        config = parse_config(point.config, DistillCommandConfig)
        if config.engine.num_threads is not None:
            torch.set_num_threads(config.engine.num_threads)
        less = (
            "lower distill.self_play.batch_lines or distill.self_play.answer_tokens, or train smaller drafters; what "
            f"is finished is kept in distill.work_dir={config.distill.work_dir}"
        )
        try:
            engine = with_known_dtype(config.engine)
            with too_little_memory(f"distilling {config.target}", less):
                target = load_target(config.target, getattr(torch, engine.dtype), choose_device(engine))
                run_distill(config.distill, target)
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"start again with distill.work_dir={config.distill.work_dir} to go on from the last checkpoint"
            ) from error
