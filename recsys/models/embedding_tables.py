"""Embedding tables of torchrec, whose gradient step is part of the backward pass."""

import logging

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys.data.arrays import Float32

logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # a notice of torch's to torchrec, not to us


def make_tables(
    tables: list[tuple[str, int, list[str]]],
    dim: int,
    learning_rate: float,
    device: torch.device,
    *,
    weighted: bool = True,
) -> FusedEmbeddingBagCollection:
    """Make tables of (name, rows, features that look up in it), with rows of length `dim`; bags are (weighted) sums."""
    return FusedEmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=name, num_embeddings=rows, embedding_dim=dim, feature_names=features, pooling=PoolingType.SUM
            )
            for name, rows, features in tables
        ],
        optimizer_type=RowWiseAdagrad,
        optimizer_kwargs={"lr": learning_rate},
        is_weighted=weighted,  # the kernel then takes a gradient of the weights too, which costs a fifth of the time
        device=device,
    )


def jagged(
    features: dict[str, tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], Float32 | None]], device: torch.device
) -> KeyedJaggedTensor:
    """Make a batch of bags for each feature, from (rows, length of each bag, weights or None)."""
    values, lengths, weights = zip(*features.values(), strict=True)
    given = [w for w in weights if w is not None]
    return KeyedJaggedTensor(
        keys=list(features),
        values=torch.from_numpy(np.concatenate(values).astype(np.int64)).to(device),
        lengths=torch.from_numpy(np.concatenate(lengths).astype(np.int64)).to(device),
        weights=torch.from_numpy(np.concatenate(given).astype(np.float32)).to(device) if given else None,
    )


def rows_of(tables: FusedEmbeddingBagCollection, name: str) -> Tensor:
    """Return the table of that name, not a copy: [rows, dim]."""
    found: Tensor = tables.state_dict()[f"embedding_bags.{name}.weight"]
    return found.detach()


def put_rows(tables: FusedEmbeddingBagCollection, name: str, values: Float32) -> None:
    """Set the table of that name to `values` [rows, dim]."""
    rows_of(tables, name).copy_(torch.from_numpy(np.ascontiguousarray(values)))
