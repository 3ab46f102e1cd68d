import gc
import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; it is read as they are imported
# Tiny models gain nothing from threads, and several workers with threads of their own stall each other: nor do the
# processes that tests start have any. Read as torch is imported, which this file does not: xdist's own process has no
# use for it, and no worker starts before it has read this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What one process has compiled no other one need compile: some containers have Python keep nothing of it, and workers and
# the processes that tests start all import the package. It is kept where Python keeps it anywhere else, in __pycache__.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests import covering

sys.dont_write_bytecode = False  # nor here, see above
# A shell that starts us in the background has us ignore Ctrl-C, and the processes that tests start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_LAST = ("models", "report", "simulation", "runtime", "cli", "mutations")
"""Folders whose tests take longer than a blink, in the order in which they run behind all others."""
LONGEST = (
    "simulation/test_exactness.py", "cli/test_recommend.py", "cli/test_simulation.py", "cli/test_replay.py",
    "simulation/test_sensitivity.py", "mutations/test_mutations.py", "runtime/test_rejection.py", "runtime/test_lossless.py",
)  # fmt: skip
"""Files that take longest, longest first: they run in front of the other slow ones, so that none is left to the end."""


@pytest.fixture(scope="session", autouse=True)
def of_shipped_files() -> Iterator[None]:
    """Commands given in this process share what Hydra reads and composes of files that came with the package."""
    from spinbench.cli.hydra_app.session import composed_once

    with composed_once():
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    covering.parametrize(metafunc)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # what is cheap to know is known first; xdist hands out in this order
    items.sort(key=_place)


def pytest_collection_finish() -> None:
    # what has been imported stays: it need not be looked through for garbage again and again
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # so that Python ends as it would


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By files, in our order, not xdist's."""
    if config.getoption("dist") != "load":
        return None  # somebody asked for another way
    from tests.by_file import FileScheduling

    config.option.loadscopereorder = False
    return FileScheduling(config, log)


def _place(item: pytest.Item) -> tuple[int, int]:
    path = item.nodeid.partition("::")[0].removeprefix("tests/")
    folder = path.partition("/")[0]
    if path in LONGEST:
        return 0, LONGEST.index(path)
    return (1, SLOW_LAST.index(folder)) if folder in SLOW_LAST else (-1, 0)
