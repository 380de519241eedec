import numpy as np
import pytest
from contracts import long_tailed

from recsys.errors import ConfigError
from recsys.index import choice, fastscan, norm_order
from recsys.index.exact import Items
from recsys.index.fastscan import FastScanIndex
from recsys.index.flat import FlatIndex

ITEMS, DIM = 6000, 16


@pytest.fixture(scope="module")
def items():
    return long_tailed(ITEMS, DIM, seed=1)


@pytest.fixture(scope="module")
def queries():
    return long_tailed(60, DIM, seed=2)


@pytest.fixture
def slow_scan(monkeypatch):
    """Items are many enough for a choice, and an exact scan of all takes nine times as long as anything else."""
    monkeypatch.setattr(choice, "_SMALL", 0)
    monkeypatch.setattr(norm_order, "_FIRST", 512)
    monkeypatch.setattr(choice, "_milliseconds", lambda search, _: {"mean": 9.0 if "scan" in str(search) else 1.0})


def test_few_items_are_searched_exactly_without_measuring_times(items, queries):
    built = choice.build("auto", items, queries, min_recall=0.99)
    assert (built.kind, built.facts["reason"]) == (
        "flat",
        "exact search of so few items takes less than a millisecond",
    )


@pytest.mark.usefixtures("slow_scan")
def test_the_fewest_candidates_that_find_enough_are_chosen_and_all_that_was_tried_is_kept(items, queries):
    built = choice.build("auto", items, queries, min_recall=0.97)
    assert built.kind == "fastscan"
    assert min(built.recall.values()) >= 0.97
    assert set(built.recall) == {"plain", "filtered", "5%", "0.1%"}
    *before, last = built.facts["tried"]
    assert all(each["lacks"].startswith("recall@") for each in before)
    assert last == {"dims_per_code": 2, "candidates": built.facts["settings"]["candidates"], "lacks": None}
    assert 0 < built.facts["settings"]["bound"] <= 1


@pytest.mark.usefixtures("slow_scan")
def test_the_bound_is_just_above_the_largest_cosine_of_a_user_and_an_item(items, queries):
    built = choice.build("auto", items, queries, min_recall=0.5)
    asked = queries[::2]
    cosines = (asked / np.linalg.norm(asked, axis=1)[:, None]) @ (items / np.linalg.norm(items, axis=1)[:, None]).T
    assert built.facts["settings"]["bound"] == pytest.approx(min(1, cosines.max() + 0.02), abs=1e-4)


@pytest.mark.usefixtures("slow_scan")
def test_what_finds_too_little_gives_way_to_an_exact_kind(items, queries, monkeypatch):
    plain = FastScanIndex.search

    def forgetful(self, queries, k, **named):
        scores, rows = plain(self, queries, k + 1, **named)
        return scores[:, 1:], rows[:, 1:]

    monkeypatch.setattr(FastScanIndex, "search", forgetful)
    built = choice.build("auto", items, queries, min_recall=0.99)
    assert built.kind == "by_norm"
    assert min(built.recall.values()) == 1


@pytest.mark.usefixtures("slow_scan")
def test_recall_that_holds_only_for_those_who_chose_is_not_enough(items, queries, monkeypatch):
    monkeypatch.setattr(choice._Truth, "recall", lambda *_: {"plain": 0.9})  # of those who judge
    assert choice.build("auto", items, queries, min_recall=0.95).kind == "by_norm"


def test_an_index_slower_than_a_scan_is_not_chosen(items, queries, monkeypatch):
    monkeypatch.setattr(choice, "_SMALL", 0)
    monkeypatch.setattr(choice, "_milliseconds", lambda search, _: {"mean": 1.0 if "scan" in str(search) else 9.0})
    assert choice.build("auto", items, queries, min_recall=0.95).kind == "by_norm"
    assert choice.build_directions(Items(items, cosine=True), min_recall=0.95) is None


def test_a_named_kind_is_built_whatever_the_size_and_unknown_ones_are_refused(items, queries):
    assert isinstance(choice.build("flat", items, queries, min_recall=0.99).index, FlatIndex)
    assert isinstance(choice.build("fastscan", items, queries, min_recall=0.5).index, fastscan.FastScanIndex)
    with pytest.raises(ConfigError, match="unknown name"):
        choice.build("cubic", items, queries, min_recall=0.99)


@pytest.mark.usefixtures("slow_scan")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_users_are_no_trouble(items, queries, count):
    built = choice.build("auto", items, queries[:count], min_recall=0.9)
    assert built.kind == ("flat" if count == 0 else "fastscan")


@pytest.mark.usefixtures("slow_scan")
def test_directions_get_an_index_when_there_are_many_and_none_when_all_vectors_are_zero(items):
    built = choice.build_directions(Items(items, cosine=True), min_recall=0.97)
    assert built.kind == "fastscan"
    assert min(built.recall.values()) >= 0.97
    assert choice.build_directions(Items(np.zeros_like(items), cosine=True), min_recall=0.97) is None
