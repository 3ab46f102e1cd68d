"""Where the numbers come from: models, trace, hardware, versions, commands, and a few answers as they were served."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from spinbench.metrics.latency import completed_requests
from spinbench.metrics.store import Run
from spinbench.report.section import Section
from spinbench.report.setting import Setting
from spinbench.sweep.folder import SweepFolder
from spinbench.sweep.point import digest

SHOWN_HASH_DIGITS = 12
SHOWN_CHARACTERS = 900


@dataclass(frozen=True)
class Sample:
    """A prompt and the answer that was served."""

    request_id: str
    category: str
    prompt: str
    answer: str
    acceptance_length: float
    """Tokens per round of this request; NaN when it had no round."""


def model_table(section: Section) -> pd.DataFrame:
    """One row per model of the section: role, name, kind, multiply-adds per token, hash."""
    target = section.runs[0].meta["models"]["target"]
    rows = [_model_row("target", target)]
    seen: dict[tuple[str, str], dict[str, str]] = {}
    for run in section.runs:
        for drafter in run.meta["models"].get("drafters", []):
            seen.setdefault((drafter["name"], str(drafter.get("sha256"))), _model_row("drafter", drafter))
    described = {name for name, _ in seen}
    for name in section.drafters:  # copying needs no network, and in a simulation a table needs none either
        if name not in described:
            seen[name, ""] = _model_row("drafter", {"name": name, "kind": "no network"})
    order = {name: place for place, name in enumerate(section.drafters)}
    return pd.DataFrame(
        rows + [row for _, row in sorted(seen.items(), key=lambda item: (order.get(item[0][0], 99), item[0]))]
    )


def facts(section: Section) -> list[tuple[str, str]]:
    """Trace, dtype, hardware, versions, commits and dates of the section's runs, as (what, value) lines."""
    metas = [run.meta for run in section.runs]
    trace = metas[0]["trace"]
    count = f", {trace['num_requests']} requests" if trace.get("num_requests") else ""
    lines = [
        ("trace", f"{trace['name']}{count}, sha256 {trace['sha256'][:SHOWN_HASH_DIGITS]}"),
        ("dtype", section.dtype),
        ("hardware", section.hardware),
        ("engines", _joined(str(meta["engine"]) for meta in metas)),
        ("profile", _joined(_profile(meta["profile"]) for meta in metas if meta.get("profile"))),
        ("acceptance", _joined(_acceptance(meta["acceptance"]) for meta in metas if meta.get("acceptance"))),
        ("outside the profiled range", _joined(text for meta in metas for text in meta.get("warnings") or ())),
        ("sampling", _joined(_flat(meta["sampling"]) for meta in metas if meta.get("sampling"))),
        ("versions", _joined(_flat(meta["versions"]) for meta in metas if meta.get("versions"))),
        ("git commit", _joined(str(meta["git_commit"]) for meta in metas if meta.get("git_commit"))),
        ("runs made", _period([str(meta["created"]) for meta in metas if meta.get("created")])),
    ]
    return [(what, value) for what, value in lines if value]


def commands(section: Section) -> list[str]:
    """The commands that made the runs, each once, in the order of the settings; of a sweep its own, not its points'."""
    found: list[str] = []
    of_sweeps: dict[Path, list[str]] = {}
    for run in section.runs:
        path = run.folder.parent
        if path not in of_sweeps:
            of_sweeps[path] = SweepFolder(path).commands()
        found += of_sweeps[path] or ([str(run.meta["command"])] if run.meta.get("command") else [])
    return list(dict.fromkeys(found))


def run_table(section: Section) -> pd.DataFrame:
    """One row per run: what it is called, where it lies, and what it was made of and with."""
    rows = [
        {
            "label": setting.label,
            "load": setting.load.label,
            "repeat": run.meta.get("repeat", 0),
            "folder": str(run.folder),
            "config_sha256": digest(run.config),
            "trace_sha256": run.meta["trace"]["sha256"],
            "target_sha256": run.meta["models"]["target"]["sha256"],
            "git_commit": run.meta.get("git_commit"),
            "created": run.meta.get("created"),
            "command": run.meta.get("command"),
        }
        for setting in section.settings
        for run in setting.runs
    ]
    return pd.DataFrame(rows)


def config_text(run: Run) -> str:
    """The whole config of a run as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(run.config))).strip()


def samples(setting: Setting, count: int = 4) -> list[Sample]:
    """Up to `count` answers of the setting's first run, of different categories as far as there are."""
    run = setting.runs[0]
    requests = completed_requests(run.requests.dropna(subset=["output_text"]).sort_values("request_id"))
    firsts = pd.concat([requests.drop_duplicates("category"), requests]).drop_duplicates("request_id")
    return [_sample(run, row) for row in firsts.head(count).to_dict("records")]


def _sample(run: Run, row: dict[Any, Any]) -> Sample:
    rounds = run.rounds[run.rounds["request_id"] == row["request_id"]]
    prompt = _cut(row["prompt"]) if isinstance(row["prompt"], str) else ""
    answer = _cut(row["output_text"])
    return Sample(
        request_id=str(row["request_id"]),
        category=row["category"] if isinstance(row["category"], str) else "",
        prompt=prompt,
        answer=answer,
        acceptance_length=float(rounds["emitted"].mean()) if len(rounds) else float("nan"),
    )


def _profile(profile: Mapping[str, Any]) -> str:
    return f"{profile['kind']}, {profile['source']}, {profile['created']}, sha256 {_hash(profile['sha256'])}"


def _acceptance(acceptance: Mapping[str, Any]) -> str:
    digest = acceptance.get("sha256")
    return f"{acceptance['kind']} from {acceptance['source']}" + (f", sha256 {_hash(digest)}" if digest else "")


def _hash(value: object) -> str:
    return str(value)[:SHOWN_HASH_DIGITS]


def _model_row(role: str, model: dict[str, Any]) -> dict[str, str]:
    macs = model.get("macs_per_token")
    return {
        "role": role,
        "name": str(model["name"]),
        "kind": str(model.get("kind") or "not recorded"),
        "multiply-adds per token": f"{macs / 1e6:,.1f} M" if macs else "–",
        "sha256": str(model.get("sha256") or "–")[:SHOWN_HASH_DIGITS],
    }


def _cut(text: str) -> str:
    text = text.strip("\n")
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " [...]"


def _joined(values: Any) -> str:
    return "; ".join(dict.fromkeys(values))


def _flat(value: Any) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)


def _period(dates: Sequence[str]) -> str:
    if not dates:
        return ""
    return min(dates) if min(dates) == max(dates) else f"{min(dates)} to {max(dates)}"
