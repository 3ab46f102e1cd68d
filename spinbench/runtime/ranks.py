"""The processes that share a target: all take the same decisions, on the clock and the drafts of the first."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from spinbench.control.job import PrefillResult, Result, VerifyResult
from spinbench.runtime.draft import Draft
from spinbench.runtime.job_work import Outcome

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `size`. What is said between them goes over a group on the hosts, beside the target's own."""

    rank: int
    size: int
    _group: Any

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
