"""Tables over the processes of a group that torchrun started: placed, sharded, checkpointed by torchrec and torch.

Outside such a group there is one process, and its tables are whole. Neither the split of the data nor what a
checkpoint holds depends on how many processes there are, so a training may go on with fewer or more than it began with.
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
    """What the processes talk through: NCCL between GPUs, gloo between CPUs."""
    return "nccl" if device.type == "cuda" else "gloo"


@contextmanager
def group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started; yields this one's device."""
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
    """How many processes the group has; 1 outside of one."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own(users: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which of the users [B] this process learns from: each belongs to one."""
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
    """Where tables are made: in a group without memory, as no process may be able to hold all of them."""
    return torch.device("meta") if distributed.is_initialized() else device


def shard(tables: nn.ModuleDict, device: torch.device) -> tuple[nn.Module, nn.ModuleDict]:
    """The whole that is checkpointed, and its parts to look up in: in a group placed as torchrec's planner says.

    torchrec divides the gradients by the size of the group. So a loss that is a sum over a batch has to be multiplied
    by it, and then the step of a group is the step of one process with the batches of all.
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
    """A module that each process of a group has whole; the gradients are divided by its size as those of tables."""
    if not distributed.is_initialized():
        return module
    return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)


@dataclass(frozen=True)
class AdamState:
    """An optimizer of a module, as a checkpoint wants it."""

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """What it has come to; zeros before its first step."""
        return get_optimizer_state_dict(self.module, self.optimizer, options=_FLAT)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        set_optimizer_state_dict(self.module, self.optimizer, state, options=_FLAT)


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds."""

    modules: Mapping[str, nn.Module]
    others: Mapping[str, Any] = field(default_factory=dict)  # what training goes on with, beside the tables' optimizers


def save(folder: Path, epoch: int, state: TrainingState) -> None:
    """Checkpoint the modules, and in a group what training goes on with; epoch 0 is the start.

    All processes of the group call it, each writes what it holds. A checkpoint that was not finished does not count.
    Raises RecsysError when it cannot be written.
    """
    _transfer(state_dict_saver.save, folder, epoch, state)


def load(folder: Path, epoch: int, state: TrainingState) -> None:
    """Set all of it to what a checkpoint holds, however either is sharded. Raises RecsysError when that cannot be."""
    _transfer(state_dict_loader.load, folder, epoch, state)


def _transfer(way: Callable[..., Any], folder: Path, epoch: int, state: TrainingState) -> None:
    saved: dict[str, Any] = dict(state.modules)
    if distributed.is_initialized() and epoch:  # a start has nothing of it, and the job only reads what was learnt
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
    """The last epoch with a complete checkpoint, the same in all processes; -1 when there is none."""
    found = [max(_complete(folder), default=-1)]
    if distributed.is_initialized():
        distributed.broadcast_object_list(found, src=0)
    return found[0]


def holds(folder: Path, before: int) -> bool:
    """Whether a checkpoint of an epoch before this one is there."""
    return any(epoch < before for epoch in _complete(folder))


def forget(folder: Path, before: int) -> None:
    """Remove the checkpoints of the epochs before this one."""
    for epoch in _complete(folder):
        if epoch < before:
            shutil.rmtree(folder / f"{_EPOCH}{epoch}", ignore_errors=True)


def _complete(folder: Path) -> list[int]:
    return [int(path.parent.name.removeprefix(_EPOCH)) for path in folder.glob(f"{_EPOCH}*/{_COMPLETE}")]
