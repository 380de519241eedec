"""Sparse matrix times dense matrix on torch, on the CPU and on the GPU alike.

The product is an embedding bag: of the CPU's kernels it was the fastest by far (see docs/benchmarks.md).
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class SparseRows:
    """A sparse float32 matrix [N, M] by rows: row n owns offsets[n]:offsets[n + 1]."""

    offsets: Tensor  # [N + 1], int32 or int64
    columns: Tensor  # [nnz], the same type
    values: Tensor  # [nnz]

    @classmethod
    def from_scipy(cls, matrix: sparse.csr_array, device: torch.device) -> "SparseRows":
        """The same matrix as tensors on `device`."""
        kind = np.int32 if matrix.nnz < np.iinfo(np.int32).max else np.int64
        return cls(
            torch.from_numpy(matrix.indptr.astype(kind)).to(device),
            torch.from_numpy(matrix.indices.astype(kind)).to(device),
            torch.from_numpy(matrix.data.astype(np.float32)).to(device),
        )

    def __matmul__(self, dense: Tensor) -> Tensor:
        """[N, M] @ [M, D] -> [N, D]."""
        return functional.embedding_bag(
            self.columns, dense, self.offsets, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )
