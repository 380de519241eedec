import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data.catalog import Catalog
from recsys.data.extract import Extract, histories, open_extract, publish, write
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError, NotFoundError
from recsys.store.events import insert_events
from recsys.store.users import delete_user

DAY = MICROSECONDS_PER_DAY
KINDS = ("view", "cart", "purchase")
WATERMARK = 1000


@dataclass(frozen=True)
class Read:
    users: Vocabulary
    catalog: Catalog
    events: Interactions
    kinds: tuple[str, ...] = KINDS
    watermark: int = WATERMARK


def read(rows, *, users=("ann", "bob", "idle"), items=("apple", "pear", "plum")) -> Read:
    """rows: (user, item, kind, time)"""
    user_ids, item_ids = Vocabulary.from_ids(users), Vocabulary.from_ids(items)
    events = Interactions.from_rows(
        user_ids.rows_of([row[0] for row in rows]),
        item_ids.rows_of([row[1] for row in rows]),
        np.array([KINDS.index(row[2]) for row in rows], np.int8),
        np.array([row[3] for row in rows], np.int64),
        np.full(len(rows), np.nan, np.float32),
        user_count=len(user_ids),
        item_count=len(item_ids),
    )
    return Read(user_ids, Catalog(item_ids, pa.table({})), events)


ROWS = [
    ("bob", "plum", "purchase", 300),
    ("ann", "pear", "cart", 200),
    ("ann", "apple", "view", 100),
    ("ann", "apple", "purchase", 400),
]


def extracted(folder, loaded: Read) -> Extract:
    publish(folder, write(folder, loaded))
    return open_extract(folder)


def post(store, user, item, kind="view", *, at, received=WATERMARK + 1, visitor=None):
    post.count += 1
    row = {"event_id": f"p{post.count}", "user_id": user, "visitor_id": visitor, "kind": kind, "item_id": item}
    table = pa.Table.from_pylist([{**row, "occurred_at": at, "received_at": received}])
    assert insert_events(store, table) == 1


post.count = 0


def shown(extract, store, user, as_of=10_000, length=100, **more):
    """The history of one user as (item, kind, time)."""
    found = histories(extract, store, [user], as_of, length, **more)
    ages = np.round(found.ages_days.astype(np.float64) * DAY).astype(int)
    return [
        (extract.items.id_of(i), extract.kinds[k], as_of - age)
        for i, k, age in zip(found.items, found.kinds, ages, strict=True)
    ]


def test_an_extract_comes_back_as_it_was_written_and_is_mapped_from_disk(tmp_path):
    loaded = read(ROWS)
    extract = extracted(tmp_path, loaded)
    assert list(extract.users) == ["ann", "bob", "idle"]
    assert list(extract.items) == ["apple", "pear", "plum"]
    assert (extract.kinds, extract.watermark, extract.as_of) == (KINDS, WATERMARK, 401)
    assert extract.events.item_count == 3
    for name in ("offsets", "items", "kinds", "times", "values"):
        array = getattr(extract.events, name)
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, getattr(loaded.events, name))


def test_a_shop_without_events_has_an_extract_too(tmp_path, sqlite_store):
    extract = extracted(tmp_path, read([], users=(), items=()))
    assert (len(extract.users), len(extract.items), len(extract.events), extract.as_of) == (0, 0, 0, 0)
    assert shown(extract, sqlite_store, "ann") == []


def test_without_an_extract_the_error_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="recsys train"):
        open_extract(tmp_path)


def test_a_written_extract_counts_only_when_published(tmp_path):
    extracted(tmp_path, read(ROWS))
    write(tmp_path, read(ROWS[:1]))
    assert len(open_extract(tmp_path).events) == 4


def test_two_versions_are_kept_and_an_open_one_survives_its_removal(tmp_path):
    first = extracted(tmp_path, read(ROWS))
    names = [write(tmp_path, read(ROWS[:count])) for count in (1, 2, 3)]
    for name in names:
        publish(tmp_path, name)
    versions = sorted(path.name for path in (tmp_path / "extract").iterdir() if path.is_dir())
    assert versions == names[1:]
    assert len(open_extract(tmp_path).events) == 3
    assert first.events.times.tolist() == [100, 200, 400, 300]


@pytest.mark.parametrize("name", ["items.npy", "users_blob.npy", "times.npy"])
def test_a_flipped_byte_is_found(tmp_path, name):
    version = write(tmp_path, read(ROWS))
    publish(tmp_path, version)
    path = tmp_path / "extract" / version / name
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BundleError, match=name):
        open_extract(tmp_path)


@pytest.mark.parametrize(("key", "value", "says"), [("format", 2, "format 2"), ("events", 5, "do not agree")])
def test_a_manifest_that_does_not_fit_is_refused(tmp_path, key, value, says):
    version = write(tmp_path, read(ROWS))
    publish(tmp_path, version)
    path = tmp_path / "extract" / version / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BundleError, match=says):
        open_extract(tmp_path)


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


def test_an_event_of_an_unknown_item_or_kind_is_left_out_and_counted(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "new product", at=500)
    post(store, "ann", "Apple", at=500)
    post(store, "ann", "apple", "wish", at=500)
    dropped = Counter()
    assert len(shown(extract, store, "ann", dropped=dropped)) == 3
    assert +dropped == {"unknown item": 2, "unknown kind": 1}


def test_a_deleted_user_has_no_history_until_the_user_comes_back(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "ann", "plum", at=350)
    delete_user(store, "ann", now=400)
    dropped = Counter()
    assert shown(extract, store, "ann", dropped=dropped) == []
    assert +dropped == {"deleted": 3}
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


def test_an_event_with_user_and_visitor_belongs_to_the_user_alone_and_once(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, "bob", "pear", at=600, visitor="shared browser")
    assert shown(extract, store, "bob", visitor_ids=["shared browser"])[-1] == ("pear", "view", 600)
    assert len(shown(extract, store, "bob", visitor_ids=["shared browser"])) == 2
    assert shown(extract, store, None, visitor_ids=["shared browser"]) == []


def test_a_deletion_takes_the_events_of_the_user_and_not_those_of_a_visitor_beside(tmp_path, store):
    extract = extracted(tmp_path, read(ROWS))
    post(store, None, "plum", at=150, visitor="cookie")
    delete_user(store, "ann", now=400)
    assert shown(extract, store, "ann", visitor_ids=["cookie"]) == [("plum", "view", 150)]


def test_what_was_bought_stays_in_a_history_however_short(tmp_path, store):
    extract = extracted(tmp_path, read([*ROWS, ("ann", "plum", "purchase", 50)]))
    post(store, "ann", "pear", at=600)
    assert shown(extract, store, "ann", length=1) == [("pear", "view", 600)]
    assert shown(extract, store, "ann", length=1, always=["purchase", "no kind of it"]) == [
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


USERS, ITEMS = ("a", "A", "b"), ("x", "y")
EVENT = st.tuples(st.sampled_from(USERS), st.sampled_from(ITEMS), st.sampled_from(KINDS), st.integers(1, 60))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
