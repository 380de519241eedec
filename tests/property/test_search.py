import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys.data.ragged import Ragged
from recsys.index import by_norm, exact, flat, norm_order


@st.composite
def searches(draw):
    """Items, queries, k, a filter and exclusions; few distinct values, so that equal scores are the rule."""
    items, dim, queries = draw(st.integers(1, 40)), draw(st.integers(1, 5)), draw(st.integers(0, 9))
    values = st.sampled_from([-2.0, -0.5, 0.0, 0.1, 1.0, 3.0]) | st.floats(-4, 4, width=32)
    counts = draw(st.lists(st.integers(0, items), min_size=queries, max_size=queries))
    return {
        "items": draw(hnp.arrays(np.float32, (items, dim), elements=values)),
        "queries": draw(hnp.arrays(np.float32, (queries, dim), elements=values)),
        "k": draw(st.integers(1, 50)),
        "allowed": draw(st.none() | hnp.arrays(np.bool_, items)),
        "excluded": draw(
            st.none()
            | st.just(
                Ragged(
                    np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                    draw(hnp.arrays(np.int32, sum(counts), elements=st.integers(0, items - 1))),
                )
            )
        ),
    }


def brute_force(items, queries, k, allowed, excluded):
    """Item by item: every eligible one scored in double precision, sorted by score and row, padded."""
    scores, rows = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int32)
    for b, query in enumerate(queries):
        gone = set() if excluded is None else set(excluded.row(b).tolist())
        found = [
            (-float(np.float32(np.einsum("d,d->", query.astype(np.float64), item.astype(np.float64)))), row)
            for row, item in enumerate(items)
            if row not in gone and (allowed is None or allowed[row])
        ]
        for place, (score, row) in enumerate(sorted(found)[:k]):
            scores[b, place], rows[b, place] = -score, row
    return scores, rows


@given(search=searches())
@settings(max_examples=200, deadline=None)
def test_search_finds_what_brute_force_finds(search):
    items, queries = search.pop("items"), search.pop("queries")
    found = flat.build(items)
    scores, rows = brute_force(items, queries, **search)
    got_scores, got_rows = found.search(queries, **search)
    np.testing.assert_array_equal(got_rows, rows)
    np.testing.assert_array_equal(got_scores, scores)
    # The same in blocks, and one by one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_BLOCK_BYTES", 300)
        patch.setattr(exact, "FEW_QUERIES", 0)
        patch.setattr(flat, "FEW_QUERIES", 0)
        np.testing.assert_array_equal(found.search(queries, **search)[1], rows)
        patch.setattr(exact, "FEW_QUERIES", 1000)
        patch.setattr(flat, "FEW_QUERIES", 1000)
        patch.setattr(flat, "_SPARE", 1)
        np.testing.assert_array_equal(found.search(queries, **search)[1], rows)


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 30), share=st.sampled_from([0.03, 0.4, 0.95]))
@settings(max_examples=40, deadline=None)
def test_one_by_one_and_in_blocks_agree_on_vectors_as_they_come(seed, k, share):
    random = np.random.default_rng(seed)
    items = (random.normal(size=(700, 48)) * random.lognormal(0, 1, (700, 1))).astype(np.float32)
    items[600:] = items[:100] * np.float32(1 + 1e-7)
    queries = random.normal(size=(6, 48)).astype(np.float32)
    allowed = random.random(700) < share
    excluded = Ragged(np.arange(0, 7 * 30, 30), random.integers(0, 700, 180).astype(np.int32))
    found = flat.build(items)
    scores, rows = found.search(queries, k, allowed=allowed, excluded=excluded)
    expected = brute_force(items, queries, k, allowed, excluded)
    np.testing.assert_array_equal(rows, expected[1])
    for b in range(6):
        own = Ragged.of_one(excluded.row(b))
        own_scores, own_rows = found.search(queries[b : b + 1], k, allowed=allowed, excluded=own)
        np.testing.assert_array_equal(own_rows[0], rows[b])
        np.testing.assert_array_equal(own_scores[0], scores[b])


@given(search=searches())
@settings(max_examples=200, deadline=None)
def test_search_in_the_order_of_norms_loses_nothing(search):
    items, queries = search.pop("items"), search.pop("queries")
    scores, rows = brute_force(items, queries, **search)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norm_order, "BLOCK", 1)
        patch.setattr(norm_order, "_FIRST", 2)
        patch.setattr(norm_order, "_FEW", 0)
        got_scores, got_rows = by_norm.build(items).search(queries, **search)
    np.testing.assert_array_equal(got_rows, rows)
    np.testing.assert_array_equal(got_scores, scores)
