import gc
import re
from pathlib import Path

import faiss
import numpy as np
import pytest
from contracts import long_tailed

from recsys.data.ragged import Ragged
from recsys.errors import BundleError, RecsysError
from recsys.index import fastscan, norm_order
from recsys.index.exact import Items, search_exactly
from recsys.index.fastscan import FastScanSettings

ITEMS, DIM, K = 12_000, 30, 10


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of which only a part is scored in full."""
    monkeypatch.setattr(norm_order, "_FIRST", 1024)


@pytest.fixture(scope="module")
def items():
    return long_tailed(ITEMS, DIM, seed=1)


@pytest.fixture(scope="module")
def queries():
    return long_tailed(40, DIM, seed=2)


def built(vectors, candidates=300, *, cosine=False):
    return fastscan.build_from(Items(vectors, cosine=cosine), FastScanSettings(dims_per_code=2, candidates=candidates))


def recall(rows, right):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(rows.tolist(), right.tolist(), strict=True)])


def test_it_looks_at_few_and_finds_almost_all(items, queries, monkeypatch):
    found = built(items)
    looked = []
    plain = Items.scores
    monkeypatch.setattr(Items, "scores", lambda self, query, rows: looked.append(len(rows)) or plain(self, query, rows))
    scores, rows = found.search(queries, K)
    right_scores, right = search_exactly(Items(items), queries, K)
    assert recall(rows, right) >= 0.97
    assert sum(looked) / len(queries) < ITEMS / 7
    same = rows == right
    np.testing.assert_allclose(scores[same], right_scores[same], rtol=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.001])
def test_a_filter_costs_no_recall_and_lets_nothing_through(items, queries, share):
    allowed = np.random.default_rng(3).random(ITEMS) < share
    _, rows = built(items).search(queries, K, allowed=allowed)
    assert allowed[rows].all()
    assert (rows >= 0).all()
    assert recall(rows, search_exactly(Items(items), queries, K, allowed=allowed)[1]) >= 0.97


def test_many_excluded_items_take_nobody_elses_place(items, queries):
    best = search_exactly(Items(items), queries, 500)[1]
    excluded = Ragged(np.arange(0, 500 * len(queries) + 1, 500), best.ravel())
    _, rows = built(items).search(queries, K, excluded=excluded)
    right = search_exactly(Items(items), queries, K, excluded=excluded)[1]
    assert not any(set(own) & set(gone) for own, gone in zip(rows.tolist(), best.tolist(), strict=True))
    assert recall(rows, right) >= 0.97


def test_dimensions_that_fill_no_whole_code_are_filled_up(queries):
    items = long_tailed(3000, 7, seed=4)
    found = built(items, 200)
    _, rows = found.search(queries[:, :7], K)
    assert recall(rows, search_exactly(Items(items), queries[:, :7], K)[1]) >= 0.97


def test_by_direction_the_norms_do_not_count(items, queries):
    vectors = items.copy()
    vectors[::50] = 0
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    scores, rows = built(vectors, 400, cosine=True).search(unit, K)
    right_scores, right = search_exactly(Items(vectors, cosine=True), unit, K)
    assert recall(rows, right) >= 0.95
    assert scores.max() <= 1 + 1e-6
    same = rows == right
    np.testing.assert_allclose(scores[same], right_scores[same], rtol=1e-5)


def test_a_bound_leaves_out_shards(items, queries, monkeypatch):
    found, shards = built(items), []
    plain = fastscan.FastScanIndex.candidates
    monkeypatch.setattr(
        fastscan.FastScanIndex,
        "candidates",
        lambda self, asked, shard, positions: shards.append(shard) or plain(self, asked, shard, positions),
    )
    found.search(queries, K)
    all_of_them = len(shards)
    shards.clear()
    found.tuned(FastScanSettings(2, 300, bound=0.5)).search(queries, K)
    assert len(queries) <= len(shards) < all_of_them


def test_opened_from_a_file_it_answers_the_same_and_copies_no_codes(items, queries, tmp_path):
    found = built(items)
    found.write(tmp_path / "index")
    opened = fastscan.load(tmp_path / "index", items)
    assert opened.settings == found.settings
    for mine, theirs in zip(opened.search(queries, K), found.search(queries, K), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    mapped = re.findall(rf"^(\w+)-(\w+) .*{tmp_path}/index$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    pages = [range(int(start, 16), int(stop, 16)) for start, stop in mapped]
    addresses = [int(shard._scanner.codes.data()) for shard in opened._shards]
    assert all(any(address in part for part in pages) for address in addresses)
    del opened
    gc.collect()  # gives every scanner its own bytes back, or this process ends here


def test_another_layout_of_faiss_costs_a_copy_and_no_answer(items, queries, tmp_path, monkeypatch):
    found = built(items)
    found.write(tmp_path / "index")
    monkeypatch.setattr(fastscan, "_ALIGNMENT", 2**62)
    opened = fastscan.load(tmp_path / "index", items)
    for mine, theirs in zip(opened.search(queries, K), found.search(queries, K), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_file_that_is_no_index_is_named(items, tmp_path):
    (tmp_path / "text").write_text("no index")
    with pytest.raises(BundleError, match="text does not hold"):
        fastscan.load(tmp_path / "text", items)
    faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "l2"))
    with pytest.raises(BundleError, match="l2 does not hold"):
        fastscan.load(tmp_path / "l2", items)


def test_an_index_of_other_items_is_refused(items, tmp_path):
    built(items).write(tmp_path / "index")
    with pytest.raises(BundleError, match="12000 items"):
        fastscan.load(tmp_path / "index", items[:50])


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(RecsysError, match="not finite"):
        fastscan.build(np.full((40, 4), np.inf, np.float32))


def test_no_items_and_few_items_are_no_trouble():
    for count in (0, 1, 3):
        _, rows = fastscan.build(np.ones((count, 4), np.float32)).search(np.ones((2, 4), np.float32), 5)
        assert rows.tolist() == [[*range(count), *[-1] * (5 - count)]] * 2
