from dataclasses import replace

import numpy as np
import tiny

from recsys.data.catalog import ChangedItem
from recsys.serving.eligibility import bought_rows, decide, stock_of
from recsys.serving.filters import column_kinds, parse_short
from recsys.serving.fresh_items import CatalogView, extend
from recsys.serving.recommender import recommend


def said(item_id, revision=1, **values):
    names = ("title", "category", "brand", "price", "available", "image_url", "created_at", "attributes")
    return ChangedItem(item_id=item_id, revision=revision, **(dict.fromkeys(names) | values))


def shop():
    """Six items, of which 4 is sold out; 1 became cheaper, 2 sold out, and "new" came."""
    main = tiny.bundle(np.eye(6), price=[1.0, 2, 3, 4, 5, 6], available=[True, True, True, True, False, None])
    return CatalogView(main, extend(main, None, [said("i1", price=0.5), said("i2", available=False), said("new")]))


def rows(view, *ids):
    return np.array([view.row_of(item) for item in ids], np.int32)


def answered(view, eligibility):
    """All ids that may be answered."""
    found = []
    for bundle, start, mask in zip(view.bundles, view.starts, eligibility.allowed, strict=True):
        for row, item in enumerate(bundle.catalog.ids):
            if (mask is None or mask[row]) and start + row not in eligibility.excluded:
                found.append(item)
    return sorted(found)


def test_each_item_counts_once_for_the_first_reason_that_fits():
    view = shop()
    stock = stock_of(view, allow_unlisted=False, exclude_sold_out=True)
    assert stock.sold_out == 2
    nothing = rows(view)
    free = decide(view, stock, None, bought=nothing, excluded=nothing)
    assert answered(view, free) == ["i0", "i1", "i3", "i5", "new"]
    assert (free.eligible, set(free.excluded_counts.values())) == (5, {0, 2})
    wanted = parse_short("price:between:0,5", column_kinds(view.main.catalog.columns))
    found = decide(
        view, stock, wanted, bought=rows(view, "i1", "i4", "i1"), excluded=rows(view, "i1", "i3", "i5", "unheard")
    )
    dropped = {"unlisted": 0, "sold_out": 2, "filtered": 2, "bought": 1, "excluded": 1, "not_in_box": 0}
    assert found.excluded_counts == dropped
    assert answered(view, found) == ["i0"]
    assert found.eligible == 1
    assert len(view) == found.eligible + sum(found.excluded_counts.values())


def test_what_is_sold_out_may_be_answered_when_configured():
    view = shop()
    stock = stock_of(view, allow_unlisted=False, exclude_sold_out=False)
    assert stock.sold_out == 0
    assert decide(view, stock, None, bought=rows(view), excluded=rows(view)).eligible == len(view) == 7


def listing(count, listed, **columns):
    """A bundle of so many items, of which the shop's catalog lists the first `listed`."""
    found = tiny.bundle(np.eye(count), **columns)
    return replace(found, catalog=replace(found.catalog, listed=listed))


def test_what_the_catalog_does_not_list_is_no_answer_until_it_is_allowed_or_posted():
    main = listing(5, 3)
    view = CatalogView(main, extend(main, None, [said("i4", title="Back again")]))
    stock = stock_of(view, allow_unlisted=False, exclude_sold_out=True)
    free = decide(view, stock, None, bought=rows(view), excluded=rows(view, "i3"))
    assert answered(view, free) == ["i0", "i1", "i2", "i4"]
    assert free.excluded_counts == {
        "unlisted": 1,
        "sold_out": 0,
        "filtered": 0,
        "bought": 0,
        "excluded": 0,
        "not_in_box": 0,
    }
    allowed = stock_of(view, allow_unlisted=True, exclude_sold_out=True)
    assert (allowed.unlisted, decide(view, allowed, None, bought=rows(view), excluded=rows(view)).eligible) == (0, 5)


def test_when_everything_is_sold_out_deleted_items_do_not_take_its_place():
    view = CatalogView(listing(4, 2, available=[False, False, None, None]))
    stock = stock_of(view, allow_unlisted=False, exclude_sold_out=True)
    assert (stock.unlisted, stock.sold_out) == (2, 2)
    assert decide(view, stock, None, bought=rows(view), excluded=rows(view)).eligible == 0


def test_a_shop_without_a_catalog_lists_whatever_has_events():
    view = CatalogView(listing(3, None))
    assert stock_of(view, allow_unlisted=False, exclude_sold_out=True).allowed == (None,)


def test_what_was_bought_is_named_by_the_row_under_which_it_is_answered():
    view = shop()
    histories = tiny.histories([(1, tiny.PURCHASE), (3, tiny.VIEW)], [], [(0, tiny.PURCHASE), (7, tiny.CART)])
    found = bought_rows(view, histories, [tiny.PURCHASE])
    assert [found.row(b).tolist() for b in range(3)] == [[view.row_of("i1")], [], [0]]
    assert view.row_of("i1") == 6
    hits = recommend(view, histories, 9, excluded=found)
    assert 6 not in hits.rows[0]
    assert 1 not in hits.rows  # its row in the bundle is no answer for anybody


def test_a_box_may_list_some_items_only_and_leave_others_out():
    view = shop()
    stock = stock_of(view, allow_unlisted=False, exclude_sold_out=True)
    free = decide(view, stock, None, bought=rows(view, "i3"), excluded=rows(view))
    assert answered(view, free) == ["i0", "i1", "i5", "new"]
    assert free.keeps(view, rows(view, "i0", "i2", "i3", "new", "unheard")).tolist() == [
        True,
        False,
        False,
        True,
        False,
    ]
    some = free.only(view, rows(view, "i1", "i2", "i3", "new", "unheard", "i1"))
    assert (answered(view, some), some.eligible) == (["i1", "new"], 2)
    assert some.excluded_counts == free.excluded_counts | {"not_in_box": 2}
    rest = some.without(view, rows(view, "i1", "i0", "unheard"))
    assert (answered(view, rest), rest.eligible, rest.excluded_counts["not_in_box"]) == (["new"], 1, 3)
    for each in (free, some, rest):
        assert each.eligible + sum(each.excluded_counts.values()) == len(view)
