"""What folders of a sweep's points are called, as `hydra.sweep.dir` and `hydra.sweep.subdir` say."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

OF_THE_POINT = re.compile(r"\$\{(?!hydra\b)[A-Za-z_][\w.]*\}")
"""A key of the point's own config."""
OF_THE_JOB = re.compile(r"\$\{(folder_name:\$\{)?hydra\.job\.(num|id|override_dirname)\}(?(1)\})")
"""What most names hold."""
OF_THE_SWEEP = re.compile(r"\$\{now:[^{}]*\}")
"""The same for all points."""


class FolderNames:
    """Names the folders of the points of one combination of choices."""

    def __init__(self, whole: DictConfig) -> None:
        self._whole = whole
        """With the `hydra` node. Where names need it, values are those of the point named last."""
        written: Any = OmegaConf.to_container(whole.hydra.sweep, resolve=False)
        self._written = repr(written)
        naming = whole.hydra.job.config.override_dirname
        self._naming: dict[str, Any] = {
            "kv_sep": naming.kv_sep, "item_sep": naming.item_sep, "exclude_keys": naming.exclude_keys
        }  # fmt: skip
        self._simple: tuple[str, str] | None = None
        """Folder of the sweep, resolved, and the name in it, where that takes no more than to put in what is the job's:
        a tenth of the time."""
        parent, name = str(written["dir"]), str(written["subdir"])
        if _is_literal(OF_THE_SWEEP.sub("", parent)) and _is_literal(OF_THE_JOB.sub("", name)):
            self._simple = str(whole.hydra.sweep.dir), name

    def folder(self, config: DictConfig, number: int, overrides: Sequence[str], parsed: Sequence[Override]) -> Path:
        """Of the point with this number and config, given its overrides as they were written and parsed."""
        dirname = get_overrides_dirname(list(parsed), **self._naming)
        if self._simple is None or "${" in dirname:  # an interpolation in an override is one in the name
            return self._resolved(config, number, overrides, dirname)
        of_job = {"num": str(number), "id": str(number), "override_dirname": dirname}

        def put_in(found: re.Match[str]) -> str:
            value = of_job[found[2]]
            return value.replace("/", "_") if found[1] else value

        parent, name = self._simple
        return Path(parent) / OF_THE_JOB.sub(put_in, name)

    def _resolved(self, config: DictConfig, number: int, overrides: Sequence[str], dirname: str) -> Path:
        whole = self._whole
        OmegaConf.set_readonly(whole.hydra, False)
        job = whole.hydra.job
        with open_dict(whole):
            if "${" in dirname or OF_THE_POINT.search(self._written):
                for key in config:
                    whole[key] = config[key]
            job.id = job.num = number
            job.override_dirname = dirname
            whole.hydra.overrides.task = list(overrides)
        if "${hydra:" in self._written:
            HydraConfig.instance().set_config(whole)
        return Path(str(whole.hydra.sweep.dir)) / str(whole.hydra.sweep.subdir)


def _is_literal(text: str) -> bool:
    """Whether OmegaConf takes it as it stands: no interpolation, nothing escaped."""
    return "$" not in text and "\\" not in text
