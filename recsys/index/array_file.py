"""Several arrays in one file, aligned, so that all processes of a machine map the same pages."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.errors import BundleError


def write_arrays(path: Path, arrays: list[Any]) -> None:
    """Write arrays one after another, in Arrow's format for tensors. Raises OSError when the disk is full."""
    with pa.OSFile(str(path), "wb") as sink:
        for array in arrays:
            pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)


def open_arrays(path: Path, count: int) -> list[Any]:
    """Map `count` arrays that `write_arrays` wrote, read-only. Raises BundleError when they are not there."""
    try:
        with pa.memory_map(str(path)) as source:
            return [pa.ipc.read_tensor(source).to_numpy() for _ in range(count)]
    except (pa.ArrowException, OSError) as error:
        raise BundleError(f"{path} does not hold the {count} arrays of an index: {error}") from None
