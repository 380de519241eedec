"""Feature tokens of catalog rows, the input of the item tower and of a bundle's item encoder.

A token is the 64-bit hash of `column=value`, so training and serving need no common vocabulary of words.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.arrays import Int64
from recsys.data.vocabulary import hash_id

_WORD = re.compile(r"\w+")
_LEVEL = re.compile(r"\s*[|>/]\s*")  # "Home > Kitchen", "Home|Kitchen", "home/kitchen"


@dataclass(frozen=True)
class Tokens:
    """Distinct feature tokens of n items, as ragged arrays: item r owns hashes[offsets[r]:offsets[r + 1]]."""

    offsets: Int64  # [n + 1]
    hashes: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def item_tokens(columns: pa.Table) -> Tokens:
    """Build the tokens of each catalog row: category levels, brand, price bucket and title words.

    Missing columns and nulls give no token. Price buckets are half octaves: about 41 % wide.
    """
    found: list[list[str]] = [[] for _ in range(columns.num_rows)]
    for name, split in _SPLITTERS.items():
        if name in columns.column_names:
            for row, value in enumerate(columns.column(name).to_pylist()):
                if value is not None:
                    found[row] += [f"{name}={part}" for part in split(value)]
    known: dict[str, int] = {}
    hashes: list[int] = []
    offsets = np.zeros(len(found) + 1, np.int64)
    for row, tokens in enumerate(found):
        for token in dict.fromkeys(tokens):
            if token not in known:
                known[token] = hash_id(token)
            hashes.append(known[token])
        offsets[row + 1] = len(hashes)
    return Tokens(offsets, np.array(hashes, np.uint64))


def _levels(value: str) -> list[str]:
    return [level.lower() for level in _LEVEL.split(value.strip()) if level]


def _price_bucket(value: float) -> list[str]:
    return [str(int(np.floor(2 * np.log2(value))))] if np.isfinite(value) and value > 0 else []


_SPLITTERS: dict[str, Callable[[Any], list[str]]] = {
    "category": _levels,
    "brand": lambda value: [value.strip().lower()] if value.strip() else [],
    "price": _price_bucket,
    "title": lambda value: [word.lower() for word in _WORD.findall(value)],
}
