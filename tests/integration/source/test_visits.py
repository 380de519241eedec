"""Events without a user: counted, trained from beside those of users, merged, bounded and left out when deleted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from importing import EVENTS, put, stored, write
from shops import DAY, GOOD, NOW, SECONDS, Shop, check, events_of, found, load, own_events

from recsys.config.settings import Config
from recsys.data.interactions import stack
from recsys.source.dataset import Dataset
from recsys.source.importer import DELETED
from recsys.store.database import Store
from recsys.store.events import insert_events
from recsys.store.users import delete_user, delete_visitor
from recsys.store.visitors import merge_visitor, read_visitors
from recsys.training.pipeline import TrainingRun, training_data

QUERY = "SELECT user_id, item_id, event, timestamp, value, visitor_id FROM events"
USERS = [(user, item, event, time, value, None) for user, item, event, time, value in GOOD]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A shop that writes down visitors too."""
    shop = Shop(tmp_path)
    shop.run("ALTER TABLE events ADD COLUMN visitor_id")
    return shop


def post(store: Store, rows: list[tuple[str | None, str | None, str, int]]) -> None:
    """Own events of user, visitor, item, time."""
    table = own_events([("", item, "view", time) for _, _, item, time in rows]).drop_columns("user_id")
    post.count += len(rows)
    ids = pa.array([f"p{post.count - at}" for at in range(len(rows))])
    table = table.set_column(0, "event_id", ids)
    for at, column in enumerate(("user_id", "visitor_id")):
        table = table.append_column(column, pa.array([row[at] for row in rows], pa.string()))
    insert_events(store, table)


post.count = 0


def visits_of(loaded: Dataset) -> list[tuple[int, str, int]]:
    """Number of the visitor, item, and time before now."""
    visits = loaded.visits
    items = loaded.catalog.ids.ids_of(visits.items)
    return sorted(zip(visits.users.tolist(), items, (NOW - visits.times).tolist(), strict=True))


def test_840_events_of_visitors_are_840_in_the_check(store: Store) -> None:
    insert_events(store, own_events([(f"u{at % 5}", f"i{at % 7}", "purchase", NOW - DAY + at) for at in range(50)]))
    post(store, [(None, f"v{at % 60}", f"i{at % 9}", NOW - at) for at in range(840)])
    report = check(Config(), store)
    assert (report.counts["rows"], report.counts["events"]) == (890, 50)
    assert (report.counts["visitors"], report.counts["visitor_events"]) == (60, 840)
    assert report.counts["users"] == 5


def test_models_learn_from_visitors_after_the_users_and_nothing_from_later(shop: Shop, sqlite_store: Store) -> None:
    visits = [("", f"i{at % 3}", "view", SECONDS - 50_000 + at, 1.0, f"v{at % 4}") for at in range(40)]
    shop.add("events", [*USERS, *visits])
    loaded = load(shop.config(interactions=QUERY), sqlite_store)
    assert (len(loaded.events), len(loaded.users), len(loaded.visits), loaded.visits.user_count) == (600, 20, 40, 4)
    assert loaded.report.kinds["view"]["rows"] == 640
    run = TrainingRun(shop.config(interactions=QUERY), loaded)
    learned = training_data(run, loaded.events, NOW - 50_000_000_000 + 10_000_000).events
    assert (learned.user_count, len(learned)) == (24, 610)
    assert learned.times[:600].tolist() == loaded.events.times.tolist()
    assert run.splits.known.user_count == 20  # who is judged


def test_a_run_takes_place_after_the_newest_visit(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*USERS, (None, "i1", "view", SECONDS + 60, 1.0, "v")])
    run = TrainingRun(shop.config(interactions=QUERY), load(shop.config(interactions=QUERY), sqlite_store))
    assert run.as_of == NOW + 60_000_000 + 1
    assert len(training_data(run, run.dataset.events, run.as_of).events) == 601


def test_a_user_and_a_visitor_of_one_name_stay_two(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*USERS, (None, "i1", "view", SECONDS - 7, 1.0, "u1")])
    loaded = load(shop.config(interactions=QUERY), sqlite_store)
    assert (len(loaded.events), visits_of(loaded)) == (600, [(0, "i1", 7_000_000)])


def test_a_row_with_neither_id_is_left_out_and_shown(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*USERS, (None, "i1", "view", SECONDS, 1.0, ""), (None, "i1", "view", SECONDS, 1.0, None)])
    finding = found(check(shop.config(interactions=QUERY), sqlite_store), "no user")
    assert (finding.rows, finding.left_out) == (2, True)


def test_a_visitor_s_id_that_cannot_be_stored_is_named(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*USERS, (None, "i1", "view", SECONDS, 1.0, "v" * 256)])
    assert found(check(shop.config(interactions=QUERY), sqlite_store), "id too long or with NUL").rows == 1


def test_rows_with_both_ids_merge_the_visitor_with_the_first_user(shop: Shop, sqlite_store: Store) -> None:
    rows = [
        (None, "x", "view", SECONDS - 90, 1.0, "v"),
        ("late", "x", "view", SECONDS - 50, 1.0, "v"),
        ("u1", "x", "view", SECONDS - 60, 1.0, "v"),
        (None, "y", "view", SECONDS - 10, 1.0, "v"),
        (None, "x", "view", SECONDS - 5, 1.0, "w"),
    ]
    shop.add("events", [*USERS, *rows])
    loaded = load(shop.config(interactions=QUERY), sqlite_store)
    mine = [(item, (NOW - time) // 1_000_000) for user, item, _, time, _ in events_of(loaded) if user == "u1"]
    assert mine[-3:] == [("x", 90), ("x", 60), ("y", 10)]
    assert visits_of(loaded) == [(0, "x", 5_000_000)]
    assert found(loaded.report, "event of a merged visitor").rows == 2


def test_a_merge_by_the_service_holds_for_the_shop_s_rows_and_goes_before_theirs(
    shop: Shop, sqlite_store: Store
) -> None:
    rows = [(None, "x", "view", SECONDS - 90, 1.0, "v"), ("late", "x", "view", SECONDS - 50, 1.0, "v")]
    shop.add("events", [*USERS, *rows])
    merge_visitor(sqlite_store, "only here", "v", now=NOW)
    loaded = load(shop.config(interactions=QUERY), sqlite_store)
    assert [event[:2] for event in events_of(loaded) if event[0] in ("only here", "late")] == [
        ("late", "x"),
        ("only here", "x"),
    ]
    assert len(loaded.visits) == 0


def test_visitors_who_were_merged_with_an_id_of_guests_stay_visitors(store: Store) -> None:
    insert_events(store, own_events([(f"u{at % 5}", f"i{at % 7}", "purchase", NOW - DAY + at) for at in range(50)]))
    post(store, [("0", "v", "x", NOW - 9), ("0", "w", "y", NOW - 8), (None, "w", "z", NOW - 7)])
    loaded = load(Config.model_validate({"source": {"guest_ids": ["0"]}}), store)
    assert "0" not in {event[0] for event in events_of(loaded)}
    assert sorted(visit[1:] for visit in visits_of(loaded)) == [("x", 9), ("y", 8), ("z", 7)]
    assert loaded.visits.user_count == 2


@pytest.mark.parametrize("shared", ["anonymous", "0", "-", "Guest", "ours"])
def test_a_visitor_id_of_all_guests_is_no_visitor_and_merges_nobody(
    shop: Shop, sqlite_store: Store, shared: str
) -> None:
    rows = [
        ("u1", "x", "view", SECONDS - 9, 1.0, shared),
        ("u2", "x", "view", SECONDS - 8, 1.0, shared),
        *((None, "y", "view", SECONDS - at, 1.0, shared) for at in range(7)),
        (None, "y", "view", SECONDS - 3, 1.0, "v"),
    ]
    shop.add("events", [*USERS, *rows])
    config = shop.config(interactions=QUERY)
    source = config.source.model_copy(update={"guest_ids": ("ours",)})
    loaded = load(config.model_copy(update={"source": source}), sqlite_store)
    assert (len(loaded.events), visits_of(loaded)) == (602, [(0, "y", 3_000_000)])
    assert found(loaded.report, "visitor id of all guests").rows == 2
    assert (found(loaded.report, "event of a guest").rows, found(loaded.report, "event of a guest").severity) == (
        7,
        "note",
    )


def test_what_was_posted_by_a_guest_trains_as_the_user_s(store: Store) -> None:
    insert_events(store, own_events([(f"u{at % 5}", f"i{at % 7}", "purchase", NOW - DAY + at) for at in range(50)]))
    post(store, [(None, "v", "x", NOW - 9), (None, "w", "x", NOW - 8), ("new", "v", "y", NOW - 7)])
    loaded = load(Config(), store)
    assert [event[:2] for event in events_of(loaded) if event[0] == "new"] == [("new", "x"), ("new", "y")]
    assert visits_of(loaded) == [(0, "x", 8)]


def test_visits_from_before_a_deletion_count_nowhere(shop: Shop, sqlite_store: Store) -> None:
    rows = [
        (None, "x", "view", SECONDS - 90, 1.0, "v"),
        (None, "y", "view", SECONDS - 10, 1.0, "v"),
        ("gone", "x", "view", SECONDS - 80, 1.0, "w"),
        (None, "x", "view", SECONDS - 70, 1.0, "w"),
        (None, "y", "view", SECONDS - 11, 1.0, "w"),
        ("old", "x", "view", SECONDS - 20, 1.0, "z"),
        (None, "x", "view", SECONDS - 70, 1.0, "z"),
    ]
    shop.add("events", [*USERS, *rows])
    delete_visitor(sqlite_store, "v", now=NOW - 60_000_000)
    delete_user(sqlite_store, "gone", now=NOW - 60_000_000)
    delete_user(sqlite_store, "old", now=NOW - 60_000_000)
    loaded = load(shop.config(interactions=QUERY), sqlite_store)
    # "gone" and "w" were joined before the deletion only: whoever comes with "w" later is a stranger.
    # What "w" did before it is gone with the user, as is what "z" did before the deletion of "old".
    times = [(item, ago // 1_000_000) for _, item, ago in visits_of(loaded)]
    assert times == [("y", 10), ("y", 11)]
    assert [event[:2] for event in events_of(loaded) if event[0] in ("gone", "old")] == [("old", "x")]


def test_visits_are_bounded_by_number_and_by_age_and_the_check_says_so(shop: Shop, sqlite_store: Store) -> None:
    visits = [(None, f"i{at % 3}", "view", SECONDS - at * 86_400, 1.0, f"v{at}") for at in range(40)]
    shop.add("events", [*USERS, *visits])
    whole = load(shop.config(interactions=QUERY), sqlite_store)
    assert len(whole.visits) == 40
    month = load(shop.config({"visitor_days": 30}, interactions=QUERY), sqlite_store)
    assert sorted(ago // DAY for _, _, ago in visits_of(month)) == list(range(31))
    assert found(month.report, "old event of a visitor").rows == 9
    few = load(shop.config({"max_visitor_events": 7}, interactions=QUERY), sqlite_store)
    assert sorted(ago // DAY for _, _, ago in visits_of(few)) == list(range(7))
    assert found(few.report, "old event of a visitor").rows == 33
    none = load(shop.config({"max_visitor_events": 0}, interactions=QUERY), sqlite_store)
    assert (len(none.visits), len(none.events)) == (0, 600)


def test_a_shop_that_has_visitors_only_is_told_what_is_missing(sqlite_store: Store) -> None:
    post(sqlite_store, [(None, f"v{at % 60}", f"i{at % 9}", NOW - at) for at in range(840)])
    [error] = check(Config(), sqlite_store).errors
    assert (error.reason, "840 events of visitors" in error.advice) == ("no events", True)


def test_stacked_events_keep_their_owners(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*USERS, (None, "i1", "view", SECONDS, 1.0, "v"), (None, "i2", "view", SECONDS, 2.0, "w")])
    loaded = load(shop.config(interactions=QUERY), sqlite_store)
    both = stack(loaded.events, loaded.visits)
    assert both.users.tolist() == [*loaded.events.users.tolist(), 20, 21]
    assert np.diff(both.offsets)[-2:].tolist() == [1, 1]
    assert both.values[-2:].tolist() == [1.0, 2.0]


def test_visitors_are_imported_merged_and_recognized_again(store: Store, tmp_path: Path) -> None:
    visit = EVENTS[0] | {"user_id": "", "visitor_id": "v"}
    rows = [visit, EVENTS[1] | {"visitor_id": "v"}, EVENTS[2] | {"visitor_id": ""}, visit | {"visitor_id": "w"}]
    assert put(store, write(tmp_path / "e.csv", rows)).inserted == 4
    assert sorted(str(row[0]) for row in stored(store)) == ["A", "A", "None", "😀"]
    assert put(store, write(tmp_path / "e.csv", rows)).already_there == 4
    assert put(store, write(tmp_path / "e.csv", EVENTS[1:])).already_there == 2  # as before visitors were told
    delete_visitor(store, "w", now=store.now())
    assert put(store, write(tmp_path / "e.csv", rows)).left_out == {DELETED: 1}


def test_an_import_takes_a_visitor_id_of_all_guests_for_none_and_says_so(sqlite_store: Store, tmp_path: Path) -> None:
    rows = [EVENTS[0] | {"visitor_id": "Anonymous"}, EVENTS[1] | {"visitor_id": "v"}]
    nobody = EVENTS[0] | {"user_id": "", "visitor_id": "anonymous"}
    done = put(sqlite_store, write(tmp_path / "e.csv", [*rows, nobody]))
    assert (done.inserted, done.left_out) == (2, {"event of a guest": 1})
    assert [(each.reason, each.rows) for each in done.findings] == [
        ("event of a guest", 1),
        ("visitor id of all guests", 1),
    ]
    assert read_visitors(sqlite_store).merged == {"v": "A"}
