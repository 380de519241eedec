import gc

import numpy as np
import pyarrow as pa

from recsys.serving import masks
from recsys.serving.filters import column_kinds, parse, parse_short
from recsys.serving.masks import MIN_ROWS, Kept, mask


def catalog(count=2 * MIN_ROWS):
    brands = pa.array([f"Brand {row % 7}" for row in range(count)]).dictionary_encode()
    return pa.table({"brand": brands, "title": [f"Größe {row}" for row in range(count)]})


def asked(text, columns):
    return np.flatnonzero(mask(parse_short(text, column_kinds(columns)), columns))


def test_a_filter_that_was_asked_before_is_not_tested_again(monkeypatch):
    columns = catalog()
    first = asked("brand:eq:brand 3", columns)
    assert first.tolist() == list(range(3, len(columns), 7))
    monkeypatch.setitem(masks.FILTERS, "eq", lambda *_: 1 / 0)
    assert np.array_equal(asked("brand:eq:brand 3", columns), first)
    other = catalog(2 * MIN_ROWS + 1)
    monkeypatch.undo()
    assert asked("brand:eq:brand 3", other).tolist() == list(range(3, len(other), 7))


def test_texts_are_folded_once_for_all_filters(monkeypatch):
    columns = catalog()
    assert asked("title:eq:GRÖSSE 5", columns).tolist() == [5]
    monkeypatch.setattr(masks, "folded", lambda *_: 1 / 0)
    assert asked("title:eq:grösse 6", columns).tolist() == [6]


def test_each_entry_of_a_dictionary_is_tested_once(monkeypatch):
    seen = []
    equal = masks.FILTERS["eq"]
    monkeypatch.setitem(masks.FILTERS, "eq", lambda column, values: seen.append(len(column)) or equal(column, values))
    asked("brand:eq:brand 3", catalog())
    assert seen == [7]


def test_what_is_kept_has_a_bound_and_the_oldest_goes_first():
    columns = catalog(1)
    kept, computed = Kept(max_bytes=30), []

    def ask(key, size=10):
        kept.get(columns, key, lambda: computed.append(key), lambda _: size)

    for key in ("a", "b", "c", "a", "d", "a", "b"):
        ask(key)
        assert kept.size <= 30
    assert computed == ["a", "b", "c", "d", "b"]  # when d came, b was used longest ago
    ask("too large", size=31)
    ask("too large", size=31)
    assert computed[-2:] == ["too large", "too large"]


def test_a_mask_that_is_kept_counts_with_the_texts_of_its_filter():
    columns = catalog()
    before = masks._masks.size
    texts = [f"{at} {'x' * 500}" for at in range(1_000)]
    mask(parse({"column": "title", "op": "in", "value": texts}, column_kinds(columns)), columns)
    assert masks._masks.size - before > 500 * len(texts)


def test_a_catalog_that_is_gone_is_forgotten():
    kept, columns = Kept(max_bytes=100), catalog(1)
    kept.get(columns, "a", lambda: 1, lambda _: 10)
    assert kept.size == 10
    del columns
    gc.collect()
    assert kept.size == 0
