import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.errors import RefusedError
from recsys.store.bulk import check_id, find_invalid_ids
from recsys.store.changes import read_changes
from recsys.store.events import insert_events
from recsys.store.items import upsert_items
from recsys.store.tables import MAX_ID_LENGTH, own_queries
from recsys.store.users import delete_user, read_deletions, upsert_users

# Ids that databases like to take for each other or for something else.
IDS = [
    *("a", "A", "a ", "a  ", " a", "a\t", "a\n", "á", "a\u0301", "ａ", "ß", "ss", "SS", "ẞ", "ı", "i", "I", "İ"),
    *(
        "a/b",
        "a\\b",
        "a'b",
        'a"b',
        "a`b",
        "a''b",
        "\\'",
        "\\N",
        "\\.",
        "\\",
        "/",
        "'",
        '"',
        "--",
        "a;b",
        "a,b",
        "{a}",
        "{}",
    ),
    *(
        "%",
        "%s",
        "%(a)s",
        "a_b",
        "a%b",
        "?",
        ":a",
        "$1",
        "NULL",
        "null",
        "None",
        "nan",
        "true",
        "0",
        "00",
        "0.0",
        "1",
        "1.0",
    ),
    *("😀", "😁", "👩‍💻", "👩💻", "日本", "\u200b", "a\u200b", "\ufeff", "\u00a0", " ", "  ", "\x01", "\x7f", "\u2028"),
    *("x" * MAX_ID_LENGTH, "X" * MAX_ID_LENGTH, "😀" * MAX_ID_LENGTH, "é" * (MAX_ID_LENGTH - 1) + " "),
]


def one_event_each() -> pa.Table:
    """Event, user, item, kind and request all have the same id."""
    columns = dict.fromkeys(("event_id", "user_id", "item_id", "kind", "request_id"), IDS)
    return pa.table({**columns, "occurred_at": range(len(IDS)), "received_at": [5] * len(IDS)})


def test_ids_that_look_alike_stay_apart_in_events(store):
    assert insert_events(store, one_event_each()) == len(IDS)
    assert insert_events(store, one_event_each()) == 0
    with store.reading() as connection:
        rows = connection.exec_driver_sql(own_queries(store.tables)[0]).mappings().all()
    found = {row["timestamp"]: (row["user_id"], row["item_id"], row["event"]) for row in rows}
    assert found == {at: (i, i, i) for at, i in enumerate(IDS)}


def test_each_user_gets_own_events_only(store):
    insert_events(store, one_event_each())
    for at, user in enumerate(IDS):
        found = read_changes(store, [user], occurred_before=1000).events
        assert (found.owners, found.items, found.kinds, found.times) == ([user], [user], [user], [at])


def test_each_visitor_gets_own_events_only(store):
    insert_events(store, one_event_each().rename_columns({"user_id": "visitor_id"}))
    for visitor in IDS:
        found = read_changes(store, (), [visitor], occurred_before=1000).events
        assert (found.owners, found.visitors, found.items) == ([visitor], [True], [visitor])


def test_ids_that_look_alike_stay_apart_as_items_and_users(store):
    assert upsert_items(store, pa.table({"item_id": IDS, "title": IDS, "attribute": IDS})) == len(IDS)
    assert upsert_users(store, pa.table({"user_id": IDS})) == len(IDS)
    assert upsert_items(store, pa.table({"item_id": IDS, "price": [float(at) for at in range(len(IDS))]})) == len(IDS)
    items, users = store.tables.items, store.tables.users
    with store.reading() as connection:
        found = {row.item_id: (row.title, row.price) for row in connection.execute(sa.select(items))}
        known = set(connection.execute(sa.select(users.c.user_id)).scalars())
    assert found == {i: (i, float(at)) for at, i in enumerate(IDS)}
    assert known == set(IDS)


def test_deleting_one_user_leaves_those_whose_id_looks_alike(store):
    insert_events(store, one_event_each())
    gone = {"a", "A ", "😀", "é", "NULL"}
    for user in gone:
        delete_user(store, user, now=10_000)
    with store.reading() as connection:
        left = set(connection.execute(sa.select(store.tables.events.c.user_id)).scalars())
    assert left == set(IDS) - gone
    assert set(read_deletions(store)) == gone


def test_ids_are_sorted_by_code_point_everywhere(store):
    upsert_users(store, pa.table({"user_id": IDS}))
    users = store.tables.users
    with store.reading() as connection:
        found = list(connection.execute(sa.select(users.c.user_id).order_by(users.c.user_id)).scalars())
    assert found == sorted(IDS)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "empty"),
        ("x" * 256, "256 characters"),
        ("😀" * 256, "256 characters"),
        ("a\x00b", "NUL"),
        ("\x00", "NUL"),
        ("a\ud800", "surrogate"),
    ],
)
def test_an_id_that_cannot_be_kept_is_refused_by_name_and_reason(wrong, says):
    with pytest.raises(RefusedError, match=f"user_id .*{says}") as error:
        check_id("user_id", wrong)
    assert "1 to 255 characters" in str(error.value)


@given(st.text(st.characters(codec="utf-8"), max_size=300))
@example("")
@example("x" * 255)
@example("x" * 256)
@example("\x00")
def test_one_id_and_a_column_of_ids_are_judged_alike(identifier):
    in_column = find_invalid_ids(pa.chunked_array([[identifier]])).to_pylist()
    try:
        assert check_id("item_id", identifier) == identifier
        assert in_column == [False]
    except RefusedError:
        assert in_column == [True]


def test_a_null_in_a_column_of_ids_stays_null():
    assert find_invalid_ids(pa.chunked_array([["a", None, ""]], pa.string())).to_pylist() == [False, None, True]
