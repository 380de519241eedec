"""Tables sharded over the processes that torchrun started: placed, sharded and checkpointed by torchrec and torch.

Outside such a group there is one process, and its tables are whole. Neither the split of the data nor a checkpoint
depends on the number of processes, so a training may go on with fewer or more of them.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict
from torch.nn.parallel import DistributedDataParallel
from torchrec.distributed.model_parallel import DistributedModelParallel, get_default_sharders
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.types import ShardingType

from recsys.errors import RecsysError

# Of these torchrec has the first alone on CPUs. Not by columns: row-wise Adagrad has a step size for each piece of a
# row then, so that the numbers, and what a checkpoint holds, depend on the cut. Not data parallel: that leaves a copy
# of the table in each process, and no way to the optimizer's state.
_SHARDINGS = [ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value]
_COMPLETE = ".metadata"  # which torch writes last
_EPOCH = "epoch-"
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)  # the nested form is not read as it is written


def backend_for(device: torch.device) -> str:
    """The backend of the group: NCCL between GPUs, gloo between CPUs."""
    return "nccl" if device.type == "cuda" else "gloo"


@contextmanager
def group(device: torch.device) -> Iterator[torch.device]:
    """Join the group of processes that torchrun started; yields the device of this process."""
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group(backend_for(device))
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process in the group, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """The number of processes in the group; 1 outside of one."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own(users: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Mark the users [B] of this process; each user belongs to one process."""
    return np.asarray(users % size() == rank())


def total(value: float) -> float:
    """The sum of a number over the group."""
    if not distributed.is_initialized():
        return value
    device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
    summed = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(summed)
    return float(summed)


def birthplace(device: torch.device) -> torch.device:
    """The device on which tables are made: in a group without memory, as one process may not hold them all."""
    return torch.device("meta") if distributed.is_initialized() else device


def shard(tables: nn.ModuleDict, device: torch.device) -> tuple[nn.Module, nn.ModuleDict]:
    """Shard the tables; returns the module to checkpoint, and its parts to look up in.

    In a group torchrec's planner places them. torchrec divides gradients by the size of the group: multiply a loss that
    is a sum over a batch by it, and a step of the group is that of one process with the batches of all.
    """
    if not distributed.is_initialized():
        return tables, tables
    constraints = {
        bag.name: ParameterConstraints(sharding_types=_SHARDINGS)
        for collection in tables.values()
        for bag in cast(Any, collection).embedding_bag_configs()
    }
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=size(), local_world_size=local, compute_device=device.type),
        constraints=constraints,
    )
    sharders = get_default_sharders()
    plan = planner.collective_plan(tables, sharders, distributed.group.WORLD)
    whole = DistributedModelParallel(tables, device=device, plan=plan, sharders=sharders)
    return whole, cast(nn.ModuleDict, whole.module)


def replicate(module: nn.Module, device: torch.device) -> nn.Module:
    """Copy a module to each process of the group; gradients are divided by its size, as those of tables."""
    if not distributed.is_initialized():
        return module
    return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)


@dataclass(frozen=True)
class AdamState:
    """The optimizer of a module, for a checkpoint."""

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """Its state; zeros before the first step."""
        return get_optimizer_state_dict(self.module, self.optimizer, options=_FLAT)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from this state."""
        set_optimizer_state_dict(self.module, self.optimizer, state, options=_FLAT)


@dataclass(frozen=True)
class TrainingState:
    """The content of a checkpoint."""

    modules: Mapping[str, nn.Module]
    others: Mapping[str, Any] = field(default_factory=dict)  # what training goes on with, beside the tables' optimizers


def save(folder: Path, epoch: int, state: TrainingState) -> None:
    """Write a checkpoint of the modules, and in a group of their optimizers; epoch 0 is the start.

    All processes of the group call it, and each writes its shard. An unfinished checkpoint does not count.
    Raises RecsysError when it cannot be written.
    """
    _transfer(state_dict_saver.save, folder, epoch, state)


def load(folder: Path, epoch: int, state: TrainingState) -> None:
    """Read a checkpoint into the modules, however either is sharded. Raises RecsysError when it cannot be read."""
    _transfer(state_dict_loader.load, folder, epoch, state)


def _transfer(way: Callable[..., Any], folder: Path, epoch: int, state: TrainingState) -> None:
    saved: dict[str, Any] = dict(state.modules)
    if distributed.is_initialized() and epoch:  # a start has no such state, and the job reads the modules alone
        saved |= state.others
        for name, module in state.modules.items():
            if isinstance(module, DistributedModelParallel):
                saved[f"optimizer of {name}"] = module.fused_optimizer
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # as it should be in the job
        try:
            way(saved, checkpoint_id=folder / f"{_EPOCH}{epoch}", no_dist=not distributed.is_initialized())
        except CheckpointException as error:  # which is no Exception, and may hold what is none
            if any(isinstance(failure, KeyboardInterrupt) for failure, _ in error.failures.values()):
                raise KeyboardInterrupt from error
            raise RecsysError(f"the checkpoint {epoch} in {folder} failed: {error}") from error


def newest(folder: Path) -> int:
    """The last epoch with a complete checkpoint, the same in all processes; -1 without one."""
    found = [max(_complete(folder), default=-1)]
    if distributed.is_initialized():
        distributed.broadcast_object_list(found, src=0)
    return found[0]


def holds(folder: Path, before: int) -> bool:
    """Whether there is a checkpoint of an earlier epoch."""
    return any(epoch < before for epoch in _complete(folder))


def forget(folder: Path, before: int) -> None:
    """Remove the checkpoints of earlier epochs."""
    for epoch in _complete(folder):
        if epoch < before:
            shutil.rmtree(folder / f"{_EPOCH}{epoch}", ignore_errors=True)


def _complete(folder: Path) -> list[int]:
    return [int(path.parent.name.removeprefix(_EPOCH)) for path in folder.glob(f"{_EPOCH}*/{_COMPLETE}")]
