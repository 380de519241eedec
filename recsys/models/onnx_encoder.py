"""A user encoder that runs a small ONNX graph over the history in its order.

Rows are gathered and padded outside of the graph, so that it holds no item table.
Shapes: B users, T events of the longest history, at most L, I items, Dp the part's dim.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32, Int64
from recsys.data.interactions import Histories
from recsys.onnx_session import open_session

INPUTS = ("vectors", "kinds", "ages_days", "mask")  # of the graph, in this order
OUTPUT = "user_vectors"
_BLOCK_NUMBERS = 2**20  # B * T * Dp of one block: bounds the memory of a call, whatever the number of histories


@dataclass(frozen=True)
class Padded:
    """The latest events of B users, newest last, padded in front."""

    users: Int64  # [B], positions in the histories
    vectors: Float32  # [B, T, Dp], zeros where padded
    kinds: Int64  # [B, T]
    ages_days: Float32  # [B, T]
    mask: npt.NDArray[np.bool_]  # [B, T], where an event of a known item stands


def padded(history_vectors: Float32, histories: Histories, length: int) -> Iterator[Padded]:
    """Yield the newest `length` events of every user, in blocks of bounded size of users with about as many.

    Items whose history vector is zeros are masked; users without any other item are in no block.
    """
    counts = np.minimum(np.diff(histories.offsets), length)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    stop = len(order)
    while stop > 0:  # from the longest: that one sets how many fit
        width = int(counts[order[stop - 1]])
        start = max(0, stop - max(1, _BLOCK_NUMBERS // (width * history_vectors.shape[1])))
        yield from _block(history_vectors, histories, order[start:stop], width)
        stop = start


def _block(history_vectors: Float32, histories: Histories, users: Int64, width: int) -> Iterator[Padded]:
    events = histories.offsets[users + 1][:, None] + np.arange(-width, 0)
    mask = events >= histories.offsets[users][:, None]
    events = np.where(mask, events, 0)
    vectors = np.asarray(history_vectors[histories.items[events]], np.float32)
    known = mask & vectors.any(axis=2)
    if not np.array_equal(known, mask):  # what is left stands together at the end, as if the rest had not been
        order = np.argsort(known, axis=1, kind="stable")
        known, events = np.take_along_axis(known, order, axis=1), np.take_along_axis(events, order, axis=1)
        vectors = np.take_along_axis(vectors, order[:, :, None], axis=1)
    says = known.any(axis=1)
    if says.any():
        users, events, known, vectors = users[says], events[says], known[says], vectors[says]
        kinds = np.where(known, histories.kinds[events], 0).astype(np.int64)
        ages = np.where(known, histories.ages_days[events], 0).astype(np.float32)
        yield Padded(users, np.where(known[:, :, None], vectors, np.float32(0)), kinds, ages, known)


@dataclass(frozen=True)
class OnnxEncoder:
    """Runs the graph on the CPU, on the calling thread."""

    name: ClassVar[str] = "onnx"
    length: int  # L: so many of the newest events are read
    graph: bytes = field(repr=False)  # of a bundle's encoder.onnx; INPUTS -> OUTPUT [B, Dp]

    def encode(self, history_vectors: Float32, histories: Histories) -> Float32:
        """See UserEncoder; a history without an event of a known item gives zeros."""
        found = np.zeros((len(histories), history_vectors.shape[1]), np.float32)
        for block in padded(history_vectors, histories, self.length):
            inputs = {name: getattr(block, name) for name in INPUTS}
            found[block.users] = self._session.run([OUTPUT], inputs)[0]
        return found

    @cached_property  # made once, by whichever thread comes first; a session may then run on several threads at once
    def _session(self) -> Any:
        return open_session(self.graph)
