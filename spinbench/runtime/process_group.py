"""The processes that share a target: all take the same decisions, on the clock and the drafts of the first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from spinbench.control.jobs.job import Job
from spinbench.control.jobs.result import PrefillResult, Result, VerifyResult
from spinbench.control.records.span_chunk import kind_of
from spinbench.runtime.draft import Draft
from spinbench.runtime.job_work import Outcome
from spinbench.runtime.out_of_memory import TooLittleMemory, too_little_memory

Value = TypeVar("Value")


class RunEnded(KeyboardInterrupt):
    """Ends a run as Ctrl-C does: what is finished is kept."""


@dataclass(slots=True)
class Ranks:
    """This process among `size`. What is said between them goes over a group on the hosts, beside the target's own."""

    rank: int
    size: int
    _group: Any
    ended_by: str | None = None
    """Why the first process cannot go on. It says nothing to the others any more, which wait for it in their passes."""

    @classmethod
    def join(cls, device: torch.device) -> "Ranks":
        """Meet the other processes, as torchrun's environment names them; each has brought its device."""
        if not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
                dist.init_process_group("nccl", device_id=device)
            else:
                dist.init_process_group("gloo")
        return cls(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))

    @property
    def is_first(self) -> bool:
        """Whether this process has the drafters and the clock, and writes the results."""
        return self.rank == 0

    def of_first(self, value: Value) -> Value:
        """The first process's `value`, in all of them."""
        if self.ended_by is not None:
            return value
        box = [value if self.is_first else None]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]  # pyright: ignore[reportReturnType]

    def least(self, number: int) -> int:
        """The smallest of all processes' numbers."""
        box = torch.tensor(number)
        dist.all_reduce(box, op=dist.ReduceOp.MIN, group=self._group)
        return int(box)

    def agree(self, outcome: Outcome, start_s: float, end_s: float) -> tuple[Outcome, float, float]:
        """What a job came to and when, as the first process has it; tokens only, laws stay with who drew from them."""
        told = (_on_host(outcome), start_s, end_s) if self.is_first else None
        told = self.of_first(told)
        return (outcome, start_s, end_s) if self.is_first or told is None else told

    @contextmanager
    def doing(self, job: Job) -> Iterator[None]:
        """Where `job` is done, which ends the run if this process has too little memory for its part of it.

        By then the others wait in the midst of the same pass, so that it cannot be done again in smaller batches.
        Raises RunEnded in the first process, and TooLittleMemory in another one; torchrun ends those that wait.
        """
        about = f"process {self.rank} of {self.size}, in a {kind_of(job)} job of {len(job.spans)} requests"
        try:
            with too_little_memory(
                about,
                "with engine.tensor_parallel this ends the run: lower kv.gpu_memory_utilization, "
                "scheduler.max_num_seqs or scheduler.max_num_batched_tokens",
            ):
                yield
        except TooLittleMemory as error:
            if not self.is_first:
                raise
            self.ended_by = str(error)
            if threading.current_thread() is threading.main_thread():
                # torchrun sends it as soon as another process has ended, and what is finished is still to be written
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise RunEnded from None

    def leave(self) -> None:
        """End the connections; nothing can be said any more."""
        dist.destroy_process_group()


def _on_host(outcome: Outcome) -> Outcome:
    drafts = tuple(Draft(draft.token_ids.cpu(), parents=draft.parents) for draft in outcome.drafts)
    return Outcome(outcome.result, drafts, outcome.path)


def on_device(outcome: Outcome, device: torch.device) -> Outcome:
    """The same with its tokens on `device`."""
    drafts = tuple(Draft(draft.token_ids.to(device), parents=draft.parents) for draft in outcome.drafts)
    return Outcome(outcome.result, drafts, outcome.path)


def require_same(own: Result, first: Result) -> None:
    """Raise RuntimeError where this process's target chose other tokens than the first's: its part is not right."""
    if isinstance(own, PrefillResult) and isinstance(first, PrefillResult):
        same = np.array_equal(own.token_ids, first.token_ids)
    elif isinstance(own, VerifyResult) and isinstance(first, VerifyResult):
        emitted = np.arange(first.token_ids.shape[1]) < first.num_emitted[:, None]
        same = np.array_equal(own.num_emitted, first.num_emitted)
        same = same and np.array_equal(own.token_ids[emitted], first.token_ids[emitted])
    else:
        return
    if not same:
        raise RuntimeError("the target chose other tokens in this process than in the first one: their parts differ")
