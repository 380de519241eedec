"""Sparse matrices as plain arrays, which several processes can memory-map."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from recsys.data.arrays import Array

_PARTS = ("data", "indices", "indptr")


def arrays_of(name: str, matrix: sparse.csr_array) -> dict[str, Array]:
    """Split the matrix into arrays; their names begin with its name."""
    return {f"{name}.{part}": np.asarray(getattr(matrix, part)) for part in (*_PARTS, "shape")}


def matrix_of(name: str, arrays: Mapping[str, Array]) -> sparse.csr_array:
    """Join the arrays of that name into a matrix."""
    parts = tuple(arrays[f"{name}.{part}"] for part in _PARTS)
    return sparse.csr_array(parts, shape=tuple(arrays[f"{name}.shape"].tolist()))
