"""Weights & Biases."""

from importlib import import_module
from typing import Any

from spinbench.errors import UserError
from spinbench.report.sink.protocol import FinishedRun, require_package


class WandbSink:
    """A run there for each run here. Whether at once, and to whom, say its own variables (WANDB_MODE, ...)."""

    def __init__(self, project: str, entity: str | None, group: str | None) -> None:
        require_package("wandb")
        self._project, self._entity, self._group = project, entity, group

    def send(self, run: FinishedRun) -> None:
        """Config, summary and files."""
        wandb: Any = import_module("wandb")

        try:
            there = wandb.init(
                project=self._project,
                entity=self._entity,
                group=self._group,
                job_type=run.method,
                name=run.name,
                config=run.config,
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off"),
            )
            there.summary.update(run.metrics)
            for path in run.files:
                there.save(str(path.absolute()), base_path=str(run.folder.absolute()), policy="now")
            there.finish()
        except (wandb.Error, OSError) as error:
            raise UserError(f"sink=wandb: {' '.join(str(error).split())}") from error
