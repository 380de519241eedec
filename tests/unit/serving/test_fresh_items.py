import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import tiny

from recsys.bundle.bundle import assemble
from recsys.config.settings import IndexSettings
from recsys.data.catalog import Catalog, ChangedItem
from recsys.data.ragged import Ragged
from recsys.data.vocabulary import Vocabulary, hash_id
from recsys.models.vectors import ItemEncoder
from recsys.serving.eligibility import bought_rows
from recsys.serving.fresh_items import MAX_NEW_COLUMNS, CatalogView, extend
from recsys.serving.recommender import recommend, similar

WORDS = 12
DIM = 4


def said(item_id, revision=1, **values):
    known = dict.fromkeys(("title", "category", "brand", "price", "available", "image_url", "created_at", "attributes"))
    return ChangedItem(item_id=item_id, revision=revision, **(known | values))


def encoder(random):
    """Every item whose title is `w3` gets the vectors of word 3."""
    hashes = np.array([hash_id(f"title=w{word}") for word in range(WORDS)], np.uint64)
    order = np.argsort(hashes)
    vectors = [random.standard_normal((WORDS, DIM)).astype(np.float32) for _ in range(2)]
    return ItemEncoder(hashes[order], vectors[0][order], (vectors[1][order],)), vectors


def shops(seed, count=30, new=9):
    """A bundle with fresh items, and one bundle that holds all of them: the two have to answer alike."""
    random = np.random.default_rng(seed)
    item_encoder, (item_words, history_words) = encoder(random)
    words = random.integers(0, WORDS, new)
    items = random.standard_normal((count, DIM)).astype(np.float32)
    items[random.random(count) < 0.2] = 0
    histories = random.standard_normal((count, DIM)).astype(np.float32)
    popularity = random.random(count).astype(np.float32)
    small = tiny.bundle(items, popularity, histories, price=random.random(count))
    small = replace(small, vectors=replace(small.vectors, item_encoder=item_encoder))
    whole_vectors = tiny.vectors(
        np.concatenate([items, item_words[words]]), np.concatenate([histories, history_words[words]])
    )
    names = [f"i{row}" for row in range(count)] + [f"new{at}" for at in range(new)]
    whole = assemble(
        whole_vectors,
        Catalog(Vocabulary.from_ids(names), pa.table({"title": names})),
        np.concatenate([popularity, np.zeros(new, np.float32)]),
        kinds=tiny.KINDS,
        index_settings=IndexSettings(),
    )
    changed = [said(f"new{at}", revision=at, title=f"w{word}") for at, word in enumerate(words)]
    return small, whole, changed, random


def some_histories(random, count):
    return tiny.histories(
        *([(int(random.integers(0, count)), int(random.integers(0, 3))) for _ in range(n)] for n in (0, 1, 4, 12))
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("k", [1, 7, 100])
def test_bundle_and_fresh_items_answer_as_one_bundle_of_all_items_would(seed, repeats, k):
    small, whole, changed, random = shops(seed)
    view = CatalogView(small, extend(small, None, changed))
    histories = some_histories(random, len(whole.catalog))
    allowed = random.random(len(whole.catalog)) < 0.7
    out = random.integers(0, len(whole.catalog), 8).astype(np.int32)
    excluded = Ragged(np.array([0, 2, 2, 5, 8]), out)
    masks = (allowed[: len(small.catalog)], allowed[len(small.catalog) :])
    if not repeats:
        excluded = excluded.merge(bought_rows(view, histories, [tiny.PURCHASE]))
    one = recommend(CatalogView(whole), histories, k, allowed=[allowed], excluded=excluded)
    two = recommend(view, histories, k, allowed=masks, excluded=excluded)
    assert two.rows.tolist() == one.rows.tolist()
    assert two.reasons.tolist() == one.reasons.tolist()
    assert np.array_equal(two.scores, one.scores)


@pytest.mark.parametrize("seed", range(8))
def test_similar_items_come_from_both(seed):
    small, whole, changed, random = shops(seed)
    view = CatalogView(small, extend(small, None, changed))
    allowed = random.random(len(whole.catalog)) < 0.7
    masks = (allowed[: len(small.catalog)], allowed[len(small.catalog) :])
    for row in range(len(whole.catalog)):
        one = similar(CatalogView(whole), np.array([row], np.int32), 9, allowed=[allowed])
        two = similar(view, np.array([row], np.int32), 9, allowed=masks)
        assert two.rows.tolist() == one.rows.tolist()
        assert two.reasons.tolist() == one.reasons.tolist()


def test_fresh_items_built_step_by_step_are_those_built_at_once():
    small, _, changed, _ = shops(3)
    changed += [said("i4", revision=50, price=9.0), said("new2", revision=51, title="w1"), said("i4", revision=52)]
    at_once = extend(small, None, changed)
    by_steps = None
    for item in changed:
        by_steps = extend(small, by_steps, [item])
    ids = list(at_once.bundle.catalog.ids)
    assert sorted(by_steps.bundle.catalog.ids) == sorted(ids)
    rows = by_steps.bundle.catalog.ids.rows_of(ids)
    assert by_steps.replaces[rows].tolist() == at_once.replaces.tolist()
    assert np.array_equal(by_steps.bundle.vectors.item_vectors[rows], at_once.bundle.vectors.item_vectors)
    assert np.array_equal(by_steps.replaced, at_once.replaced)
    assert {id_: row - 30 for id_, row in by_steps.new_rows.items()} == {
        id_: by_steps.bundle.catalog.ids.row_of(id_) for id_ in by_steps.new_rows
    }


def test_nothing_new_makes_no_fresh_items():
    small, _, _, _ = shops(0)
    assert extend(small, None, []) is None


def test_a_changed_item_keeps_its_vectors_and_what_was_not_said_of_it():
    small, _, _, _ = shops(1)
    view = CatalogView(small, extend(small, None, [said("i5", price=3.5), said("i7", title="Renamed")]))
    columns = view.fresh.bundle.catalog.columns
    assert columns.column("title").to_pylist() == ["Item 5", "Renamed"]
    assert columns.column("price").to_pylist() == [3.5, small.catalog.columns.column("price")[7].as_py()]
    assert view.row_of("i5") == 30
    assert view.current_row(np.array([4, 5, 6, 7], np.int32)).tolist() == [4, 30, 6, 31]
    histories = tiny.histories([(5, tiny.PURCHASE), (2, tiny.VIEW)], [(1, tiny.VIEW)], [])
    trained = CatalogView(small)
    before = recommend(trained, histories, 30, excluded=bought_rows(trained, histories, [tiny.PURCHASE]))
    after = recommend(view, histories, 30, excluded=bought_rows(view, histories, [tiny.PURCHASE]))
    where = {5: 30, 7: 31}
    for old, new in zip(before.rows, after.rows, strict=True):
        expected = [where.get(row, row) for row in old.tolist() if row >= 0]
        assert sorted(new[new >= 0].tolist()) == sorted(expected)
    assert 30 not in after.rows[0]  # bought under its old row


def test_attributes_that_the_bundle_knows_keep_its_types():
    small = tiny.bundle(np.eye(3), stock=[1, 2, 3], color=["red", "red", None])
    attributes = '{"stock": 7, "color": 5, "unheard": "of"}'
    made = extend(small, None, [said("a", attributes=attributes), said("b", attributes='{"stock": "many"}')])
    columns = made.bundle.catalog.columns
    assert columns.column("stock").to_pylist() == [7, None]
    assert columns.column("color").to_pylist() == ["5", None]
    assert columns.column("unheard").to_pylist() == ["of", None]


def test_without_an_item_encoder_new_items_are_the_least_popular_ones():
    small = tiny.bundle(np.eye(3))
    view = CatalogView(small, extend(small, None, [said("a"), said("b")]))
    hits = recommend(view, tiny.histories([(0, tiny.VIEW)]), 5)
    assert hits.rows.tolist() == [[0, 1, 2, 3, 4]]


def test_attributes_are_columns_at_once_with_the_type_of_their_first_value():
    main = tiny.bundle(np.eye(3), title=["a", "b", "c"])
    first = extend(main, None, [said("n1", attributes='{"color": "red", "stock": 4, "vegan": true}')])
    grown = extend(main, first, [said("n2", 2, attributes='{"color": 7, "stock": "4.5", "size": "L", "vegan": "?"}')])
    columns = grown.bundle.catalog.columns
    assert columns.select(["color", "stock", "vegan", "size"]).to_pylist() == [
        {"color": "red", "stock": 4.0, "vegan": True, "size": None},
        {"color": "7", "stock": 4.5, "vegan": None, "size": "L"},
    ]
    known = main.catalog.columns.column_names
    assert CatalogView(main, grown).schema.names[: len(known)] == known
    assert {"color", "stock", "vegan", "size"} <= set(CatalogView(main, grown).schema.names)
    assert CatalogView(main).schema.names == known


def test_the_number_of_new_columns_is_bounded():
    main = tiny.bundle(np.eye(3), title=["a", "b", "c"])
    many = json.dumps({f"a{at}": at for at in range(MAX_NEW_COLUMNS + 50)})
    before = len(extend(main, None, [said("n")]).bundle.catalog.columns.column_names)
    grown = extend(main, None, [said("n", attributes=many)])
    assert len(grown.bundle.catalog.columns.column_names) == before + MAX_NEW_COLUMNS


def test_a_deleted_item_is_no_answer_and_its_events_still_count():
    bundle = tiny.bundle(np.eye(4, DIM, dtype=np.float32))
    gone = [replace(said("i1"), is_deleted=True), said("new"), replace(said("mistake"), is_deleted=True)]
    view = CatalogView(bundle, extend(bundle, None, gone))
    assert len(view) == 4
    assert [view.row_of(item) for item in ("i0", "i1", "new", "mistake")] == [0, -1, 5, -1]
    assert view.trained_row("i1") == 1
    assert [mask.tolist() for mask in view.standing] == [[True, False, True, True], [False, True, False]]
    back = CatalogView(bundle, extend(bundle, view.fresh, [said("i1", revision=2)]))
    assert (len(back), back.row_of("i1") >= 4) == (5, True)


def test_rows_of_many_items_are_those_of_each_and_what_is_unknown_stays_unknown():
    bundle = tiny.bundle(np.eye(5, DIM, dtype=np.float32))
    items = [said("new", 1), said("i3", 2), replace(said("i4", 3), is_deleted=True)]
    for view in (CatalogView(bundle), CatalogView(bundle, extend(bundle, None, items))):
        asked = ["i4", "i3", "nobody", "new", "i3", "i0"]
        rows = view.rows_of(asked)
        assert rows.tolist() == [view.row_of(item) for item in asked]
        assert rows[2] == -1
        assert (rows[3] == -1) == (view.fresh is None)
        assert view.rows_of([]).tolist() == []
        assert view.current_row(np.array([-1], np.int32)).tolist() == [-1]
