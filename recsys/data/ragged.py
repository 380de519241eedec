"""Rows of different lengths as two plain arrays.

Shapes: B rows (queries, users), N values in all.
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Bool, Int32, Int64


@dataclass(frozen=True)
class Ragged:
    """B rows of int32 values: row b holds values[offsets[b]:offsets[b + 1]]."""

    offsets: Int64  # [B + 1], ascending, from 0 to N
    values: Int32  # [N]

    @classmethod
    def from_pairs(cls, owners: Int64, values: Int32, count: int) -> "Ragged":
        """Group N (owner, value) pairs into `count` rows; the values of one owner keep their order."""
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))]).astype(np.int64)
        return cls(offsets, np.asarray(values[np.argsort(owners, kind="stable")], np.int32))

    @classmethod
    def of_one(cls, values: Int32) -> "Ragged":
        """A single row."""
        return cls(np.array([0, len(values)], np.int64), values)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def owners(self) -> Int64:
        """The row 0..B-1 that each value belongs to: int64 [N]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def row(self, b: int) -> Int32:
        """The values of row b."""
        return self.values[self.offsets[b] : self.offsets[b + 1]]

    def slice(self, start: int, stop: int) -> "Ragged":
        """The rows start..stop-1."""
        bounds = self.offsets[start : stop + 1]
        return Ragged(bounds - bounds[0], self.values[bounds[0] : bounds[-1]])

    def take(self, which: Bool) -> "Ragged":
        """The rows for which `which` [B] is true."""
        counts = np.diff(self.offsets)
        offsets = np.concatenate([[0], np.cumsum(counts[which])]).astype(np.int64)
        return Ragged(offsets, self.values[np.repeat(which, counts)])

    def select(self, keep: Bool) -> "Ragged":
        """Only the values for which `keep` [N] is true; every row stays, some of them empty."""
        offsets = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[self.offsets]
        return Ragged(offsets, self.values[keep])

    def merge(self, other: "Ragged") -> "Ragged":
        """Append the values of each row of `other` [B] to the same row. Raises ValueError for another B."""
        if len(self) != len(other):
            raise ValueError(f"{len(other)} rows cannot be merged into {len(self)}")
        owners = np.concatenate([self.owners, other.owners])
        return Ragged.from_pairs(owners, np.concatenate([self.values, other.values]), len(self))
