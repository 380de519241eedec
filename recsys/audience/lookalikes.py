"""Who is like the users of a list: a logistic regression that tells them from the others.

Its inputs are how users buy in general and the direction of their vectors. Shapes: U users, B users in a block, D dim.
"""

from dataclasses import dataclass

import numpy as np

from recsys.audience import logistic
from recsys.audience.features import Block, Float64, compute_user_features
from recsys.audience.logistic import Logistic
from recsys.audience.model import Shop
from recsys.data.arrays import Bool, Int64
from recsys.errors import RefusedError
from recsys.models.vectors import Vectors

FEWEST_SEEDS = 10
_MOST_SEEDS, _OTHERS = 20_000, 20_000


@dataclass(frozen=True)
class Likeness:
    """How like the seeds a user is."""

    vectors: Vectors
    found: Logistic

    def measure(self, block: Block) -> Float64:
        """The probability to tell from a user's history that it is one of the list: [B]."""
        return self.found.predict(_rows(self.vectors, block))


def learn_likeness(shop: Shop, vectors: Vectors, seeds: Bool, as_of: int, seed: int) -> Likeness:
    """Learn what tells the seeds [U] from a sample of the other users.

    Raises RefusedError when fewer than FEWEST_SEEDS of them have a history.
    """
    random = np.random.default_rng(seed)
    known = shop.first_seen < as_of
    alike, others = np.flatnonzero(seeds & known), np.flatnonzero(~seeds & known)
    if len(alike) < FEWEST_SEEDS or not len(others):
        raise RefusedError(
            f"lookalikes: {len(alike)} users of the list have a history and {len(others)} other users; at least "
            f"{FEWEST_SEEDS} and 1 are needed"
        )
    drawn = [_draw(alike, _MOST_SEEDS, random), _draw(others, _OTHERS, random)]
    rows = np.concatenate(drawn)
    histories = shop.histories_at(rows, as_of)
    block = Block(rows, histories, compute_user_features(histories, shop.bought_codes), shop.bought_codes)
    answers = np.arange(len(rows)) < len(drawn[0])
    return Likeness(vectors, logistic.fit(_rows(vectors, block), answers))


def _rows(vectors: Vectors, block: Block) -> Float64:
    directions = np.asarray(vectors.encode(block.histories), np.float64)
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-30)
    return np.column_stack([block.users.design(), directions])


def _draw(rows: Int64, count: int, random: np.random.Generator) -> Int64:
    return rows if len(rows) <= count else np.sort(random.choice(rows, count, replace=False))
