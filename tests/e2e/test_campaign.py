"""The road of a campaign: from a trained shop to the file, on the command line and through the job."""

import csv
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from road import configured, parsed
from tiny import quiet

from jobs.audience import audience
from jobs.train import train
from recsys.bundle import bundle as bundles
from recsys.config.settings import Config
from recsys.data.extract import open_extract
from recsys.errors import ConfigError, NotFoundError, RefusedError
from recsys.store.audiences import find_audience, list_members
from recsys.store.database import Store
from recsys.store.events import insert_events
from recsys.store.migrate import open_store
from recsys.store.users import delete_user

ITEMS = ("P00207", "P00288")  # what the sample shop sells most of


def draw(config: Config, folder: Path, **others: Any) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What the job says, and the rows of the file."""
    out = folder / "audience.csv"
    arguments = {"items": ITEMS, "size": 50, "out": out, "progress": quiet} | others
    data = audience(config, **arguments).data
    with out.open(newline="", encoding="utf-8") as file:
        return data, list(csv.DictReader(file))


def ids_of(rows: list[dict[str, str]]) -> list[str]:
    return [row["user_id"] for row in rows]


def opened(config: Config) -> Store:
    return open_store(config.store.url, config.store.table_prefix)


def consents(config: Config) -> dict[str, Any]:
    with closing(sqlite3.connect(str(config.source.url).removeprefix("sqlite:///"))) as shop:
        query = f"SELECT CAST(user_id AS TEXT), email_consent FROM ({config.source.users}) AS u"
        return {user: None if consent is None else bool(int(consent)) for user, consent in shop.execute(query)}


def change_customers(folder: Path, assignment: str, where: str = "1 = 1") -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        shop.execute(f"UPDATE customers SET {assignment} WHERE {where}")


def without_consent(folder: Path, **environment: str) -> Config:
    return configured(
        folder, RECSYS_SOURCE__USERS="SELECT id AS user_id, NULL AS email_consent FROM customers", **environment
    )


def buyers(config: Config) -> set[str]:
    extract = open_extract(config.storage.path)
    rows = extract.items.rows_of(ITEMS)
    bought = extract.events.of_kinds(config.target_codes)
    return {extract.users.id_of(int(u)) for u, i in zip(bought.users, bought.items, strict=True) if i in rows}


def test_an_audience_is_ranked_once_a_user_and_of_users_who_consented(trained_shop: Path) -> None:
    config = configured(trained_shop)
    data, rows = draw(config, trained_shop)
    consent = consents(config)
    assert len(rows) == len(set(ids_of(rows))) == data["members"] == 50
    assert all(consent[user] is True for user in ids_of(rows))
    assert {row["consent"] for row in rows} == {"given"} == {data["consent"]}
    assert [int(row["rank"]) for row in rows] == list(range(1, 51))
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < probabilities[-1] <= probabilities[0] < 1
    assert data["expected_buyers"] == pytest.approx(sum(probabilities), abs=0.01)
    assert {row["reason"] for row in rows} <= {"bought", "looked", "taste", "active"}
    known = [user for user in open_extract(config.storage.path).users if consent.get(user) is not True]
    assert sum(data["left_out"].values()) + data["eligible"] == len(open_extract(config.storage.path).users)
    assert data["left_out"]["users who did not consent"] + data["left_out"]["users of whom no consent is known"] == len(
        known
    )


def test_the_same_campaign_returns_the_frozen_audience(trained_shop: Path) -> None:
    config = configured(trained_shop)
    data, rows = draw(config, trained_shop)
    again, same = draw(config, trained_shop, items=[*ITEMS[::-1], ITEMS[0]], as_of=data["as_of"])
    assert (data["frozen"], again["frozen"]) == ("now", "before")
    assert data["audience_id"] == again["audience_id"]
    assert rows == same
    with closing(opened(config)) as store:
        record = find_audience(store, data["audience_id"])
        members = list_members(store, data["audience_id"])
    assert record is not None
    assert (record.consent, record.bundle, record.left_out) == ("required", data["bundle"], data["left_out"])
    assert members["user_id"].to_pylist() == ids_of(rows)


def test_a_night_in_between_changes_no_frozen_audience(trained_shop: Path) -> None:
    config = configured(trained_shop)
    data, rows = draw(config, trained_shop)
    train(config, progress=quiet, full=True)
    again, same = draw(config, trained_shop, as_of=data["as_of"])
    assert (again["frozen"], again["audience_id"], again["bundle"]) == ("before", data["audience_id"], data["bundle"])
    assert bundles.load(config.storage.path).version != data["bundle"]
    assert same == rows


def test_what_was_not_frozen_comes_out_the_same_again(trained_shop: Path) -> None:
    config = configured(trained_shop)
    data, rows = draw(config, trained_shop)
    elsewhere = configured(trained_shop, RECSYS_STORE__TABLE_PREFIX="second_")
    again, same = draw(elsewhere, trained_shop)
    assert again["frozen"] == "now"
    assert again["audience_id"] == data["audience_id"]
    assert same == rows


@pytest.mark.parametrize(
    "others",
    [{"size": 49}, {"items": ITEMS[:1]}, {"strategy": "random"}, {"exclude_past_buyers": True}, {"suppress": "list"}],
)
def test_another_campaign_is_another_audience(trained_shop: Path, others: dict[str, Any]) -> None:
    config = configured(trained_shop)
    (trained_shop / "list").write_text("1003\n")
    if "suppress" in others:
        others = {"suppress": [trained_shop / "list"]}
    assert draw(config, trained_shop)[0]["audience_id"] != draw(config, trained_shop, **others)[0]["audience_id"]


def test_past_buyers_are_left_out_on_request(trained_shop: Path) -> None:
    config = configured(trained_shop)
    past = buyers(config)
    assert past & set(ids_of(draw(config, trained_shop)[1]))
    data, rows = draw(config, trained_shop, exclude_past_buyers=True)
    assert not past & set(ids_of(rows))
    assert data["left_out"]["past buyers"] > 0
    assert not {"bought"} & {row["reason"] for row in rows}


def test_a_short_history_hides_no_past_buyer(trained_shop: Path) -> None:
    config = configured(trained_shop, RECSYS_EVENTS__HISTORY_LENGTH="1")
    _, rows = draw(config, trained_shop, exclude_past_buyers=True, size=2000)
    assert len(rows) > 100
    assert not buyers(config) & set(ids_of(rows))


def test_suppressed_users_are_left_out_and_unknown_ids_counted(trained_shop: Path) -> None:
    config = configured(trained_shop)
    first = ids_of(draw(config, trained_shop)[1])
    (trained_shop / "list.txt").write_text("\n".join([*first[:10], "who?", "😀"]))
    data, rows = draw(config, trained_shop, suppress=[trained_shop / "list.txt"])
    assert not set(first[:10]) & set(ids_of(rows))
    assert ids_of(rows)[:40] == first[10:]
    assert data["left_out"]["users on the list list.txt"] == 10
    assert any("2 of the 12 entries" in warning for warning in data["warnings"])
    strict = configured(trained_shop, RECSYS_AUDIENCE__MAX_UNKNOWN_SHARE="0.1")
    with pytest.raises(RefusedError, match="2 of the 12 entries"):
        draw(strict, trained_shop, suppress=[trained_shop / "list.txt"], size=49)


def test_the_next_mailing_can_leave_out_the_last_ones_file(trained_shop: Path) -> None:
    config = configured(trained_shop)
    _, first = draw(config, trained_shop)
    (trained_shop / "audience.csv").rename(trained_shop / "last.csv")
    _, rows = draw(config, trained_shop, suppress=[trained_shop / "last.csv"])
    assert not set(ids_of(first)) & set(ids_of(rows))


def test_without_consent_data_nobody_is_eligible_and_nothing_is_written(
    trained_shop: Path, recsys: Callable[..., Any]
) -> None:
    for users in ("SELECT id AS user_id FROM customers", "SELECT id AS user_id, NULL AS email_consent FROM customers"):
        done = recsys(
            *("audience", "--items", *ITEMS, "--size", "5", "--out", trained_shop / "a.csv"),
            *("--config", trained_shop / "recsys.toml"),
            RECSYS_SOURCE__USERS=users,
        )
        assert done.returncode == 3
        assert "there is no consent data" in done.stderr
    assert not (trained_shop / "a.csv").exists()
    with closing(opened(configured(trained_shop))) as store, store.reading() as connection:
        assert connection.execute(store.tables.audiences.select()).all() == []


def test_assumed_consent_is_stated_everywhere_and_a_no_stays_a_no(trained_shop: Path) -> None:
    assumed = {"RECSYS_AUDIENCE__CONSENT": "assumed"}
    data, rows = draw(without_consent(trained_shop, **assumed), trained_shop)
    assert {row["consent"] for row in rows} == {"assumed"} == {data["consent"]}
    assert any("consent is assumed" in warning for warning in data["warnings"])
    config = configured(trained_shop, **assumed)
    with closing(opened(config)) as store:
        record = find_audience(store, data["audience_id"])
        assert record is not None
        assert record.consent == "assumed"
    said_no = {user for user, consent in consents(config).items() if consent is False}
    data, rows = draw(config, trained_shop, size=2000)
    assert said_no
    assert not said_no & set(ids_of(rows))
    said_nothing = {user for user, consent in consents(config).items() if consent is None}
    extract = open_extract(config.storage.path)
    active = {extract.users.id_of(int(row)) for row in np.flatnonzero(np.diff(extract.events.offsets))}
    assert said_nothing & active
    assert said_nothing & active <= set(ids_of(rows))


def test_who_withdraws_consent_after_the_freeze_is_not_in_the_file(trained_shop: Path) -> None:
    config = configured(trained_shop)
    _, first = draw(config, trained_shop)
    withdrawn = ids_of(first)[3]
    change_customers(trained_shop, "email_consent = 0", f"id = {withdrawn}")
    data, rows = draw(config, trained_shop)
    assert (data["frozen"], data["left_since"], data["members"]) == ("before", {"withdrew their consent": 1}, 49)
    assert ids_of(rows) == [user for user in ids_of(first) if user != withdrawn]
    assert [row["rank"] for row in rows] == [row["rank"] for row in first if row["user_id"] != withdrawn]


def test_a_frozen_audience_is_given_to_nobody_when_all_consent_is_gone(trained_shop: Path) -> None:
    draw(configured(trained_shop), trained_shop)
    (trained_shop / "audience.csv").unlink()
    change_customers(trained_shop, "email_consent = NULL")
    with pytest.raises(RefusedError, match="of 50 members since then 50 have no known consent any more"):
        draw(configured(trained_shop), trained_shop)
    assert not (trained_shop / "audience.csv").exists()


def test_deleted_users_never_appear(trained_shop: Path) -> None:
    config = configured(trained_shop)
    before = ids_of(draw(config, trained_shop)[1])
    with closing(opened(config)) as store:
        for user in before[:5]:
            delete_user(store, user, now=store.now())
    data, rows = draw(config, trained_shop)
    assert (data["frozen"], ids_of(rows)) == ("before", before[5:])
    assert data["left_since"] == {"were deleted": 5}
    data, rows = draw(config, trained_shop, size=51)
    assert data["frozen"] == "now"
    assert not set(before[:5]) & set(ids_of(rows))
    assert data["left_out"]["deleted users"] == 5


def test_fewer_than_asked_for_are_all_and_it_says_so(trained_shop: Path) -> None:
    data, rows = draw(configured(trained_shop), trained_shop, size=100_000)
    assert len(rows) == data["members"] == data["eligible"] < 1500
    assert f"only {len(rows)} of the 100000 users asked for are eligible" in data["warnings"]


def test_an_event_posted_since_training_counts(trained_shop: Path) -> None:
    config = configured(trained_shop)
    extract = open_extract(config.storage.path)
    data, rows = draw(config, trained_shop, size=100_000)
    user = next(row["user_id"] for row in reversed(rows) if row["reason"] not in ("bought", "looked"))
    event = {"event_id": "e1", "user_id": user, "item_id": ITEMS[0], "kind": "view", "occurred_at": extract.as_of + 1}
    with closing(opened(config)) as store:
        now = store.now()
        insert_events(store, pa.Table.from_pylist([{**event, "received_at": now}]))
    later, after = draw(config, trained_shop, size=100_000)
    assert later["as_of"] > data["as_of"]
    assert next(row["reason"] for row in after if row["user_id"] == user) == "looked"
    same, _ = draw(config, trained_shop, size=100_000, as_of=data["as_of"])
    assert same["audience_id"] == data["audience_id"]


def test_an_earlier_moment_is_allowed_and_warned_about(trained_shop: Path) -> None:
    config = configured(trained_shop)
    newest, _ = draw(config, trained_shop)
    earlier = f"{newest['as_of'][:4]}-{newest['as_of'][5:7]}-01"
    data, _ = draw(config, trained_shop, as_of=earlier)
    assert data["as_of"] == f"{earlier}T00:00:00Z"
    assert any("flattered" in warning for warning in data["warnings"])


def test_what_cannot_be_asked_is_refused_and_named(trained_shop: Path) -> None:
    config = configured(trained_shop)
    with pytest.raises(NotFoundError, match="'nope', '😀' are not in the live bundle"):
        draw(config, trained_shop, items=["nope", ITEMS[0], "😀"])
    with pytest.raises(NotFoundError, match="there are affinity, likely_buyers"):
        draw(config, trained_shop, strategy="os:system")
    for wrong in ("yesterday", "2999-01-01", ""):
        with pytest.raises(ConfigError, match="--as-of"):
            draw(config, trained_shop, as_of=wrong)
    with pytest.raises(ConfigError, match="--out"):
        draw(config, trained_shop, out=trained_shop / "nowhere" / "a.csv")
    (trained_shop / "all").write_text("\n".join(open_extract(config.storage.path).users))
    with pytest.raises(RefusedError, match="nobody is eligible; of 1500 users"):
        draw(config, trained_shop, suppress=[trained_shop / "all"])
    assert not (trained_shop / "audience.csv").exists()


def test_the_command_prints_what_it_did(trained_shop: Path, recsys: Callable[..., Any]) -> None:
    arguments = ("audience", "--items", *ITEMS, "--size", "7", "--out", trained_shop / "a.csv")
    config = ("--config", trained_shop / "recsys.toml")
    data = parsed(recsys(*arguments, "--json", *config))
    assert (data["members"], data["items"]) == (7, list(ITEMS))
    shown = recsys(*arguments, *config)
    assert shown.returncode == 0, shown.stderr
    assert f"Audience {data['audience_id']}" in shown.stdout
    assert "expected buyers" in shown.stdout
    assert json.dumps(data)
    repeated = recsys(*arguments[:2], ITEMS[0], "--items", ITEMS[1], *arguments[4:], "--json", *config)
    assert parsed(repeated)["audience_id"] == data["audience_id"]
    wrong = recsys("audience", "--items", "nope", "--size", "7", "--out", trained_shop / "b.csv", *config)
    assert (wrong.returncode, "nope" in wrong.stderr) == (1, True)
    assert not (trained_shop / "b.csv").exists()
