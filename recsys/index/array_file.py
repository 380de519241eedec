"""Several arrays in one file, aligned, so that all processes of a machine map the same pages."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.errors import BundleError

_ALIGNMENT = 64  # bytes: what FAISS and vector instructions want; unaligned codes would be copied into every process
_MARKER = b"\xff\xff\xff\xff"  # with which an array in Arrow's format begins


def write_arrays(path: Path, arrays: list[Any]) -> None:
    """Write arrays one after another, in Arrow's format for tensors. Raises OSError when the disk is full."""
    with pa.OSFile(str(path), "wb") as sink:
        for array in arrays:
            sink.write(bytes(-sink.tell() % _ALIGNMENT))
            pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)


def open_arrays(path: Path, count: int) -> list[Any]:
    """Map `count` arrays that `write_arrays` wrote, read-only. Raises BundleError when they are not there."""
    try:
        with pa.memory_map(str(path)) as source:
            return [_next(source) for _ in range(count)]
    except (pa.ArrowException, OSError) as error:
        raise BundleError(f"{path} does not hold the {count} arrays of an index: {error}") from None


def _next(source: Any) -> Any:
    """The array at a position, or behind the padding there. Files of older versions have none."""
    start = source.tell()
    is_padding = source.read(len(_MARKER)) != _MARKER
    source.seek(start + (-start % _ALIGNMENT if is_padding else 0))
    return pa.ipc.read_tensor(source).to_numpy()
