"""Lists, caps and consent as the shop keeps them; what changes after an audience was frozen, and filling it up."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from road import configured
from test_campaign import ITEMS, change_customers, consents, draw, ids_of, opened

from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.errors import ConfigError, RefusedError, SourceError
from recsys.store.users import delete_user

LISTS = {"RECSYS_AUDIENCE__LISTS": '{unsubscribed = "SELECT email FROM unsubscribes", bounced = "bounces"}'}
PEOPLE = {"RECSYS_SOURCE__USERS": "SELECT id AS user_id, email_consent, 'u' || id || '@x.com' AS email FROM customers"}


def fill(folder: Path, table: str, columns: str, *rows: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        shop.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
        shop.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns.split(',')))})", rows)


def test_every_list_of_the_shop_counts_under_its_own_name_and_so_do_later_entries(trained_shop: Path) -> None:
    first = ids_of(draw(configured(trained_shop, **PEOPLE), trained_shop, size=10)[1])
    config = configured(trained_shop, **LISTS, **PEOPLE)
    fill(trained_shop, "unsubscribes", "email", (f"U{first[0]}@x.com",))
    fill(trained_shop, "bounces", "user_id, code", (int(first[1]), 550))
    data, rows = draw(config, trained_shop, size=8)
    assert ids_of(rows) == first[2:]
    assert (data["left_out"]["users on the list unsubscribed"], data["left_out"]["users on the list bounced"]) == (1, 1)
    fill(trained_shop, "bounces", "user_id, code", (int(first[4]), 550))
    change_customers(trained_shop, "email_consent = 0", f"id = {first[5]}")
    with closing(opened(config)) as store:
        delete_user(store, first[6], now=store.now())
    again, rows = draw(config, trained_shop, size=8, as_of=data["as_of"])
    assert again["left_since"] == {
        "were put on the list bounced": 1,
        "withdrew their consent": 1,
        "were deleted": 1,
    }
    assert ids_of(rows) == [first[2], first[3], *first[7:]]


def test_a_list_is_filled_up_again_with_who_comes_next(trained_shop: Path) -> None:
    config = configured(trained_shop)
    first = ids_of(draw(config, trained_shop, size=20)[1])
    data, _ = draw(config, trained_shop, size=10)
    change_customers(trained_shop, "email_consent = 0", f"id IN ({first[0]}, {first[4]}, {first[11]})")
    filled, rows = draw(config, trained_shop, size=10, as_of=data["as_of"], refill=True)
    kept = [first[at] for at in (1, 2, 3, 5, 6, 7, 8, 9)]
    assert ids_of(rows) == [*kept, first[10], first[12]]
    assert [int(row["rank"]) for row in rows][-2:] == [11, 12]
    assert filled["audience_id"] == data["audience_id"]
    again, same = draw(config, trained_shop, size=10, as_of=data["as_of"], refill=True)
    assert same == rows
    assert again["left_since"] == {"withdrew their consent": 2}
    assert draw(config, trained_shop, size=10, as_of=data["as_of"])[1] == rows  # without asking for it too


def test_nobody_gets_more_mails_than_the_cap(trained_shop: Path) -> None:
    first = ids_of(draw(configured(trained_shop), trained_shop, size=10)[1])
    with closing(opened(configured(trained_shop))) as store:
        now = store.now()
    mails = [(first[0], 1), (first[0], 2), (first[1], 1), (first[2], 1), (first[2], 9)]
    rows = [(user, rfc3339(now - ago * MICROSECONDS_PER_DAY)) for user, ago in mails]
    fill(trained_shop, "mails", "user_id, timestamp", *rows)
    (trained_shop / "sent.csv").write_text(f"timestamp;user_id\n{rows[2][1]};{first[1]}\n")
    config = configured(trained_shop, RECSYS_SOURCE__CONTACTS="mails", RECSYS_AUDIENCE__MAX_CONTACTS="2")
    data, found = draw(config, trained_shop, size=9)
    assert ids_of(found) == first[1:]
    assert data["left_out"]["users who had 2 mails or more within 7 days"] == 1
    data, found = draw(config, trained_shop, size=8, contacts=[trained_shop / "sent.csv"])
    assert ids_of(found) == first[2:]
    data, found = draw(config, trained_shop, size=7, contact_days=10, max_contacts=1)
    assert ids_of(found) == first[3:]
    assert data["left_out"]["users who had 1 mails or more within 10 days"] == 3
    with pytest.raises(ConfigError, match="--max-contacts"):
        draw(configured(trained_shop), trained_shop, contacts=[trained_shop / "sent.csv"])
    (trained_shop / "sent.csv").write_text("user_id,timestamp\n1,soon\n")
    with pytest.raises(SourceError, match="1 of 1 timestamps"):
        draw(config, trained_shop, contacts=[trained_shop / "sent.csv"])


def test_consent_has_a_date_and_a_source_and_may_grow_too_old(trained_shop: Path) -> None:
    said = {user for user, consent in consents(configured(trained_shop)).items() if consent}
    query = (
        "SELECT id AS user_id, email_consent, CASE WHEN id % 3 = 0 THEN '2001-02-03' WHEN id % 3 = 1 THEN '2999-01-01' "
        "END AS email_consent_at, CASE WHEN id % 2 THEN 'checkout' ELSE '=form' END AS email_consent_source "
        "FROM customers"
    )
    dated = {"RECSYS_SOURCE__USERS": query}
    data, rows = draw(configured(trained_shop, **dated), trained_shop, size=5000)
    assert {row["consent_at"] for row in rows} == {"2001-02-03", "2999-01-01", ""}
    assert {row["consent_source"] for row in rows} == {"checkout", "'=form"}
    assert data["consent_sources"]["checkout"] == sum(int(row["user_id"]) % 2 for row in rows)
    assert data["consent_undated"] == sum(int(row["user_id"]) % 3 == 2 for row in rows)
    young = configured(trained_shop, RECSYS_AUDIENCE__MAX_CONSENT_AGE_DAYS="730", **dated)
    data, rows = draw(young, trained_shop, size=5000)
    assert all(int(row["user_id"]) % 3 == 1 for row in rows)
    told = "users with a consent of more than 730 days ago, or without a date"
    assert data["left_out"][told] == sum(int(user) % 3 != 1 for user in said)
    with pytest.raises(RefusedError, match="has to return email_consent_at"):
        draw(configured(trained_shop, RECSYS_AUDIENCE__MAX_CONSENT_AGE_DAYS="730"), trained_shop, items=ITEMS)


def test_a_list_without_a_column_of_people_is_an_error(trained_shop: Path) -> None:
    fill(trained_shop, "unsubscribes", "email", ("u1003@x.com",))
    fill(trained_shop, "bounces", "reason", ("full",))
    with pytest.raises(SourceError, match="the list bounced has the columns reason; it needs user_id or email"):
        draw(configured(trained_shop, **LISTS, **PEOPLE), trained_shop)
