"""Similar items: whose taste an item is, and what the catalog says of it, blended.

Taste is the cosine of item vectors, content the cosine of weighted tokens. Where an item has few events its vector says
little, so content counts more. An item of which the catalog says nothing is ranked by taste alone.
Shapes: C candidates.
"""

import numpy as np
import pyarrow as pa

from recsys.data.arrays import Float32, Int32
from recsys.data.ragged import Ragged
from recsys.related.content import Content, Profile, first_of_each
from recsys.serving import recommender
from recsys.serving.asked import Asked, hits_of, no_hits
from recsys.serving.recommender import Hits

_CANDIDATES = 200  # by taste, and as many by content


def similar(asked: Asked, depth: int) -> Hits:
    """What is most like the first item that the question names."""
    if not len(asked.seeds):
        return no_hits()
    content = _content(asked)
    profile = None if content is None else _profiles(asked, content, asked.seeds[:1])[0]
    if content is None or profile is None or not profile.weights.any():
        return _by_taste(asked, depth)
    count = max(_CANDIDATES, depth)
    by_taste = _by_taste(asked, count)
    rows = np.union1d(by_taste.rows[0][by_taste.rows[0] >= 0], _by_content(asked, content, profile, count))
    rows = rows[asked.eligibility.keeps(asked.snapshot.view, rows)].astype(np.int32)
    scores = np.zeros(len(rows), np.float32)
    for _, share, likeness in _parts(asked, content, profile, rows):
        scores += np.float32(share) * likeness
    order = np.lexsort((rows, -scores))[:depth]
    return hits_of(rows[order], scores[order])


def likeness_of(asked: Asked, rows: Int32) -> list[tuple[str, float, Float32]]:
    """What joint rows [C] share with the item asked about: for taste and content the share in the score and [C] values.

    The sum of share times value is the score.
    """
    content = _content(asked)
    profile = None if content is None else _profiles(asked, content, asked.seeds[:1])[0]
    if content is None or profile is None or not profile.weights.any():
        return [("taste", 1.0, _tastes(asked, rows))]
    return _parts(asked, content, profile, rows)


def _parts(asked: Asked, content: Content, profile: Profile, rows: Int32) -> list[tuple[str, float, Float32]]:
    share = profile.taste_share
    return [
        ("taste", share, _tastes(asked, rows)),
        ("content", 1 - share, _likeness(asked, content, profile, rows)),
    ]


def _content(asked: Asked) -> Content | None:
    related = asked.snapshot.bundle.related
    return None if related is None else related.content


def _by_taste(asked: Asked, depth: int) -> Hits:
    """The items whose vectors have the nearest directions."""
    eligibility = asked.eligibility
    # The search itself leaves out the item asked about, and without further exclusions it is faster.
    others = eligibility.excluded[eligibility.excluded != asked.seeds[0]]
    return recommender.similar(
        asked.snapshot.view,
        asked.seeds[:1],
        depth,
        allowed=eligibility.allowed,
        excluded=Ragged.of_one(others) if len(others) else None,
        fill=False,
    )


def _by_content(asked: Asked, content: Content, profile: Profile, count: int) -> Int32:
    """The items of the bundle that may be answered whose content is nearest, under the rows that are answered."""
    view, found = asked.snapshot.view, content.candidates(profile)
    rows = first_of_each(found, asked.eligibility.keeps(view, view.current_row(found.values)))
    likeness = content.likeness(profile, rows)
    best = np.argsort(-likeness, kind="stable")[:count]
    return view.current_row(rows[best[likeness[best] > 0]])


def _likeness(asked: Asked, content: Content, profile: Profile, rows: Int32) -> Float32:
    """How like the content of joint rows [C] is: float32 [C]."""
    known = asked.snapshot.view.rows_in_bundle(rows)
    likeness = content.likeness(profile, np.maximum(known, 0))
    for place, other in zip(
        np.flatnonzero(known < 0).tolist(), _profiles(asked, content, rows[known < 0]), strict=True
    ):
        likeness[place] = profile.likeness(other)
    return likeness


def _profiles(asked: Asked, content: Content, rows: Int32) -> list[Profile]:
    """The contents of joint rows."""
    view = asked.snapshot.view
    known = view.rows_in_bundle(rows)
    return [
        content.of_row(own) if own >= 0 else content.of_columns(_columns(asked, row))[0]
        for own, row in zip(known.tolist(), rows.tolist(), strict=True)
    ]


def _columns(asked: Asked, row: int) -> pa.Table:
    bundle, own = asked.snapshot.view.place(row)
    return bundle.catalog.columns.slice(own, 1)


def _tastes(asked: Asked, rows: Int32) -> Float32:
    """The cosine of the item vectors of joint rows [C] and of the item asked about: float32 [C]."""
    vectors = asked.snapshot.bundle.vectors.personal_columns(
        recommender.item_vectors(asked.snapshot.view, np.concatenate([asked.seeds[:1], rows]))
    )
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-30))
    return np.asarray(vectors[1:] @ vectors[0], np.float32)
