"""Histories: the extract, what the own tables have received since, and deletions, as one."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
import tiny
from extracts import KINDS, ROWS, WATERMARK, extracted, read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.bundle.bundle import assemble
from recsys.config.settings import Config, IndexSettings
from recsys.data.catalog import Catalog
from recsys.data.extract import Recent, open_extract, publish, write
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.serving.fresh_items import CatalogView
from recsys.serving.history import EventLog, InlineEvent, ShownEvent, events_of
from recsys.store.changes import read_changes
from recsys.store.events import insert_events, recent_events
from recsys.store.items import upsert_items
from recsys.store.users import delete_user
from recsys.store.visitors import merge_visitor

DAY = MICROSECONDS_PER_DAY


def post(store, user, item, kind="view", *, at, received=WATERMARK + 1, visitor=None):
    post.count += 1
    row = {"event_id": f"p{post.count}", "user_id": user, "visitor_id": visitor, "kind": kind, "item_id": item}
    table = pa.Table.from_pylist([{**row, "occurred_at": at, "received_at": received}])
    assert insert_events(store, table) == 1


post.count = 0


def view_of(extract, ids=None):
    """A bundle over the extract's items, or others, whose vectors say nothing."""
    ids = list(extract.items) if ids is None else ids
    vectors = tiny.vectors(np.zeros((len(ids), 2)))
    catalog = Catalog(Vocabulary.from_ids(ids), pa.table({"title": list(ids)}))
    popularity = np.zeros(len(ids), np.float32)
    return CatalogView(assemble(vectors, catalog, popularity, kinds=KINDS, index_settings=IndexSettings()))


def gathered(extract, store, users, as_of, *, view=None, visitor_ids=None, inline=()):
    view = view or view_of(extract)
    changes = read_changes(
        store,
        [user for user in dict.fromkeys(users) if user],
        [visitor for visitor in dict.fromkeys(visitor_ids or ()) if visitor],
        received_after=extract.complete_until,
        known=extract.recent or (),
        occurred_before=as_of,
    )
    log = EventLog.of(extract, view.main, Config())
    return events_of(log, view, changes.events, users, as_of, visitor_ids=visitor_ids, inline=inline)


def histories(extract, store, users, as_of, length, *, always=(), **more):
    codes = [KINDS.index(kind) for kind in always]
    return gathered(extract, store, users, as_of, **more).histories(len(users), as_of, length, codes)


def shown(extract, store, user, as_of=10_000, length=100, **more):
    """The history of one user as (item, kind, time)."""
    found = histories(extract, store, [user], as_of, length, **more)
    ages = np.round(found.ages_days.astype(np.float64) * DAY).astype(int)
    return [
        (extract.items.id_of(i), KINDS[k], as_of - age)
        for i, k, age in zip(found.items, found.kinds, ages, strict=True)
    ]


def test_a_history_is_the_extract_and_what_was_posted_since_oldest_first(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "plum", "cart", at=300)
    post(store, "ann", "plum", "purchase", at=500)
    assert shown(extract, store, "ann") == [
        ("apple", "view", 100),
        ("pear", "cart", 200),
        ("plum", "cart", 300),
        ("apple", "purchase", 400),
        ("plum", "purchase", 500),
    ]


def test_own_events_up_to_the_watermark_are_in_the_extract_and_not_counted_again(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "apple", at=100, received=WATERMARK)
    assert len(shown(extract, store, "ann")) == 3


def test_an_event_that_arrives_late_counts_although_it_happened_before_the_watermark(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "plum", at=50)
    assert shown(extract, store, "ann")[0] == ("plum", "view", 50)


def test_an_event_that_was_stamped_before_the_watermark_and_committed_after_the_reading_counts(tmp_path, store):
    since = WATERMARK - 500
    post(store, "ann", "apple", at=100, received=WATERMARK - 1)  # the extract has it
    post(store, None, "pear", at=150, received=WATERMARK - 2, visitor="v")  # nobody's history has it yet
    recent = Recent.of(recent_events(store, received_after=since, received_until=WATERMARK), since)
    publish(tmp_path, write(tmp_path, read(ROWS), recent))
    extract = open_extract(tmp_path)
    assert (extract.watermark, extract.complete_until) == (WATERMARK, since)
    assert len(shown(extract, store, "ann")) == 3
    post(store, "ann", "plum", at=120, received=WATERMARK - 3)
    post(store, "ann", "plum", at=130, received=since)  # whatever is older than that has been committed
    expected = [("apple", "view", 100), ("plum", "view", 120), ("pear", "cart", 200), ("apple", "purchase", 400)]
    assert shown(extract, store, "ann") == expected
    merge_visitor(store, "ann", "v", now=WATERMARK + 1)
    assert ("pear", "view", 150) in shown(extract, store, "ann")


def test_a_user_whom_the_extract_does_not_know_has_a_history_at_once(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    assert shown(extract, store, "new") == []
    post(store, "new", "pear", at=500)
    assert shown(extract, store, "new") == [("pear", "view", 500)]


def test_the_history_ends_before_the_moment_asked_for(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "plum", at=399)
    assert [row[2] for row in shown(extract, store, "ann", as_of=400)] == [100, 200, 399]
    assert [row[2] for row in shown(extract, store, "ann", as_of=399)] == [100, 200]


def test_only_the_newest_events_are_kept_whichever_stream_they_came_by(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "plum", at=300)
    assert [row[2] for row in shown(extract, store, "ann", length=2)] == [300, 400]


def test_many_users_are_asked_at_once_in_any_order_and_twice(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "bob", "apple", at=600)
    post(store, "new", "pear", at=700)
    found = histories(extract, store, ["new", "idle", "bob", "nobody", "ann", "bob", None], 10_000, 100)
    assert np.diff(found.offsets).tolist() == [1, 0, 2, 0, 3, 2, 0]
    assert extract.items.ids_of(found.items) == [
        *("pear", "plum", "apple", "apple", "pear", "apple", "plum", "apple")
    ]  # fmt: skip


def test_for_thousands_of_users_the_answer_is_the_same(tmp_path, store):
    users = [f"user {n}" for n in range(1500)]
    loaded = read([(user, "apple", "view", 10) for user in users], users=users)
    extract = extracted(tmp_path, loaded)
    post(store, users[7], "pear", at=20)
    post(store, "somebody else", "pear", at=20)
    delete_user(store, users[9], now=15)
    delete_user(store, "another one", now=15)
    together = histories(extract, store, users, 100, 10)
    assert np.diff(together.offsets).tolist() == [1 + (n == 7) - (n == 9) for n in range(1500)]
    alone = histories(extract, store, [users[7]], 100, 10)
    assert together.slice(7, 8).items.tolist() == alone.items.tolist()


def test_an_event_of_an_unknown_item_or_kind_is_left_out_but_for_people_the_item_is_shown(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "new product", at=500)
    post(store, "ann", "Apple", at=500)
    post(store, "ann", "apple", "wish", at=500)
    assert len(shown(extract, store, "ann")) == 3
    listed = gathered(extract, store, ["ann"], 10_000).shown(100)
    assert {event.item_id for event in listed[:2]} == {"new product", "Apple"}
    assert len(listed) == 5


def test_a_posted_return_takes_the_latest_purchase_out_of_the_history_at_once(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "apple", "return", at=500)
    post(store, "bob", "plum", "return", at=250)  # before the purchase
    post(store, "new", "pear", "return", at=500)
    assert shown(extract, store, "ann") == [("apple", "view", 100), ("pear", "cart", 200)]
    assert shown(extract, store, "bob") == [("plum", "purchase", 300)]
    assert shown(extract, store, "new") == []
    found = histories(extract, store, ["bob", "ann", "new"], 10_000, 100, always=["purchase"])
    assert np.diff(found.offsets).tolist() == [1, 2, 0]


def test_what_was_bought_again_after_a_return_is_bought(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "apple", "return", at=500)
    post(store, "ann", "apple", "purchase", at=600)
    assert shown(extract, store, "ann")[-1] == ("apple", "purchase", 600)
    assert [row[1] for row in shown(extract, store, "ann")].count("purchase") == 1


def test_a_deleted_user_has_no_history_until_the_user_comes_back(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "plum", at=350)
    delete_user(store, "ann", now=400)
    assert shown(extract, store, "ann") == []
    post(store, "ann", "plum", at=401)
    assert shown(extract, store, "ann") == [("plum", "view", 401)]
    assert len(shown(extract, store, "bob")) == 1


def test_a_tombstone_hides_events_that_reached_the_table_in_spite_of_it(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "plum", at=350)
    with store.writing() as connection:  # as when the deletion was committed in the middle of an insert
        connection.execute(store.tables.deletions.insert().values(user_id="ann", deleted_at=400))
    assert shown(extract, store, "ann") == []


def test_what_a_visitor_did_belongs_to_the_history_that_asks_for_it(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, None, "plum", at=150, received=10, visitor="cookie")  # older than the watermark, and in no extract
    post(store, None, "pear", at=600, visitor="cookie")
    post(store, None, "pear", at=600, visitor="another")
    assert shown(extract, store, None, visitor_ids=["cookie"]) == [("plum", "view", 150), ("pear", "view", 600)]
    assert [row[2] for row in shown(extract, store, "ann", visitor_ids=["cookie"])] == [100, 150, 200, 400, 600]
    assert len(shown(extract, store, "ann")) == 3


def test_an_event_with_user_and_visitor_belongs_to_the_user_and_counts_once(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "bob", "pear", at=600, visitor="shared browser")
    assert shown(extract, store, "bob", visitor_ids=["shared browser"])[-1] == ("pear", "view", 600)
    assert len(shown(extract, store, "bob", visitor_ids=["shared browser"])) == 2
    assert shown(extract, store, None, visitor_ids=["shared browser"]) == [("pear", "view", 600)]
    post(store, "ann", "plum", at=700, visitor="shared browser")
    assert shown(extract, store, "ann")[-1] == ("plum", "view", 700)
    assert shown(extract, store, None, visitor_ids=["shared browser"]) == [("pear", "view", 600)]


def test_what_a_guest_did_is_the_user_s_from_the_merge_on(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, None, "plum", at=150, received=10, visitor="cookie")  # before the extract, which does not hold it
    assert len(shown(extract, store, "ann")) == 3
    assert merge_visitor(store, "ann", "cookie", now=WATERMARK + 5) == 1
    assert [row[2] for row in shown(extract, store, "ann")] == [100, 150, 200, 400]
    assert [row[2] for row in shown(extract, store, "ann", visitor_ids=["cookie"])] == [100, 150, 200, 400]
    post(store, None, "plum", at=600, visitor="cookie")
    assert [row[2] for row in shown(extract, store, "ann")] == [100, 150, 200, 400, 600]
    assert [row[2] for row in shown(extract, store, None, visitor_ids=["cookie"])] == [150, 600]


def test_a_deletion_takes_the_events_of_the_user_and_not_those_of_a_visitor_beside(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, None, "plum", at=150, visitor="cookie")
    delete_user(store, "ann", now=400)
    assert shown(extract, store, "ann", visitor_ids=["cookie"]) == [("plum", "view", 150)]


def test_what_was_bought_stays_in_a_history_however_short(tmp_path, store):
    extract = extracted(tmp_path, read([*ROWS, ("ann", "plum", "purchase", 50)]))
    post(store, "ann", "pear", at=600)
    assert shown(extract, store, "ann", length=1) == [("pear", "view", 600)]
    assert shown(extract, store, "ann", length=1, always=["purchase"]) == [
        ("plum", "purchase", 50),
        ("apple", "purchase", 400),
        ("pear", "view", 600),
    ]


def test_a_user_and_a_visitor_with_the_same_id_stay_two(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, None, "plum", at=600, visitor="bob")
    post(store, "cookie", "pear", at=700)
    assert shown(extract, store, "bob") == [("plum", "purchase", 300)]
    assert shown(extract, store, None, visitor_ids=["cookie"]) == []
    delete_user(store, "bob", now=10_000)
    assert shown(extract, store, None, visitor_ids=["bob"]) == [("plum", "view", 600)]


def test_as_many_visitors_as_users_are_required(tmp_path, sqlite_store):
    extract = extracted(tmp_path, read(ROWS))
    with pytest.raises(ValueError, match="2 users but 1 visitors"):
        histories(extract, sqlite_store, ["ann", "bob"], 10, 10, visitor_ids=["v"])


def test_the_database_is_asked_once_however_many_are_asked_for(tmp_path, sqlite_store):
    extract = extracted(tmp_path, read(ROWS))
    seen = []
    sa.event.listen(sqlite_store.engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
    histories(extract, sqlite_store, ["ann", "bob", "new"], 10_000, 10, visitor_ids=["v", None, "w"])
    assert len([statement for statement in seen if not statement.startswith(("BEGIN", "COMMIT"))]) == 1


def test_the_extract_s_items_and_kinds_get_the_numbers_of_a_bundle_that_has_others(tmp_path, sqlite_store):
    extract = extracted(tmp_path, read(ROWS))
    post(sqlite_store, "ann", "plum", at=500)
    view = view_of(extract, ["plum", "other", "apple"])  # not the pear
    found = histories(extract, sqlite_store, ["ann", "bob"], 10_000, 100, view=view)
    assert found.items.tolist() == [2, 2, 0, 0]
    assert found.kinds.tolist() == [0, 2, 0, 2]
    listed = gathered(extract, sqlite_store, ["ann"], 10_000, view=view).shown(2)
    assert listed == [ShownEvent("plum", "view", 500), ShownEvent("apple", "purchase", 400)]
    listed = gathered(extract, sqlite_store, ["ann"], 10_000, view=view).shown(4)
    assert listed[2] == ShownEvent("pear", "cart", 200)


def test_events_that_come_with_the_query_count_and_lie_in_no_future(tmp_path, sqlite_store):
    extract = extracted(tmp_path, read(ROWS))
    inline = [
        InlineEvent("plum", "cart", 150),
        InlineEvent("pear", "view"),
        InlineEvent("plum", "purchase", 9_999),
        InlineEvent("nobody's", "view", 5),
    ]
    assert shown(extract, sqlite_store, "ann", as_of=1000, inline=inline) == [
        ("apple", "view", 100),
        ("plum", "cart", 150),
        ("pear", "cart", 200),
        ("apple", "purchase", 400),
        ("pear", "view", 1000),
        ("plum", "purchase", 1000),
    ]
    assert shown(extract, sqlite_store, "ann", as_of=1000, length=1, always=["cart"], inline=inline) == [
        ("plum", "cart", 150),
        ("pear", "cart", 200),
        ("plum", "purchase", 1000),
    ]
    listed = gathered(extract, sqlite_store, [None], 1000, inline=inline).shown(10)
    assert [event.item_id for event in listed] == ["plum", "pear", "plum", "nobody's"]


def test_the_newest_of_one_user_and_one_visitor_and_the_first_changes_come_when_so_many_are_asked_for(store):
    for at in range(5):
        post(store, "ann", f"i{at}", at=100 + at)
        post(store, None, f"i{at}", at=200 + at, visitor="v")
    upsert_items(store, pa.table({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"]}))
    found = read_changes(store, ["ann"], ["v"], occurred_before=204, length=2, item_limit=2)
    assert sorted(zip(found.events.visitors, found.events.items, found.events.times, strict=True)) == [
        (False, "i3", 103),
        (False, "i4", 104),
        (True, "i2", 202),
        (True, "i3", 203),
    ]
    assert [item.title for item in found.items] == ["A", "B"]
    rest = read_changes(store, revision=found.items[-1].revision, item_limit=9)
    assert [item.item_id for item in rest.items] == ["c"]
    assert rest.events.items == []


def test_of_many_users_and_visitors_the_newest_of_each_come(store):
    for at in range(5):
        for user, visitor in (("ann", None), ("bob", None), (None, "v"), (None, "w")):
            post(store, user, f"i{at}", at=100 + at, visitor=visitor)
    found = read_changes(store, ["ann", "bob"], ["v", "w"], occurred_before=104, length=2).events
    assert sorted(zip(found.owners, found.items, strict=True)) == [
        (owner, item) for owner in ("ann", "bob", "v", "w") for item in ("i2", "i3")
    ]


USERS, ITEMS = ("a", "A", "b"), ("x", "y")
EVENT = st.tuples(st.sampled_from(USERS), st.sampled_from(ITEMS), st.sampled_from(KINDS), st.integers(1, 60))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    in_extract=st.lists(EVENT, max_size=25),
    posted=st.lists(EVENT, max_size=15),
    deleted=st.dictionaries(st.sampled_from(USERS), st.integers(0, 60)),
    as_of=st.integers(1, 70),
    length=st.integers(1, 8),
)
def test_a_history_is_what_a_plain_loop_over_all_events_gives(
    tmp_path_factory, sqlite_store, in_extract, posted, deleted, as_of, length
):
    extract = extracted(tmp_path_factory.mktemp("extract"), read(in_extract, users=USERS, items=ITEMS))
    with sqlite_store.writing() as connection:
        for table in (sqlite_store.tables.events, sqlite_store.tables.deletions):
            connection.execute(table.delete())
    for user, item, kind, at in posted:
        post(sqlite_store, user, item, kind, at=at)
    with sqlite_store.writing() as connection:
        for user, at in deleted.items():
            connection.execute(sqlite_store.tables.deletions.insert().values(user_id=user, deleted_at=at))
    found = histories(extract, sqlite_store, USERS, as_of, length)
    for position, user in enumerate(USERS):
        alive = [e for e in in_extract + posted if e[0] == user and deleted.get(user, 0) < e[3] < as_of]
        mine = found.slice(position, position + 1)
        times = as_of - np.round(mine.ages_days.astype(np.float64) * DAY)
        assert times.tolist() == sorted(e[3] for e in alive)[-length:]
        shown_now = Counter(zip(extract.items.ids_of(mine.items), (KINDS[k] for k in mine.kinds), times, strict=True))
        assert not shown_now - Counter(e[1:] for e in alive)
