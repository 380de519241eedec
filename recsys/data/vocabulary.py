"""External ids and the rows that stand for them inside."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Int32, Int64


def hash_id(identifier: str) -> int:
    """The 64-bit hash under which an id is looked up: the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Vocabulary:
    """External ids <-> rows 0..N-1, as four arrays that can be memory-mapped and shared by processes."""

    blob: npt.NDArray[np.uint8]  # every id in UTF-8, one after the other
    ends: Int64  # [N + 1]: id of row r is blob[ends[r]:ends[r + 1]]
    hashes: npt.NDArray[np.uint64]  # [N], sorted
    order: Int32  # [N]: the row behind each sorted hash

    @classmethod
    def from_ids(cls, ids: Iterable[str]) -> "Vocabulary":
        """Give the ids the rows 0, 1, … in the order they come. Raises ValueError when one comes twice."""
        encoded = [identifier.encode() for identifier in ids]
        lengths = np.fromiter((len(e) for e in encoded), np.int64, len(encoded))
        digests = b"".join(hashlib.blake2b(e, digest_size=8).digest() for e in encoded)
        hashes = np.frombuffer(digests, "<u8")
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        vocabulary = cls(
            blob=np.frombuffer(b"".join(encoded), np.uint8),
            ends=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            hashes=hashes[order],
            order=order,
        )
        for at in np.flatnonzero(vocabulary.hashes[1:] == vocabulary.hashes[:-1]):
            first, second = vocabulary.id_of(int(order[at])), vocabulary.id_of(int(order[at + 1]))
            if first == second:
                raise ValueError(f"the id {first!r} comes twice")
        return vocabulary

    def __len__(self) -> int:
        return len(self.hashes)

    def __iter__(self) -> Iterator[str]:
        return (self.id_of(row) for row in range(len(self)))

    def id_of(self, row: int) -> str:
        """The id of a row."""
        return self.blob[self.ends[row] : self.ends[row + 1]].tobytes().decode()

    def ids_of(self, rows: Iterable[int]) -> list[str]:
        """The ids of many rows, in the order asked."""
        return [self.id_of(int(row)) for row in rows]

    def row_of(self, identifier: str) -> int:
        """The row of an id, or -1 when it is unknown."""
        wanted = np.uint64(hash_id(identifier))
        at = int(np.searchsorted(self.hashes, wanted))
        while at < len(self.hashes) and self.hashes[at] == wanted:  # equal hashes are told apart by the id itself
            if self.id_of(int(self.order[at])) == identifier:
                return int(self.order[at])
            at += 1
        return -1

    def rows_of(self, ids: Sequence[str]) -> Int32:
        """The rows of many ids, -1 where unknown: int32 [len(ids)]."""
        return np.fromiter((self.row_of(i) for i in ids), np.int32, len(ids))

    def rows_in(self, other: "Vocabulary") -> Int32:
        """The row in another vocabulary of every id of this one, -1 where that does not know it: int32 [N]."""
        if np.array_equal(self.ends, other.ends) and np.array_equal(self.blob, other.blob):
            return np.arange(len(self), dtype=np.int32)
        rows = np.full(len(self), -1, np.int32)
        if not len(self) or not len(other):
            return rows
        at = np.minimum(np.searchsorted(other.hashes, self.hashes), len(other) - 1)
        same = other.hashes[at] == self.hashes
        rows[self.order[same]] = other.order[at[same]]
        # Equal hashes are told apart by the ids themselves: where these differ, the slow road finds the right one.
        for row in np.flatnonzero(rows >= 0):
            if not np.array_equal(self._bytes(int(row)), other._bytes(int(rows[row]))):
                rows[row] = other.row_of(self.id_of(int(row)))
        return rows

    def _bytes(self, row: int) -> npt.NDArray[np.uint8]:
        return self.blob[self.ends[row] : self.ends[row + 1]]
