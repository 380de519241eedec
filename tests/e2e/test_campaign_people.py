"""Whom a campaign leaves out and why: suppression, filters, recent buyers, newer events, and what changes later."""

import csv
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from road import configured, parsed
from test_campaign import ITEMS, buyers, change_customers, consents, draw, ids_of, opened

from recsys.bundle import bundle as bundles
from recsys.config.settings import Config
from recsys.data.extract import open_extract
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import ConfigError, RefusedError
from recsys.store.events import insert_events
from recsys.store.users import delete_user


def test_every_suppression_file_counts_on_the_command_line(trained_shop: Path, recsys: Callable[..., Any]) -> None:
    config = configured(trained_shop)
    first = ids_of(draw(config, trained_shop)[1])
    change_customers(trained_shop, "country = 'Ann@x.com'", f"id = {first[2]}")
    (trained_shop / "a.txt").write_text(first[0])
    (trained_shop / "b.txt").write_text(first[1])
    (trained_shop / "c.txt").write_text("ann@X.com\n")
    data = parsed(
        recsys(
            *("audience", "--items", *ITEMS, "--size", "10", "--out", trained_shop / "audience.csv", "--json"),
            *("--suppress", trained_shop / "a.txt", "--suppress", trained_shop / "b.txt"),
            *("--suppress", trained_shop / "c.txt", "--config", trained_shop / "recsys.toml"),
            RECSYS_SOURCE__USERS="SELECT id AS user_id, email_consent, country AS email FROM customers",
        )
    )
    with (trained_shop / "audience.csv").open(newline="", encoding="utf-8") as file:
        assert ids_of(list(csv.DictReader(file))) == first[3:13]
    assert [data["left_out"][f"users on the list {name}.txt"] for name in "abc"] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(4))
def test_nobody_who_must_not_be_mailed_is_a_member_and_the_reasons_add_up(trained_shop: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    config = configured(trained_shop)
    extract = open_extract(config.storage.path)
    everybody = list(extract.users)
    for said in ("0", "1", "NULL"):
        change_customers(trained_shop, f"email_consent = {said}", f"id % 7 = {random.integers(7)}")
    gone, unwanted = ([str(one) for one in random.choice(everybody, 40, replace=False)] for _ in range(2))
    (trained_shop / "list").write_text("\n".join(unwanted))
    with closing(opened(config)) as store:
        for user in gone[:3]:
            delete_user(store, user, now=store.now())
    asked = {
        "exclude_past_buyers": bool(random.integers(2)),
        "bought_within_days": float(random.integers(1, 400)),
        "min_purchases": int(random.integers(3)),
        "user_filters": ["country:in:DE,AT"] if random.integers(2) else ["country:exists:true"],
    }
    data, rows = draw(config, trained_shop, size=2000, suppress=[trained_shop / "list"], **asked)
    members, consent = set(ids_of(rows)), consents(config)
    assert members
    assert all(consent[user] is True for user in members)
    assert not members & {*unwanted, *gone[:3]}
    if asked["exclude_past_buyers"]:
        assert not members & buyers(config)
    assert data["eligible"] == len(rows)
    assert sum(data["left_out"].values()) + data["eligible"] == len({*everybody, *consent})


def test_filters_say_who_and_about_what(trained_shop: Path) -> None:
    config = configured(trained_shop)
    with closing(sqlite3.connect(trained_shop / "shop.db")) as shop:
        there = {str(user) for (user,) in shop.execute("SELECT id FROM customers WHERE country = 'DE'")}
    catalog = bundles.load(config.storage.path).catalog
    brand = catalog.columns["brand"][0].as_py()
    of_brand = [catalog.ids.id_of(at) for at, one in enumerate(catalog.columns["brand"].to_pylist()) if one == brand]
    filters = [f'brand:eq:"{brand}"' if "," in brand else f"brand:eq:{brand}"]
    data, rows = draw(config, trained_shop, items=(), filters=filters, user_filters=["country:eq:de"], size=2000)
    assert data["items"] == sorted(of_brand)
    assert rows
    assert set(ids_of(rows)) <= there
    assert data["curve"]["expected_buyers"] == pytest.approx(data["expected_buyers"], abs=0.02)
    sizes = list(data["curve"]["sizes"].values())
    assert sizes == sorted(sizes)
    assert sum(float(row["probability"]) for row in rows[: sizes[0]]) >= 0.5 * data["expected_buyers"] - 0.01
    with pytest.raises(RefusedError, match="no such column"):
        draw(config, trained_shop, user_filters=["shoe:eq:43"])
    with pytest.raises(RefusedError, match="0 of 300 items"):
        draw(config, trained_shop, items=(), filters=["brand:eq:nobody"])
    with pytest.raises(ConfigError, match="--items, --filter or --anything"):
        draw(config, trained_shop, items=())


def history_of(config: Config, user: str) -> list[tuple[str, str, int]]:
    """What a user did: item, kind, time."""
    extract = open_extract(config.storage.path)
    events, row = extract.events, extract.users.row_of(user)
    at = range(int(events.offsets[row]), int(events.offsets[row + 1])) if row >= 0 else range(0)
    return [
        (extract.items.id_of(int(events.items[n])), extract.kinds[int(events.kinds[n])], int(events.times[n]))
        for n in at
    ]


def test_a_cart_that_was_abandoned_makes_a_member_and_the_best_items_are_told(trained_shop: Path) -> None:
    config = configured(trained_shop)
    items = [f"P{number:05}" for number in range(1, 201)]
    data, rows = draw(config, trained_shop, items=items, strategy="abandoned_cart", size="50%")
    assert len(rows) == data["members"] == round(data["eligible"] / 2)
    assert data["score"] == "days since"
    newest = open_extract(config.storage.path).as_of
    for row in rows:
        mine = history_of(config, row["user_id"])
        carts = [(item, time) for item, kind, time in mine if kind == "cart" and item in items]
        bought = {(item, time) for item, kind, time in mine if kind == "purchase"}
        still_open = [t for item, t in carts if not any(other == item and when >= t for other, when in bought)]
        assert (newest - max(still_open)) / MICROSECONDS_PER_DAY == pytest.approx(float(row["score"]), abs=0.01)
        assert len({row["best_item"], *row["runners_up"].split("|")} & set(items)) == 4
    assert data["left_out"]["users without an abandoned cart"] > 0


def test_a_mailing_about_anything_reaches_newcomers_without_a_history_too(trained_shop: Path) -> None:
    with closing(sqlite3.connect(trained_shop / "shop.db")) as shop, shop:
        row = shop.execute("SELECT * FROM customers LIMIT 1").fetchone()
        names = [column[1] for column in shop.execute("PRAGMA table_info(customers)")]
        new = dict(zip(names, row, strict=True)) | {"id": 99999, "email_consent": 1}
        shop.execute(f"INSERT INTO customers ({', '.join(new)}) VALUES ({', '.join('?' * len(new))})", [*new.values()])
    config = configured(trained_shop)
    _, rows = draw(config, trained_shop, items=(), anything=True, strategy="newcomers", size=5000)
    found = {row["user_id"]: row for row in rows}
    assert 0 < float(found["99999"]["probability"]) < 1
    assert found["99999"]["best_item"] == ""
    newest = open_extract(config.storage.path).as_of
    for user in found.keys() - {"99999"}:
        first = min((time for _, _, time in history_of(config, user)), default=newest)
        assert newest - first <= 30 * MICROSECONDS_PER_DAY
    data, rows = draw(config, trained_shop, items=(), anything=True, size=5000)
    assert "99999" not in ids_of(rows)
    assert data["left_out"]["users without a history"] >= 1


def test_recent_buyers_are_left_out_by_days(trained_shop: Path) -> None:
    config = configured(trained_shop)
    extract = open_extract(config.storage.path)
    rows = extract.items.rows_of(ITEMS)
    bought = extract.events.of_kinds(config.target_codes)
    since = extract.as_of - 60 * MICROSECONDS_PER_DAY
    mine = np.isin(bought.items, rows)
    recent = {extract.users.id_of(int(user)) for user in bought.users[mine & (bought.times >= since)]}
    _, members = draw(config, trained_shop, bought_within_days=60, size=2000)
    assert recent
    assert not recent & set(ids_of(members))
    assert buyers(config) & set(ids_of(members))


def test_a_changed_query_of_users_is_another_audience(trained_shop: Path) -> None:
    config = configured(trained_shop)
    data, _ = draw(config, trained_shop, size=500)
    query = "SELECT id AS user_id, email_consent FROM customers WHERE country = 'DE'"
    fewer = configured(trained_shop, RECSYS_SOURCE__USERS=query)
    other, rows = draw(fewer, trained_shop, size=500)
    assert (other["frozen"], other["audience_id"] != data["audience_id"]) == ("now", True)
    assert set(ids_of(rows)) <= set(consents(fewer))
    assert len(rows) < data["members"]


def test_who_is_filtered_out_later_has_withdrawn_nothing(trained_shop: Path) -> None:
    query = "SELECT id AS user_id, email_consent FROM customers WHERE country <> 'gone'"
    config = configured(trained_shop, RECSYS_SOURCE__USERS=query)
    first = ids_of(draw(config, trained_shop)[1])
    change_customers(trained_shop, "country = 'gone'", f"id IN ({first[1]}, {first[2]})")
    change_customers(trained_shop, "email_consent = 0", f"id = {first[0]}")
    change_customers(trained_shop, "email_consent = NULL", f"id = {first[4]}")
    data, rows = draw(config, trained_shop)
    assert ids_of(rows) == [first[3], *first[5:]]
    assert data["left_since"] == {
        "are no longer among those whom the query of users returns": 2,
        "withdrew their consent": 1,
        "have no known consent any more": 1,
    }


def post_later(config: Config, days: float) -> None:
    """One event of somebody that came so long after the newest one that training has seen."""
    newest = open_extract(config.storage.path)
    event = {"event_id": f"e{days}", "user_id": newest.users.id_of(0), "item_id": ITEMS[0], "kind": "view"}
    with closing(opened(config)) as store:
        time = newest.as_of + round(days * MICROSECONDS_PER_DAY)
        insert_events(store, pa.Table.from_pylist([{**event, "occurred_at": time, "received_at": store.now()}]))


def test_one_newer_event_does_not_change_how_many_will_buy(trained_shop: Path) -> None:
    config = configured(trained_shop, RECSYS_AUDIENCE__MAX_LAG_DAYS="100")
    before, _ = draw(config, trained_shop, size=2000)
    post_later(config, 40)
    after, _ = draw(config, trained_shop, size=2000)
    assert after["as_of"] > before["as_of"]
    assert after["expected_buyers"] == pytest.approx(before["expected_buyers"], rel=0.02)


def test_a_moment_too_far_from_the_last_training_is_refused(trained_shop: Path) -> None:
    config = configured(trained_shop)
    before, _ = draw(config, trained_shop)
    post_later(config, 15)
    with pytest.raises(RefusedError, match=r"lies 15\.0 days after .* max_lag_days"):
        draw(config, trained_shop)
    assert draw(config, trained_shop, as_of=before["as_of"])[0]["frozen"] == "before"
