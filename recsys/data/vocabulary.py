"""Vocabulary: external ids and their row numbers."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Int32, Int64

_MANY = 32  # ids that are looked up together


def hash_id(identifier: str) -> int:
    """Hash an id to 64 bits, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Vocabulary:
    """External ids <-> rows 0..N-1, as four arrays that can be memory-mapped and shared by processes."""

    blob: npt.NDArray[np.uint8]  # all ids in UTF-8, concatenated
    ends: Int64  # [N + 1]: id of row r is blob[ends[r]:ends[r + 1]]
    hashes: npt.NDArray[np.uint64]  # [N], sorted
    order: Int32  # [N]: the row behind each sorted hash

    @classmethod
    def from_ids(cls, ids: Iterable[str]) -> "Vocabulary":
        """Number the ids 0, 1, … in their order. Raises ValueError for a duplicate."""
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
        """Return the id of a row."""
        return self.blob[self.ends[row] : self.ends[row + 1]].tobytes().decode()

    def ids_of(self, rows: Iterable[int]) -> list[str]:
        """Return the ids of many rows, in their order."""
        return [self.id_of(int(row)) for row in rows]

    def row_of(self, identifier: str) -> int:
        """Return the row of an id, -1 when it is unknown."""
        wanted = np.uint64(hash_id(identifier))
        at = int(np.searchsorted(self.hashes, wanted))
        while at < len(self.hashes) and self.hashes[at] == wanted:  # the id decides between equal hashes
            if self.id_of(int(self.order[at])) == identifier:
                return int(self.order[at])
            at += 1
        return -1

    def rows_of(self, ids: Sequence[str]) -> Int32:
        """Return the rows of many ids, -1 where unknown: int32 [len(ids)]."""
        if len(ids) < _MANY or not len(self):
            return np.fromiter((self.row_of(i) for i in ids), np.int32, len(ids))
        wanted = np.fromiter(map(hash_id, ids), np.uint64, len(ids))
        at = np.minimum(np.searchsorted(self.hashes, wanted), len(self) - 1)
        rows = np.where(self.hashes[at] == wanted, self.order[at], np.int32(-1))
        for place in np.flatnonzero(rows >= 0).tolist():  # the id decides between equal hashes
            if self.id_of(int(rows[place])) != ids[place]:
                rows[place] = self.row_of(ids[place])
        return rows

    def rows_in(self, other: "Vocabulary") -> Int32:
        """Return the row of every id in another vocabulary, -1 where it is unknown: int32 [N]."""
        if np.array_equal(self.ends, other.ends) and np.array_equal(self.blob, other.blob):
            return np.arange(len(self), dtype=np.int32)
        rows = np.full(len(self), -1, np.int32)
        if not len(self) or not len(other):
            return rows
        at = np.minimum(np.searchsorted(other.hashes, self.hashes), len(other) - 1)
        same = other.hashes[at] == self.hashes
        rows[self.order[same]] = other.order[at[same]]
        # Equal hashes with different ids are rare; the slow lookup finds the right one.
        for row in np.flatnonzero(rows >= 0):
            if not np.array_equal(self._bytes(int(row)), other._bytes(int(rows[row]))):
                rows[row] = other.row_of(self.id_of(int(row)))
        return rows

    def _bytes(self, row: int) -> npt.NDArray[np.uint8]:
        return self.blob[self.ends[row] : self.ends[row + 1]]
