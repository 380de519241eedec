"""Items that look like one: the nearest of the pictures that the last training encoded."""

import numpy as np

from recsys.serving.asked import Asked, no_hits
from recsys.serving.recommender import Hits


def looks_like(asked: Asked, depth: int) -> Hits:
    """What looks most like the first item that the question names, by the cosine of pictures.

    Nothing where no picture of it was encoded: it has none, or came after the training.
    """
    looks = asked.snapshot.bundle.looks
    if looks is None or not len(asked.seeds):
        return no_hits()
    row = int(asked.snapshot.view.rows_in_bundle(asked.seeds[:1])[0])
    if row < 0 or not looks[row].any():
        return no_hits()
    scores = looks @ looks[row]
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    order = order[scores[order] > 0]
    return asked.first(order, scores[order], depth)
