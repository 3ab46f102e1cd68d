"""How a server's jobs are arranged: in which order, on which devices, on how many replicas."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Arrangement:
    """What reports call each part of it; a part without a meaning is None."""

    depth: str
    """`serial` where jobs run one after another, or how many micro-batches there are."""
    split: str | None
    """By what requests are put into micro-batches; None where there are none."""
    placement: str
    """Which models share a device."""
    is_ahead: bool
    """Whether KV is prepared before drafters change."""
    replicas: int
    router: str | None
    """Who chooses among replicas; None where there is one."""

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Arrangement":
        """That of a run, by its meta.json."""
        pipeline = str(meta.get("pipeline") or "serial")
        depth, _, split = pipeline.rpartition(" ") if "depth" in pipeline else (pipeline, "", None)
        replicas = int(meta.get("replicas", 1))
        return cls(
            depth=depth.replace("_", " "),
            split=split and split.replace("_", " "),
            placement=str(meta.get("placement") or "shared").replace("_", " "),
            is_ahead=meta.get("switching") == "ahead",
            replicas=replicas,
            router=str(meta.get("router")).replace("_", " ") if replicas > 1 else None,
        )

    def __str__(self) -> str:
        """All of it."""
        return self.told(frozenset(NAMES))

    def told(self, parts: frozenset[str]) -> str:
        """Those parts of it, in words; empty for none."""
        if not parts:
            return ""
        running = [getattr(self, name) for name in ("depth", "split", "placement") if name in parts]
        replicas = [f"{self.replicas} replicas"] if "replicas" in parts and self.replicas > 1 else []
        router = [self.router] if "router" in parts and self.router else []
        ahead = ["KV ahead"] if "is_ahead" in parts and self.is_ahead else []
        told = [" ".join(filter(None, running)), *ahead, " ".join([*replicas, *router])]
        return ", ".join(filter(None, told)) or ("KV on demand" if "is_ahead" in parts else "1 replica")


NAMES = tuple(field.name for field in fields(Arrangement))


def varying_parts(arrangements: Iterable[Arrangement]) -> frozenset[str]:
    """Names of the parts in which those differ that have them."""
    found = list(arrangements)
    return frozenset(name for name in NAMES if len({getattr(one, name) for one in found} - {None}) > 1)
