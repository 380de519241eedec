"""Pages and batches."""

from functools import cache

import pytest
from box_shop import DAYS, Shop, codes, drawn_events, ids, shop_of
from tiny import DAY

from recsys.errors import NotFoundError, RefusedError
from recsys.serving.answer import Answer, Query, gather_context
from recsys.serving.several import answer_batch, answer_page, gather_contexts
from recsys.store.changes import Changes, NewEvents

POSTED = (
    ("u1", False, "i2", "purchase", 99.5),
    ("u2", False, "i9", "view", 99.6),
    ("v1", True, "i5", "view", 99.7),
    ("v2", True, "i6", "cart", 99.8),
)


@cache
def shop() -> Shop:
    return shop_of(drawn_events(), posted=POSTED)


def page(*queries):
    read = {"read": lambda _: Changes(shop().posted, []), "grow": lambda snapshot, _: snapshot}
    context = gather_context(shop().config, shop().snapshot, queries[0], now=(DAYS + 1) * DAY, **read)
    return answer_page(shop().config, context, queries)


def test_no_item_is_in_two_boxes_of_a_page_and_the_first_boxes_choose_first():
    boxes = ("recently_viewed", "for_you", "trending", "bestsellers", "popular", "new_arrivals")
    found = page(*(Query("u2", "v1", box=box, k=6) for box in boxes))
    listed = [item for answer in found for item in ids(answer)]
    assert len(listed) == len(set(listed)) > 30
    assert ids(found[0]) == ids(shop().ask("recently_viewed", user_id="u2", visitor_id="v1", k=6))
    alone = ids(shop().ask("for_you", user_id="u2", visitor_id="v1", k=20))
    assert ids(found[1]) == [item for item in alone if item not in ids(found[0])][:6]
    assert [answer.excluded_counts["excluded"] for answer in found][:2] == [0, len(ids(found[0]))]


def test_a_box_of_a_page_that_cannot_be_answered_leaves_the_others_as_they_are():
    similar, wrong, popular = page(
        Query(box="similar", items=["gone"]), Query(box="popular", window_days=3), Query(box="popular", k=3)
    )
    assert isinstance(similar, NotFoundError)
    assert isinstance(wrong, RefusedError)
    assert ids(popular) == ids(shop().ask("popular", k=3))


@pytest.mark.parametrize("moment", [None, round(99.65 * DAY)])
def test_a_batch_answers_each_question_as_if_it_came_alone(moment):
    named = [("u1", None), ("u2", "v1"), (None, "v2"), (None, None), ("nobody", "v1"), ("u1", "v2")]
    queries = [
        Query(user, visitor, box=box, items=["i7"] if box == "similar" else [], as_of=moment, k=7)
        for user, visitor in named
        for box in ("for_you", "similar", "trending")
    ]
    readings = []

    def read(use):
        readings.append(use)
        return Changes(shop().posted, [])

    contexts = gather_contexts(
        shop().config, shop().snapshot, queries, now=(DAYS + 1) * DAY, read=read, grow=lambda snapshot, _: snapshot
    )
    found = answer_batch(shop().config, contexts, queries)
    assert len(readings) == 2
    assert found == [shop().answer(query) for query in queries]
    assert all(isinstance(answer, Answer) for answer in found)
    assert "no_history" in codes(found[9])


def test_a_visitor_id_of_all_guests_is_nobody_in_a_batch():
    """What an older version stored of such an id changes neither an answer nor its moment."""
    guests = NewEvents(["null"], [True], ["i8"], ["cart"], [round(102.9 * DAY)], {})
    readings = []

    def read(use):
        readings.append(use)
        return Changes(guests, [])

    queries = [Query(None, "NULL"), Query("u3", "null"), Query(None, "null")]
    contexts = gather_contexts(
        shop().config, shop().snapshot, queries, now=(DAYS + 1) * DAY, read=read, grow=lambda snapshot, _: snapshot
    )
    assert len(readings) == 1  # a visitor alone would be one more
    assert {context.as_of for context in contexts} == {(DAYS + 1) * DAY}
    stranger, user, other = answer_batch(shop().config, contexts, queries)
    assert [codes(answer) for answer in (stranger, user, other)] == [["no_history"], [], ["no_history"]]
    assert ids(user) == ids(shop().ask("for_you", user_id="u3", visitor_id="null"))
