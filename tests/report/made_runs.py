"""Runs made by a toy server, complete enough to draw every figure: no model, the same on every call."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from spinbench.control.records.round_record import RoundColumns, RoundRecord
from spinbench.control.records.run_record import RequestRecord, RunRecord
from spinbench.control.records.span_record import SpanColumns, SpanRecord
from spinbench.json_file import write_json
from spinbench.metrics.store import Kept, write_run
from spinbench.sweep.folder import POINT_FILE, SweepFolder
from spinbench.sweep.point import SweepPoint
from spinbench.sweep.table import write_table

CATEGORIES = ("code", "maths", "chat", "summary", "translation", "extraction", "story", "factual")
DRAFTERS = {  # name: (milliseconds per drafted token, multiply-adds per token, chance of agreeing by category)
    "smollm2-d128-general": (0.5, 1.4e6, (0.42, 0.40, 0.38, 0.40, 0.30, 0.45, 0.36, 0.37)),
    "smollm2-d256-code": (0.9, 3.1e6, (0.66, 0.62, 0.35, 0.38, 0.28, 0.48, 0.33, 0.36)),
    "smollm2-d256-prose": (0.9, 3.1e6, (0.38, 0.36, 0.55, 0.56, 0.40, 0.50, 0.57, 0.55)),
    "smollm2-d576-first-last": (2.2, 10.2e6, (0.64, 0.61, 0.58, 0.59, 0.45, 0.62, 0.59, 0.58)),
    "prompt-lookup": (0.02, 0.0, (0.35, 0.20, 0.12, 0.52, 0.15, 0.68, 0.10, 0.14)),
}
SELECTING = ("random", "epsilon-greedy", "spin")
METHODS = ("plain", *(f"fixed {name}" for name in DRAFTERS if name != "prompt-lookup"), "prompt lookup", *SELECTING)
NUM_SPECULATIVE_TOKENS = 4
VERIFY_S, VERIFY_PER_REQUEST_S = 0.023, 0.002


@dataclass
class _Active:
    index: int
    emitted: int = 1


def made_record(method: str, batch: int, repeat: int, num_requests: int = 24, padded: bool = False) -> RunRecord:
    """A run of `num_requests` requests that are all there at time 0; output tokens do not depend on the method."""
    rng = np.random.default_rng([METHODS.index(method) if method in METHODS else 99, batch, repeat])
    speed = 1 + 0.02 * rng.standard_normal()
    lengths = np.random.default_rng(0).integers(20, 60, num_requests)
    clock_s, round_index = 0.0, 0
    waiting, active = list(range(num_requests)), []
    first_s: dict[int, tuple[float, float]] = {}
    finish_s: dict[int, float] = {}
    rounds: list[RoundRecord] = []
    spans: list[SpanRecord] = []
    while waiting or active:
        while waiting and len(active) < batch:
            index = waiting.pop(0)
            spans.append(
                SpanRecord("target", "prefill", clock_s, clock_s + 0.05 * speed, -1, (f"q{index:03d}",), 30, 465, 0)
            )
            first_s[index] = (clock_s, clock_s + 0.05 * speed)
            clock_s += 0.052 * speed
            active.append(_Active(index))
        chosen = [_choose(method, state.index, round_index, rng) for state in active]
        draft_s = clock_s
        for name in dict.fromkeys(name for name in chosen if name):
            ids = tuple(f"q{s.index:03d}" for s, c in zip(active, chosen, strict=True) if c == name)
            took_s = DRAFTERS[name][0] * 1e-3 * NUM_SPECULATIVE_TOKENS * (1 + 0.1 * len(ids)) * speed
            spans.append(
                SpanRecord(name, "draft", clock_s, clock_s + took_s, round_index, ids, 4 * len(ids), 200 * len(ids), 0)
            )
            clock_s += took_s
        start_s, end_s = clock_s, clock_s + (VERIFY_S + VERIFY_PER_REQUEST_S * len(active)) * speed
        ids = tuple(f"q{s.index:03d}" for s in active)
        contexts = [30 + s.emitted for s in active]
        cells = 5 * sum(contexts), 5 * (max(contexts) * len(contexts) - sum(contexts)) if padded else 0
        keys = max(contexts) * len(contexts) if padded else sum(contexts)
        rows = 5 * len(active)
        spans.append(SpanRecord("target", "verify", start_s, end_s, round_index, ids, rows, *cells, rows, keys))
        clock_s = end_s + 0.0008
        for state, name in zip(active, chosen, strict=True):
            left = int(lengths[state.index]) - state.emitted
            asked = min(NUM_SPECULATIVE_TOKENS, left - 1) if name else 0
            drafted = 0 if name == "prompt-lookup" and rng.random() < 0.4 else asked
            chance = DRAFTERS[name][2][state.index % 8] if name else 0.0
            misses = np.flatnonzero(rng.random(drafted) >= chance)
            accepted = int(misses[0]) if len(misses) else drafted
            rounds.append(
                RoundRecord(
                    round_index=round_index,
                    request_id=f"q{state.index:03d}",
                    drafter=name,
                    num_speculative_tokens=asked,
                    drafted=drafted,
                    accepted=accepted,
                    emitted=accepted + 1,
                    context_tokens=30 + state.emitted,
                    lookup_match_order=2 if drafted else 0,
                    catch_up_tokens=0,
                    batch_size=len(active),
                    draft_start_s=draft_s if name else None,
                    draft_end_s=start_s if name else None,
                    verify_start_s=start_s,
                    verify_end_s=end_s,
                )
            )
            state.emitted += accepted + 1
            if state.emitted >= lengths[state.index]:
                finish_s[state.index] = end_s
        active = [state for state in active if state.index not in finish_s]
        round_index += 1
    requests = tuple(
        RequestRecord(
            request_id=f"q{i:03d}",
            category=CATEGORIES[i % 8],
            seed=i,
            arrival_s=0.0,
            first_scheduled_s=first_s[i][0],
            first_token_s=first_s[i][1],
            finish_s=finish_s[i],
            prompt_tokens=30,
            output_tokens=int(lengths[i]),
            max_new_tokens=64,
            finish_reason="stop",
            num_preemptions=0,
            num_prefill_emitted_tokens=1,
            prompt_token_ids=tuple(range(30)),
            output_token_ids=tuple(int(i * 100 + t) for t in range(lengths[i])),
        )
        for i in range(num_requests)
    )
    return RunRecord(
        requests,
        RoundColumns.of(rounds),
        SpanColumns.of(spans),
        tuple(DRAFTERS) if method != "plain" else (),
        0.0,
        clock_s,
        True,
    )


def _choose(method: str, index: int, round_index: int, rng: np.random.Generator) -> str | None:
    names = list(DRAFTERS)
    if method in ("plain", "hf generate"):
        return None
    if method.startswith("fixed ") or method == "prompt lookup":
        return method.removeprefix("fixed ").replace("prompt lookup", "prompt-lookup")
    if method == "random" or rng.random() < max(0.1, 0.8 - round_index / 150):
        return names[int(rng.integers(len(names)))]
    best = max(names, key=lambda name: DRAFTERS[name][2][index % 8] - DRAFTERS[name][0] * 0.06)
    return best if method == "spin" else "smollm2-d256-code"


def made_meta(method: str, batch: int, repeat: int, **changes: Any) -> dict[str, Any]:
    """The meta.json of such a run."""
    return {
        "method": method,
        "baseline": method == "plain",
        "repeat": repeat,
        "max_num_seqs": batch,
        "engine": "runtime",
        "dtype": "bfloat16",
        "selector": method if method in SELECTING else "fixed",
        "verification": "packed",
        "num_speculative_tokens": 0 if method == "plain" else NUM_SPECULATIVE_TOKENS,
        "models": {
            "target": {
                "name": "SmolLM2-135M-Instruct",
                "kind": "embedded real weights",
                "sha256": "b179" * 16,
                "macs_per_token": 134.5e6,
                "kv_bytes_per_token": 46_080,
            },
            "drafters": [
                {"name": name, "kind": "embedded real weights", "sha256": f"{i}abc" * 16, "macs_per_token": macs}
                for i, (name, (_, macs, _)) in enumerate(DRAFTERS.items())
                if macs
            ],
        },
        "trace": {"name": "mixed", "sha256": "77aa" * 16, "num_requests": 24},
        "hardware": {"device": "cpu", "cpu": "Example CPU 2.4 GHz", "cores": 2, "memory_gb": 16},
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "spinbench": "0.1.0"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "created": "2026-01-02T03:04:05Z",
        "command": f"spinbench replay selector={method.split()[0]} scheduler.max_num_seqs={batch}",
        **changes,
    }


def write_made_run(
    folder: Path,
    method: str,
    batch: int,
    repeat: int,
    record: RunRecord | None = None,
    config: dict[str, Any] | None = None,
    keep: Kept = "all",
    **changes: Any,
) -> Path:
    """Writes one such run and returns its folder."""
    run = record or made_record(method, batch, repeat, padded=changes.get("verification") == "padded")
    texts = {
        r.request_id: f"Answer {r.request_id}:\n```python\nprint({r.request_id!r})\n```\nThat | is all."
        for r in run.requests
    }
    prompts = {r.request_id: f"Write some {r.category} for {r.request_id}." for r in run.requests}
    meta = made_meta(method, batch, repeat, **changes)
    write_run(folder, run, config=config or {"seed": 0}, meta=meta, texts=texts, prompts=prompts, keep=keep)
    return folder


def write_made_sweep(
    root: Path,
    methods: Sequence[str] = ("plain", "random", "spin"),
    lengths: Sequence[int] = (2, 4),
    layouts: Sequence[str] = ("packed", "padded"),
    rates: Sequence[float] = (1.0, 4.0),
    keep: Kept = "summary",
) -> Path:
    """Writes a sweep's folder with a point per method x K x layout x request rate at batch 4, and its table.

    No two points have the same throughput: each has a seed of its own.
    """
    points = []
    for number, (method, length, layout, rate) in enumerate(product(methods, lengths, layouts, rates)):
        config = {
            "seed": 0,
            "selector": {"kind": method},
            "drafting": {"num_speculative_tokens": length},
            "verification": {"kind": layout},
            "arrivals": {"kind": "gamma", "request_rate": rate},
        }
        key = f"{number:04d}"
        points.append(
            SweepPoint(key, key, config, {"selector": method, "verification": layout}, (f"selector={method}",))
        )
    folder = SweepFolder(root)
    folder.add(points)
    for number, point in enumerate(points):
        method, layout = point.choices["selector"], point.choices["verification"]
        record = made_record(method, 4, number, num_requests=8, padded=layout == "padded")
        length = 0 if method == "plain" else int(point.config["drafting"]["num_speculative_tokens"])
        changes: dict[str, Any] = {"verification": layout, "num_speculative_tokens": length, "engine": "simulation"}
        config = dict(point.config)
        path = write_made_run(folder.folder_of(point), method, 4, 0, record, config, keep, **changes)
        metrics = json.loads((path / "summary.json").read_text())
        content = {"key": point.key, "config": config, "choices": dict(point.choices), "metrics": metrics}
        write_json(path / POINT_FILE, content)
    write_table(folder)
    return root


def write_made_runs(
    root: Path, methods: Sequence[str] = METHODS, batches: Sequence[int] = (1, 8), repeats: int = 3
) -> Path:
    """Writes every method x batch x repeat below `root`."""
    for method in methods:
        for batch in batches:
            for repeat in range(repeats):
                write_made_run(root / f"{method.replace(' ', '_')}-b{batch}" / str(repeat), method, batch, repeat)
    return root


def with_other_output(record: RunRecord, request_id: str, position: int) -> RunRecord:
    """The same run with one token of one request changed."""

    def changed(request: RequestRecord) -> RequestRecord:
        ids = list(request.output_token_ids)
        ids[position] += 1
        return replace(request, output_token_ids=tuple(ids))

    return replace(record, requests=tuple(changed(r) if r.request_id == request_id else r for r in record.requests))
