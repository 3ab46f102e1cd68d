"""What a simulated run says of itself in meta.json."""

from collections.abc import Mapping
from typing import Any

from spinbench.calibration.profile.meta import ProfileMeta
from spinbench.calibration.profile.profile_file import Profile
from spinbench.cli.config.replay import SimulationSection


def simulated_facts(
    engine: SimulationSection, profile: Profile, profile_digest: str, acceptance: Mapping[str, Any]
) -> dict[str, Any]:
    """Entries of meta.json: models and hardware as profiled, the profile itself, where acceptance comes from."""
    meta = profile.meta
    return {
        "dtype": meta.dtype,
        "models": {
            "target": {
                "name": meta.target,
                **_model_facts(meta, meta.target),
                "kv_bytes_per_token": meta.model(meta.target).kv_bytes_per_token,
            },
            "drafters": [
                {"name": drafter.name, **_model_facts(meta, drafter.model)}
                for drafter in meta.drafters
                if drafter.model is not None
            ],
        },
        "hardware": {
            "simulated_from": f"{meta.kind} profile",
            "device": meta.device.type,
            "gpu": meta.device.name if meta.device.type == "cuda" else None,
            "cpu": meta.device.name if meta.device.type == "cpu" else None,
            "threads": meta.device.num_threads,
            "count": meta.device.count,
        },
        "profile": {
            "kind": meta.kind,
            "source": engine.profile,
            "sha256": profile_digest,
            "created": meta.created,
        },
        "acceptance": dict(acceptance),
    }


def _model_facts(meta: ProfileMeta, name: str) -> dict[str, Any]:
    model = meta.model(name)
    return {"kind": "profiled", "sha256": model.sha256 or "no weights", "macs_per_token": model.macs_per_token}
