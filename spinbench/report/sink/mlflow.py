"""MLflow."""

import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from spinbench.errors import UserError
from spinbench.report.sink.protocol import FinishedRun, require_package

MAX_PARAM_CHARS = 500
"""What every MLflow server takes of a parameter; the whole config is among the files."""


class MlflowSink:
    """A run there for each run here."""

    def __init__(self, experiment: str, tracking_uri: str | None) -> None:
        require_package("mlflow")
        self._experiment, self._tracking_uri = experiment, tracking_uri

    def send(self, run: FinishedRun) -> None:
        """Config as parameters, with dots; metrics; files."""
        mlflow, of = import_module("mlflow"), import_module("mlflow.entities")
        refused: type[Exception] = import_module("mlflow.exceptions").MlflowException
        now_ms = int(time.time() * 1000)
        metrics = [of.Metric(_allowed(name), value, now_ms, 0) for name, value in run.metrics.items()]
        params = [of.Param(_allowed(name), str(value)[:MAX_PARAM_CHARS]) for name, value in flat(run.config).items()]
        try:
            client = mlflow.MlflowClient(tracking_uri=self._tracking_uri)
            known = client.get_experiment_by_name(self._experiment)
            experiment = client.create_experiment(self._experiment) if known is None else known.experiment_id
            there = client.create_run(experiment, run_name=run.name, tags={"method": run.method}).info.run_id
            client.log_batch(there, metrics=metrics, params=params)
            for path in run.files:
                client.log_artifact(there, str(path))
            client.set_terminated(there)
        except (refused, OSError) as error:
            raise UserError(f"sink=mlflow: {' '.join(str(error).split())}") from error


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by key with dots."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _allowed(name: str) -> str:
    """MLflow's names have letters, digits and _-./ : only, a model's `+` for instance not."""
    return "".join(character if character.isalnum() or character in "_-./ :" else "_" for character in name)
