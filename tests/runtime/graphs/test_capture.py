"""What is captured could be a CUDA graph, and captures keep to torch's and CUDA's rules; shown without a GPU."""

import ast
import gc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spinbench.runtime
from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.runtime.graphs import capture as capture_module
from spinbench.runtime.graphs.capture import WARM_UP_RUNS, capture
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.graphs.replay import GraphMemory, Replays
from spinbench.runtime.graphs.static_draft import StaticDraftLoop
from spinbench.runtime.graphs.static_forward import StaticForward
from spinbench.runtime.graphs.static_tree import StaticTreeLoop
from spinbench.runtime.job_work import JobWork
from spinbench.runtime.lanes.lane import Lanes
from spinbench.runtime.proposals import Proposals
from tests.runtime import serving, tiny_models
from tests.runtime.capture_lint import CaptureLint, NotCapturable, WaitLint, linted_loops

TRACE = serving.requests(4, max_new_tokens=12)
REJECTION = serving.Sampling(temperature=0.9, top_k=30, top_p=0.95, kind="rejection")
TREE = TreeDraftLength([2, 2, 1])
MEMORY = torch.ones(4)
OTHERS = [torch.ones(4), torch.ones(4)]


def keeps_a_mask(values: torch.Tensor) -> torch.Tensor:
    return values[values > 0]


def asks(values: torch.Tensor) -> torch.Tensor:
    return values if values.sum().item() > 0 else -values


def brings_numbers(values: torch.Tensor) -> torch.Tensor:
    return values + torch.tensor([1.0, 2.0, 3.0, 4.0])


def brings_an_array(values: torch.Tensor) -> torch.Tensor:
    return values + torch.from_numpy(np.ones(4, np.float32))


def reads_another(values: torch.Tensor) -> torch.Tensor:
    return values + OTHERS.pop()


def draws(values: torch.Tensor) -> torch.Tensor:
    return values + torch.rand(4)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (keeps_a_mask, "a mask is counted"),
        (asks, "the host waits"),
        (brings_numbers, "comes from the host"),
        (brings_an_array, "comes from the host"),
        (reads_another, "was not there when it was captured"),
        (draws, "draws numbers of its own"),
    ],
)
def test_what_a_graph_cannot_hold_is_found(function: Callable[[torch.Tensor], torch.Tensor], why: str):
    lints = [CaptureLint(), CaptureLint()]
    with pytest.raises(NotCapturable, match=why):  # noqa: PT012 - either of two runs, or what they have in common
        for lint in lints:
            with lint:
                function(MEMORY)
        lints[0].require_same(lints[1])


def test_what_a_graph_can_hold_is_let_through():
    lints = [CaptureLint(), CaptureLint()]
    for lint in lints:
        with lint:
            torch.softmax(MEMORY[torch.zeros(2, dtype=torch.int64)] * 2 + 1, -1)
    lints[0].require_same(lints[1])
    with lints[1]:
        MEMORY.sum()
    with pytest.raises(NotCapturable, match="differ from run to run"):
        lints[0].require_same(lints[1])


@pytest.mark.parametrize(
    "decisions",
    [
        {"selector": "fixed good", "draft_length": 3},
        {"selector": "fixed small_vocabulary", "sampling": serving.NUCLEUS, "policy": "confident product 0.003"},
        {"selector": "fixed good", "sampling": REJECTION, "draft_length": 2, "max_num_seqs": 1},
        {"selector": "fixed good", "draft_length": TREE},
        {"selector": "fixed small_vocabulary", "draft_length": TREE, "sampling": serving.NUCLEUS},
        {"selector": "merged good,poor", "draft_length": 3},
    ],
    ids=["greedy", "noise", "rejection", "trees", "trees with noise", "merged"],
)
def test_all_that_is_captured_could_be_a_graph(monkeypatch, decisions):
    """Every run of each captured function does the same, on the same memory, and asks the host for nothing."""
    runs = linted_loops(monkeypatch.setattr)
    target, models = tiny_models.shared("llama")
    serving.serve(target, models, TRACE, execution=Execution(graphs="eager"), **{"max_num_seqs": 2, **decisions})
    kinds = {type(static) for static in runs}
    drafts = StaticTreeLoop if decisions.get("draft_length") is TREE else StaticDraftLoop
    assert kinds == {StaticForward, drafts}
    for kind in kinds:
        assert max(count for static, count in runs.items() if type(static) is kind) > 1


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in ("llama", "gpt2") else pytest.mark.full_matrix)
        for family in tiny_models.FAMILIES
    ],
)
def test_passes_of_every_family_could_be_graphs(monkeypatch, family):
    runs = linted_loops(monkeypatch.setattr)
    target, models = tiny_models.shared(family)
    serving.serve(target, models, TRACE, selector="fixed good", max_num_seqs=1, execution=Execution(graphs="eager"))
    assert max(runs.values()) > 1


@pytest.mark.parametrize(
    "decisions",
    [
        {"selector": "fixed good"},
        {"selector": "fixed good", "sampling": REJECTION},
        {"selector": "fixed good", "draft_length": TREE},
        {"selector": "fixed prompt_lookup"},
        {"selector": "round_robin", "layout": "padded"},
    ],
    ids=["greedy", "rejection", "trees", "lookup", "padded"],
)
def test_a_round_waits_for_the_device_once(monkeypatch, decisions):
    """A draft brings nothing to the host, a verification what was accepted, in one transfer; nothing else is asked."""
    brought: list[str] = []
    for name in ("cpu", "tolist"):
        real = getattr(torch.Tensor, name)

        def noted(self: torch.Tensor, *rest: Any, name: str = name, real: Any = real) -> Any:
            brought.append(name)
            return real(self, *rest)

        monkeypatch.setattr(torch.Tensor, name, noted)
    counts: dict[str, set[int]] = {"draft": set(), "verify": set()}
    for kind, of_kind in counts.items():
        job = getattr(JobWork, kind)

        def counted(self: JobWork, *rest: Any, job: Any = job, of_kind: set[int] = of_kind) -> Any:
            before = len(brought)
            with WaitLint():
                outcome = job(self, *rest)
            of_kind.add(len(brought) - before)
            return outcome

        monkeypatch.setattr(JobWork, kind, counted)
    target, models = tiny_models.shared("llama")
    serving.serve(target, models, TRACE[:2], execution=Execution(graphs="eager"), **decisions)
    assert counts == {"draft": {0}, "verify": {1}}


def test_numbers_reach_the_device_by_one_way():
    """`upload`, which does not wait; else each would hold the host up until the device has done all before it."""
    folder = Path(spinbench.runtime.__file__).parent
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("from_numpy", "as_tensor"):
                found.append(path.name)
            if isinstance(node, ast.Call) and any(keyword.arg == "device" for keyword in node.keywords):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                found += [path.name] * (name == "tensor")
    # Hugging Face's `generate` waits anyhow
    assert sorted(set(found)) == ["generator.py", "upload.py"]


class Device:
    """Stands for torch.cuda: notes what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, growth: int = 0, fails: BaseException | None = None) -> None:
        self.calls: list[str] = []
        self.reserved = 100
        self.is_capturing = False
        device = self

        class Stream:
            def __init__(self, name: str) -> None:
                self.name = name

            def wait_stream(self, other: "Stream") -> None:
                device.calls.append(f"{self.name} waits for {other.name}")

        class Graph:
            def capture_begin(self, pool: object, capture_error_mode: str) -> None:
                device.is_capturing = True
                assert not gc.isenabled()
                assert capture_module.ONE_AT_A_TIME.locked()
                device.calls.append(f"begin {pool} {capture_error_mode}")

            def capture_end(self) -> None:
                device.is_capturing = False
                device.calls.append("end")
                device.reserved += growth
                if fails is not None:
                    raise RuntimeError("the capture was invalidated")

            def replay(self) -> None:
                device.calls.append("replay")

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda at: Stream("main"))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda at: self.reserved)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
        monkeypatch.setattr(capture_module, "stream_of", lambda purpose, at: Stream(purpose))
        monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: self.calls.append("forget"), raising=False)
        self._fails = fails

    def run(self) -> None:
        self.calls.append("run")
        if self._fails is not None and self.is_capturing:
            raise self._fails


def test_a_capture_warms_up_on_its_own_stream(monkeypatch):
    device = Device(monkeypatch, growth=28)
    captured = capture(device.run, torch.device("cuda"), "pool")
    captured.replay()
    assert device.calls == [
        "capture waits for main", *["run"] * WARM_UP_RUNS, "forget", "begin pool thread_local", "run", "end", "forget",
        "main waits for capture", "replay",
    ]  # fmt: skip
    assert captured.held_bytes == 28
    assert gc.isenabled()


class Kept:
    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run


def test_a_model_that_cannot_be_captured_is_not_tried_again(monkeypatch, caplog):
    device = Device(monkeypatch, fails=RuntimeError("operation not permitted when stream is capturing\nsecond line"))
    replays = Replays("cuda", torch.device("cuda"), GraphMemory())
    assert replays.get("a", lambda: Kept(device.run), lambda static: None) is None
    assert device.calls.count("end") == 1
    assert gc.isenabled()
    assert not capture_module.ONE_AT_A_TIME.locked()
    assert replays.get("b", lambda: Kept(device.run), lambda static: None) is None
    assert device.calls.count("end") == 1
    assert [record.message for record in caplog.records] == [
        "a CUDA graph cannot be captured, so this model goes on without: operation not permitted when stream is capturing"
    ]


def test_without_memory_only_this_size_goes_without(monkeypatch, caplog):
    device = Device(monkeypatch, fails=torch.OutOfMemoryError("no"))
    replays = Replays("cuda", torch.device("cuda"), GraphMemory())
    for key in ("a", "b", "a"):
        assert replays.get(key, lambda: Kept(device.run), lambda static: None) is None
    assert device.calls.count("end") == 2
    assert len(caplog.records) == 1


def test_what_is_merged_between_lanes_is_handed_over(monkeypatch):
    """Drafts are merged on the loop's thread, whose stream the target's lane does not wait for."""
    joined, handed = [], []
    real = Proposals.join
    monkeypatch.setattr(Proposals, "join", lambda self, *rest: (joined.append(1), real(self, *rest))[1])
    monkeypatch.setattr(Lanes, "hand_over", lambda self: handed.append(len(joined)))
    target, models = tiny_models.shared("llama")
    merged = {"selector": "merged good,poor", "draft_length": 2}
    serving.serve(target, models, TRACE[:3], placement="own_devices", **merged)  # type: ignore[arg-type]
    assert handed == list(range(1, len(joined) + 1))
    assert joined
    del joined[:], handed[:]
    serving.serve(target, models, TRACE[:3], **merged)  # type: ignore[arg-type]
    assert joined
    assert not handed
