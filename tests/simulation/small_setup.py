"""Files that a simulation reads, small: traces, laws, a table, profiles; and configs that name them."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from spinbench.calibration.datasheet.analytic import analytic_profile
from spinbench.calibration.datasheet.device import read_device
from spinbench.calibration.profile.device_meta import DeviceMeta
from spinbench.calibration.profile.meta import DrafterMeta, LimitsMeta, ModelMeta, ProfileMeta, RowsMeta, SamplingMeta
from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.calibration.profile.profile_file import Profile, write_profile
from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.cli.locations import shipped_folder
from spinbench.control.records.run_record import RunRecord
from spinbench.models.model_shape import llama_shape
from spinbench.workload.acceptance.table_file import write_table
from spinbench.workload.acceptance.table_meta import TraceMeta
from tests.composed import composed
from tests.workload.acceptance.made_table import made_table

CONF = shipped_folder("conf")
TARGET = "big-shape"
DRAFTERS = ["tiny-shape", "small-shape", "prompt_lookup", "small-shape+prompt_lookup"]
LIMITS = {
    "max_num_seqs": 16, "max_context_tokens": 512, "max_num_batched_tokens": 1024, "max_num_speculative_tokens": 8,
}  # fmt: skip
LAW = """
coupling: {coupling}
classes:
  - name: code
    acceptance_rates: {{tiny-shape: [0.6], small-shape: [0.8]}}
    lookup: {{match_probability: [0.2, 0.1, 0.3], acceptance_rates: [0.2, 0.5, 0.9]}}
  - name: chat
    acceptance_rates: {{tiny-shape: [0.5], small-shape: [0.55, 0.5]}}
    lookup: {{match_probability: [0.2, 0.1, 0.0], acceptance_rates: [0.1, 0.3, 0.0]}}
"""


def write_setup(folder: Path) -> None:
    """All files, into an empty folder."""
    for name, device in (("profile", "l4"), ("faster", "h100_sxm")):
        write_profile(folder / name, _profile(device))
    (folder / "law.yaml").write_text(LAW.format(coupling=0.0))
    (folder / "other_law.yaml").write_text(LAW.format(coupling=1.0))
    rng = np.random.default_rng(0)
    lines = [
        {
            "id": f"r{row}", "arrival_s": round(0.02 * row, 6), "max_new_tokens": int(rng.integers(10, 60)),
            "prompt_len_tokens": int(rng.integers(5, 200)), "ignore_eos": True, "category": ("code", "chat")[row % 2],
            "seed": row,
        }
        for row in range(16)
    ]  # fmt: skip
    _write_lines(folder / "trace.jsonl", lines)
    _write_lines(folder / "other_trace.jsonl", [line | {"max_new_tokens": 30} for line in lines])
    timed = [
        {"timestamp": 20 * row, "input_length": 9, "output_length": 5 + row, "hash_ids": [row]} for row in range(5)
    ]  # fmt: skip
    _write_lines(folder / "timed.jsonl", timed)
    questions = [{"question_id": row, "category": "chat", "turns": ["Why?"]} for row in range(4)]
    _write_lines(folder / "questions.jsonl", questions)
    _write_recorded(folder / "questions_table", folder / "questions.jsonl", [str(row) for row in range(4)])


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_recorded(folder: Path, trace: Path, ids: list[str], num_tokens: int = 128) -> None:
    rng = np.random.default_rng(1)
    ranks = {
        name: [(rng.random(num_tokens) < 0.4).astype(int).tolist() for _ in ids]
        for name in ("tiny-shape", "small-shape")
    }
    texts = [rng.integers(2, 9, num_tokens).tolist() for _ in ids]
    table = made_table(ranks, token_ids=texts, rollout_tokens=3)
    named = TraceMeta(name=trace.stem, sha256=hashlib.sha256(trace.read_bytes()).hexdigest())
    table = replace(
        table, meta=table.meta.model_copy(update={"trace": named}), requests=replace(table.requests, ids=tuple(ids))
    )
    write_table(folder, table)


@functools.cache
def _profile(device_name: str) -> Profile:
    device = read_device(device_name)
    shapes = {
        shape.name: shape
        for shape in (
            llama_shape("big", 8, 1024, 2816, 16, 16, "made up"),
            llama_shape("small", 2, 512, 1408, 8, 8, "made up"),
            llama_shape("tiny", 1, 128, 352, 2, 2, "made up"),
        )
    }
    drafters = tuple(
        DrafterMeta(
            name=name,
            kind="lookup_then_model" if "+" in name else "model" if "shape" in name else "prompt_lookup",
            model=name.removesuffix("+prompt_lookup") if "shape" in name else None,
        )
        for name in DRAFTERS
    )
    tables = analytic_profile(
        device, shapes[TARGET], drafters, shapes, dtype="float16", limits=ProfileLimits(**LIMITS),
        layouts=["packed", "padded", "grouped", "decomposed"],
    )  # fmt: skip
    meta = ProfileMeta(
        format=1,
        kind="analytic",
        device=DeviceMeta(
            name=device.name, type="cuda", memory_bytes=device.memory_bytes, count=1, num_threads=None, driver=None
        ),
        dtype="float16",
        sampling=SamplingMeta(temperature=0.0, top_p=1.0, top_k=0),
        limits=LimitsMeta(**LIMITS),
        target=TARGET,
        models=tuple(
            ModelMeta(
                name=shape.name, sha256=None, macs_per_token=shape.macs_per_token,
                weights_bytes=2 * shape.num_parameters, kv_bytes_per_token=shape.kv_bytes_per_token(2),
            )
            for shape in shapes.values()
        ),
        drafters=drafters,
        num_rows=RowsMeta(passes=len(tables.passes), jobs=len(tables.jobs), host=len(tables.gaps)),
        versions={}, git_commit=None, created="2026-01-01T00:00:00Z", command="made by a test", assumptions={},
    )  # fmt: skip
    return Profile(meta, tables)


class SmallRuns:
    """Simulates configs in a folder of `write_setup`, each of them once."""

    def __init__(self) -> None:
        self._engine = SimulatedEngine()
        self._digests: dict[str, str] = {}

    def result(self, choices: Mapping[str, str], values: Mapping[str, Any]) -> str:
        """A digest of all records of the run with these choices of config groups and then these values."""
        config = _composed(tuple(sorted({**CHOICES, **choices}.items()))).copy()
        for key, value in {**VALUES, **values}.items():
            OmegaConf.update(config, key, value)
        key = OmegaConf.to_yaml(config, resolve=True)
        if key not in self._digests:
            self._digests[key] = digest(self._run(parse_config(config, ReplayConfig)))
        return self._digests[key]

    def _run(self, config: ReplayConfig) -> RunRecord:
        self._engine.check(config)
        with self._engine.session(config) as session:
            return session.make_loop(None, lambda body: body).run()


CHOICES = {
    "engine": "simulation", "models": "huggingface", "trace": "mixed", "selector": "round_robin", "arrivals": "trace",
}  # fmt: skip
VALUES: dict[str, Any] = {
    "engine.profile": "profile", "engine.acceptance": "synthetic", "engine.source": "law.yaml",
    "models.target": TARGET, "models.drafters": DRAFTERS, "trace.path": "trace.jsonl", "scheduler.max_num_seqs": 4,
}  # fmt: skip


WHAT_WAS_ASKED = ("drafters", "num_speculative_tokens")
"""Columns that repeat the config: they would show a change that does nothing."""


def digest(record: RunRecord) -> str:
    """Of everything that happened in a run, times included."""
    parts: list[object] = [record.requests, record.start_s, record.end_s, record.complete]
    for columns in (record.rounds, record.spans):
        for field in fields(columns):
            if field.name not in WHAT_WAS_ASKED:
                value = getattr(columns, field.name)
                parts.append(value.tolist() if isinstance(value, np.ndarray) else value)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@functools.cache
def _composed(choices: tuple[tuple[str, str], ...]) -> DictConfig:
    return composed(*(f"{group}={choice}" for group, choice in choices))
