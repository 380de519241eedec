"""The night of guests: they train, those who log in are users in the next extract, and nobody mails the others."""

import csv
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from road import configured
from tiny import quiet

from jobs import answers
from jobs.audience import audience
from jobs.train import train
from recsys.data.extract import open_extract
from recsys.data.times import parse_time
from recsys.sample.shop import END
from recsys.store.events import insert_events
from recsys.store.migrate import open_store
from recsys.store.runs import list_runs
from recsys.store.visitors import merge_visitor

HOUR = 3_600_000_000
DAY = 24 * HOUR
GUESTS = 60


def visit(at: int, now: int) -> dict[str, object]:
    """One of 14 events of each of the guests, two of them purchases."""
    kind = "purchase" if at // GUESTS in (4, 9) else "view"
    event = {"event_id": f"e{at}", "user_id": None, "visitor_id": f"guest {at % GUESTS}", "kind": kind}
    return event | {"item_id": f"P{at % 40 + 200:05}", "occurred_at": END - at * 1_000_000 - 1, "received_at": now}


def test_guests_train_and_are_mailed_only_once_they_are_users(trained_shop: Path) -> None:
    config = configured(
        trained_shop,
        RECSYS_TRAINING__MODELS='["popularity"]',
        RECSYS_EVENTS__OWN_KINDS='["view", "purchase"]',
        RECSYS_AUDIENCE__CONSENT="assumed",
        RECSYS_GATE__MAX_RELATIVE_DROP="0.9",
    )
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        now = store.now()
        rows = [visit(at, now) for at in range(14 * GUESTS)]
        old = visit(0, now - 91 * DAY) | {"event_id": "old"}
        insert_events(store, pa.Table.from_pylist([*rows, old]))
        merge_visitor(store, "1003", "guest 7", now=store.now())
        train(config, progress=quiet)
        counts = list_runs(store, 1)[0].steps[0]["counts"]
    assert (counts["visitors"], counts["visitor_events"]) == (GUESTS - 1, 14 * (GUESTS - 1))
    assert counts["removed_visits"] == 1
    extract = open_extract(config.storage.path)
    assert not [user for user in extract.users if user.startswith("guest")]
    row = extract.users.row_of("1003")
    mine = extract.events.times[extract.events.offsets[row] : extract.events.offsets[row + 1]]
    assert int((mine > END - HOUR).sum()) == 14
    [known] = answers.recommend(config, user_ids=["1003"], k=1, progress=quiet).data
    assert len([event for event in known["history"] if parse_time(event["time"], default_utc=True) > END - HOUR]) == 14
    out = trained_shop / "audience.csv"
    audience(config, items=["P00207"], size=100_000, out=out, progress=quiet)
    with out.open(newline="", encoding="utf-8") as file:
        members = [member["user_id"] for member in csv.DictReader(file)]
    assert len(members) > 100
    assert not [member for member in members if "guest" in member]
