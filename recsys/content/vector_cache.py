"""Vectors of what was encoded before, so that a night encodes only what is new.

A folder has one file for each block that was encoded, and a single one once all of a catalog are known. A run that is
killed loses the block that it was at.

Shapes: n items, F dimensions.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32
from recsys.errors import RecsysError

BLOCK = 2_000  # that are encoded between two files
_KEY = 16  # bytes

Encode = Callable[[list[int]], list[Float32 | None]]
"""Positions among the n -> the vector of each [F], or None where there is none."""


def cached(folder: Path, names: Sequence[str], encode: Encode) -> tuple[Float32, int]:
    """The vectors of what the names stand for, float32 [n, F], and how many of them were encoded now.

    Names that are not in the folder are encoded, each once. What has no vector gets zeros and is tried again next time.
    Afterwards the folder holds the vectors of these names and no others.
    """
    keys = [hashlib.sha256(name.encode()).digest()[:_KEY] for name in names]
    known = _read(folder)
    first: dict[bytes, int] = {}
    for at, key in enumerate(keys):
        first.setdefault(key, at)
    new = [at for key, at in first.items() if key not in known]
    for start in range(0, len(new), BLOCK):
        block = new[start : start + BLOCK]
        vectors = zip(block, encode(block), strict=True)
        found = {keys[at]: vector for at, vector in vectors if vector is not None}
        _write(folder, f"{start:012}-new.npy", found)
        known |= found
    used = {key: known[key] for key in first if key in known}
    if new or len(used) < len(known):
        old = list(folder.glob("*.npy"))
        written = _write(folder, "all.npy", used)
        for path in old:
            if path != written:
                path.unlink()
    dim = len(next(iter(used.values()))) if used else 0
    nothing = np.zeros(dim, np.float32)
    return np.array([used.get(key, nothing) for key in keys], np.float32).reshape(len(keys), dim), len(new)


def _read(folder: Path) -> dict[bytes, Float32]:
    found: dict[bytes, Float32] = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            rows = np.load(path, allow_pickle=False)
            keys, vectors = rows["key"], rows["vector"]
        except (OSError, ValueError, IndexError, EOFError):
            continue  # it is encoded again
        found |= {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
    return found


def _write(folder: Path, name: str, vectors: dict[bytes, Float32]) -> Path:
    """Write a file that is complete or absent."""
    target = folder / name
    rows: npt.NDArray[np.void] = np.zeros(len(vectors), [("key", f"V{_KEY}"), ("vector", "<f4", (_dim(vectors),))])
    if vectors:
        rows["key"] = np.frombuffer(b"".join(vectors), f"V{_KEY}")
        rows["vector"] = list(vectors.values())
    aside = folder / f".{name}.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        aside.replace(target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise RecsysError(f"{target} could not be written: {error}; it keeps vectors for the next night") from error
    return target


def _dim(vectors: dict[bytes, Float32]) -> int:
    return len(next(iter(vectors.values()))) if vectors else 0
