"""What is composed once is what Hydra's own loader composes, the `hydra` node included, and so are its errors."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from spinbench.cli.hydra_app.composition_cache import CompositionCache
from spinbench.cli.hydra_app.config_loader import ComposedOnce
from spinbench.cli.hydra_app.session import hydra_session, parse_arguments


@dataclass(frozen=True)
class Loaders:
    hydras: ConfigLoaderImpl
    ours: ComposedOnce


@pytest.fixture
def loaders() -> Iterator[Loaders]:
    with hydra_session("replay", parse_arguments("replay", [])) as hydra:
        path = hydra.config_loader.get_search_path()
        files = dict.fromkeys(("main", "hydra", "schema"), CompositionCache())
        yield Loaders(ConfigLoaderImpl(path), ComposedOnce(path, CompositionCache(), files))


def said(config: DictConfig) -> tuple[str, list[object], bool | None]:
    return OmegaConf.to_yaml(config), list(config), OmegaConf.is_struct(config)


@pytest.mark.parametrize(
    ("mode", "overrides"),
    [
        (RunMode.RUN, ["selector=fixed", "selector.drafter=a", "trace.path=x", "hydra.run.dir=here", "models.drafters=[]"]),
        (RunMode.RUN, ["experiment=demo", "pipeline=micro_batches", "pipeline.depth=2", "+noted=a", "~kv.block_size", "++kv={num_blocks: 3}"]),
        (RunMode.RUN, ["hydra.job.env_copy=[PATH]", "hydra.job.name=mine", "hydra.verbose=true"]),
        (RunMode.RUN, ["hydra.searchpath=[file:///nowhere]", "seed=4"]),
        (RunMode.MULTIRUN, ["selector=plain,spin", "seed=0,1", "hydra.sweep.dir=there"]),
        (RunMode.MULTIRUN, ["hydra.job.config.override_dirname.exclude_keys=[seed]", "seed=1", "repeat=2"]),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:provider=hydra.searchpath")
def test_it_composes_what_hydra_does(loaders: Loaders, mode: RunMode, overrides: list[str]) -> None:
    expected = said(loaders.hydras.load_configuration("replay", overrides, mode))
    first = loaders.ours.load_configuration("replay", overrides, mode)
    assert said(first) == expected
    first.seed = 99  # the caller's own
    assert said(loaders.ours.load_configuration("replay", overrides, mode)) == expected


@pytest.mark.parametrize("overrides", [["selector=nobody"], ["no_such_key=1"], ["seed=0,1"], ["seed="], ["kv=[1"]])
def test_its_errors_are_hydras(loaders: Loaders, overrides: list[str]) -> None:
    errors = []
    for loader in (loaders.hydras, loaders.ours):
        try:
            loader.load_configuration("replay", overrides, RunMode.RUN)
            errors.append(None)
        except HydraException as error:
            errors.append((type(error), str(error)))
    assert errors[0] == errors[1]
