"""A connection to a Ray cluster: one of this machine's own, or one that is there."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from spinbench.errors import UserError


def import_ray(what: str) -> Any:
    """The library. Raises UserError, naming `what` needs it, where it is not installed."""
    try:
        return import_module("ray")
    except ImportError as error:
        raise UserError(f"{what} needs Ray: pip install 'spinbench[ray]'") from error


@contextmanager
def ray_cluster(address: str | None, what: str, key: str) -> Iterator[Any]:
    """The library, connected while inside; `address` None = a cluster of this machine's own, which ends with it.

    Raises UserError where Ray is not installed (`what` needs it) or the cluster of the config key cannot be reached.
    """
    ray = import_ray(what)
    try:
        ray.init(
            address=address, include_dashboard=False if address is None else None, log_to_driver=False,
            logging_level=logging.WARNING,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError) as error:
        hint = "" if address is None else " (a cluster that asks for a token needs RAY_AUTH_MODE=token)"
        raise UserError(f"{key} is {address}; {' '.join(str(error).split())}{hint}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
