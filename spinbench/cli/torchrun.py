"""The processes that torchrun started, as it tells each of them."""

import os
import sys
from dataclasses import dataclass

from spinbench.errors import UserError


@dataclass(frozen=True, slots=True)
class Torchrun:
    """This process among them; without torchrun the only one."""

    rank: int
    local_rank: int
    """Among those on this machine."""
    size: int

    @classmethod
    def here(cls) -> "Torchrun":
        """From the environment."""
        rank, local_rank, size = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        return cls(rank, local_rank, max(1, size))

    @property
    def is_first(self) -> bool:
        """Whether it speaks for all."""
        return self.rank == 0

    @property
    def has_met(self) -> bool:
        """Whether the processes have joined: up to then all of them find the same faults in the same config."""
        distributed = sys.modules.get("torch.distributed")
        return distributed is not None and distributed.is_available() and distributed.is_initialized()


def check_processes(tensor_parallel: int, num_gpus: int | None) -> None:
    """Raise UserError unless torchrun started as many processes as share the target; `num_gpus` None = on CPUs."""
    here = Torchrun.here()
    if here.size == 1 and tensor_parallel > 1:
        raise UserError(
            f"engine.tensor_parallel is {tensor_parallel}, and this is one process; start it as torchrun "
            f"--nproc-per-node {tensor_parallel} -m spinbench ..., or set it to 1"
        )
    if here.size != tensor_parallel:
        raise UserError(
            f"engine.tensor_parallel is {tensor_parallel}, and torchrun started {here.size} processes; they must be as "
            "many"
        )
    if tensor_parallel > 1 and num_gpus is not None and here.local_rank >= num_gpus:
        raise UserError(
            f"torchrun started more processes here than there are GPUs ({num_gpus}); each needs one of its own"
        )
