"""Negatives of a softmax: items drawn with replacement, or all items where they are few."""

from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32, Int64

_EXPONENT = 0.5  # items are drawn by the root of their weight: between uniform and by demand
_LEAST = 1e-6  # of a weight: an item that has events can be drawn


def draw_by(weights: npt.NDArray[Any], has_events: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The proportion in which `Negatives` draws items, from the weights of their events: [I]; 0 without events."""
    return np.where(has_events, np.maximum(weights.astype(np.float64), _LEAST) ** _EXPONENT, 0.0)


class Negatives:
    """Draws rows of items in proportion to `draw` [I], which is not all 0."""

    def __init__(self, draw: npt.NDArray[np.float64]) -> None:
        self._draw, self._cumulated, self._all = draw, np.cumsum(draw), np.flatnonzero(draw)

    def take(self, count: int, generator: np.random.Generator) -> tuple[Int64, Float32]:
        """Draw rows [N], with log(N q), the log of how often each is expected among the N: see sampled_softmax.

        With no more than `count` items, each is taken once, which makes it the softmax over all items.
        """
        if len(self._all) <= count:
            return self._all, np.zeros(len(self._all), np.float32)
        total = self._cumulated[-1]
        rows = np.searchsorted(self._cumulated, generator.random(count) * total, side="right")
        rows = np.minimum(rows, len(self._draw) - 1)
        return rows, np.log(count * self._draw[rows] / total).astype(np.float32)
