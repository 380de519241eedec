"""Picks from a trained shop: what a mailing tool gets, and what is left of a run that was killed."""

import csv
import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from road import configured
from test_campaign import change_customers, consents, draw, opened
from tiny import quiet

from jobs import picks as job
from jobs.picks import picks
from recsys.audience.inputs import newest_moment, open_inputs
from recsys.audience.unfinished import Unfinished
from recsys.config.settings import Config
from recsys.errors import ConfigError, NotFoundError, RefusedError
from recsys.serving import answer as engine
from recsys.serving.answer import Query
from recsys.serving.snapshot import grow, items_after, load
from recsys.store.users import delete_user

K = 4


def pick(config: Config, folder: Path, name: str = "picks.jsonl", **others: Any) -> tuple[dict[str, Any], list[Any]]:
    """What the job says, and the rows of a file of JSON lines."""
    out = folder / name
    data = picks(config, **({"out": out, "k": K, "progress": quiet} | others)).data
    return data, [json.loads(line) for line in out.read_text().splitlines()] if out.suffix == ".jsonl" else []


def items_of(rows: list[Any]) -> dict[str, list[str]]:
    return {row["user_id"]: [one["item_id"] for one in row["picks"]] for row in rows}


def test_every_subscriber_gets_what_the_service_would_answer(trained_shop: Path) -> None:
    config = configured(trained_shop)
    asked = {"filters": ["price:gt:5"], "caps": ["category:2"], "link": "https://shop.example/{item_id}?m=1"}
    data, rows = pick(config, trained_shop, **asked)
    found = items_of(rows)
    assert set(found) == {user for user, consent in consents(config).items() if consent}
    assert len(rows) == len(found) == data["recipients"]
    with closing(opened(config)) as store:
        inputs = open_inputs(config, store)
        snapshot, moment = load(config, partial(items_after, store)), newest_moment(inputs)
        for user in [*found][::29]:
            rules = {"exploration": 0, "max_per": {"category": 2}}
            query = Query(user, k=K, as_of=moment, filters=["price:gt:5"], rules=[rules], fields=["title", "price"])
            context = engine.gather_context(
                config, snapshot, query, now=moment, read=lambda use: use(store), grow=partial(grow, config)
            )
            hits = engine.answer(config, context, query).hits
            assert found[user] == [hit["item_id"] for hit in hits]
            row = next(row for row in rows if row["user_id"] == user)
            assert set(row) == {"user_id", "picks"}
            for one, hit in zip(row["picks"], hits, strict=True):
                assert one["link"] == f"https://shop.example/{hit['item_id']}?m=1"
                assert (one["title"], one["price"]) == (hit["fields"]["title"], hit["fields"]["price"])
                assert one["score"] == pytest.approx(hit["score"])
                assert one["reason"] == hit["reason"]


def test_the_three_formats_say_the_same(trained_shop: Path) -> None:
    config = configured(trained_shop)
    _, rows = pick(config, trained_shop, fields=["brand"])
    pick(config, trained_shop, "picks.parquet", fields=["brand"])
    assert pq.read_table(trained_shop / "picks.parquet").to_pylist() == [
        {"user_id": row["user_id"], "picks": [one | {"score": pytest.approx(one["score"])} for one in row["picks"]]}
        for row in rows
    ]
    pick(config, trained_shop, "picks.csv", fields=["brand"])
    with (trained_shop / "picks.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    for wide, row in zip(table, rows, strict=True):
        assert wide["user_id"] == row["user_id"]
        for place, one in enumerate(row["picks"], 1):
            assert wide[f"item_id_{place}"] == one["item_id"]
            assert wide[f"brand_{place}"] == (one["brand"] or "")
            assert float(wide[f"price_{place}"]) == one["price"]


def test_members_get_picks_until_they_may_not_be_mailed(trained_shop: Path) -> None:
    config = configured(trained_shop)
    audience, members = draw(config, trained_shop, size=20)
    ids = [row["user_id"] for row in members]
    change_customers(trained_shop, "email_consent = 0", f"id = {ids[3]}")
    with closing(opened(config)) as store:
        delete_user(store, ids[5], now=store.now())
    data, rows = pick(config, trained_shop, members=audience["audience_id"])
    assert set(items_of(rows)) == set(ids) - {ids[3], ids[5]}
    assert data["left_out"] == {"withdrew their consent": 1, "were deleted": 1}
    with pytest.raises(NotFoundError, match="there is no audience 'nope'"):
        pick(config, trained_shop, members="nope")


def test_what_was_offered_before_and_who_is_suppressed_does_not_come(trained_shop: Path) -> None:
    config = configured(trained_shop)
    data, first = pick(config, trained_shop)
    for name in ("picks.jsonl", "earlier.csv", "earlier.parquet"):
        pick(config, trained_shop, name)
        _, second = pick(config, trained_shop, "second.jsonl", not_in=[trained_shop / name])
        offered, again = items_of(first), items_of(second)
        assert set(again) == set(offered)
        assert not [user for user in again if set(again[user]) & set(offered[user])]
    (trained_shop / "list").write_text("\n".join([*offered][:7]))
    less, rows = pick(config, trained_shop, "third.jsonl", suppress=[trained_shop / "list"])
    assert less["left_out"]["users on the list list"] == 7
    assert set(items_of(rows)) == set([*offered][7:])
    assert less["recipients"] + sum(less["left_out"].values()) == data["recipients"] + sum(data["left_out"].values())


def test_a_subscriber_without_events_gets_what_is_popular(trained_shop: Path) -> None:
    config = configured(trained_shop)
    users = f"{config.source.users} UNION ALL SELECT 'stranger', 1, 'de'"
    with_stranger = configured(trained_shop, RECSYS_SOURCE__USERS=_two_columns(str(config.source.users), "stranger"))
    _, rows = pick(with_stranger, trained_shop)
    stranger = next(row for row in rows if row["user_id"] == "stranger")
    assert {one["reason"] for one in stranger["picks"]} == {"popular"}
    assert users


def _two_columns(query: str, stranger: str) -> str:
    return (
        f"SELECT CAST(user_id AS TEXT) AS user_id, email_consent FROM ({query}) AS u UNION ALL SELECT '{stranger}', 1"
    )


class Killed(BaseException):
    """As if the process had been killed there."""


def test_a_run_that_is_killed_anywhere_ends_with_the_same_file(
    trained_shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(trained_shop)
    monkeypatch.setattr("recsys.audience.picks.BLOCK", 100)
    _, right = pick(config, trained_shop, "right.csv", caps=["category:2"])
    monkeypatch.setattr("jobs.ledger.RENEW_SECONDS", 3600.0)
    out = trained_shop / "picks.csv"
    for stops in (1, 3, 5):
        left = [stops]

        def die(_: str, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed

        monkeypatch.setattr("recsys.audience.unfinished.failpoint", die)
        with pytest.raises(Killed):
            pick(config, trained_shop, "picks.csv", caps=["category:2"])
        assert not out.exists()
        unfinished = trained_shop / ".picks.csv.unfinished"
        torn = unfinished.read_bytes()[: -17 if stops == 5 else None]
        unfinished.write_bytes(torn + (b"\x07\x00\x00" if stops == 3 else b""))
    monkeypatch.setattr("recsys.audience.unfinished.failpoint", lambda _: None)
    data, _ = pick(config, trained_shop, "picks.csv", caps=["category:2"])
    assert data["resumed_at"] == 800  # 100, 300 and 500 less the block that was torn
    assert out.read_bytes() == (trained_shop / "right.csv").read_bytes()
    assert not unfinished.exists()
    assert right == []


def test_who_withdraws_while_a_run_is_dead_is_not_in_the_file(
    trained_shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(trained_shop)
    monkeypatch.setattr("recsys.audience.picks.BLOCK", 100)

    def die(_: str) -> None:
        raise Killed

    monkeypatch.setattr("recsys.audience.unfinished.failpoint", die)
    with pytest.raises(Killed):
        pick(config, trained_shop)
    picked = next(Unfinished(trained_shop / "picks.jsonl").blocks()).column("user_id").to_pylist()
    change_customers(trained_shop, "email_consent = 0", f"id = {picked[4]}")
    monkeypatch.setattr("recsys.audience.unfinished.failpoint", lambda _: None)
    data, rows = pick(config, trained_shop)
    assert data["resumed_at"] == 100
    found = items_of(rows)
    assert picked[4] not in found
    assert set(found) == {user for user, consent in consents(config).items() if consent}
    assert len(rows) == len(found)


def test_the_command_goes_on_after_a_kill_and_refuses_what_is_wrong(
    trained_shop: Path, recsys_apart: Callable[..., Any], recsys: Callable[..., Any]
) -> None:
    arguments = ("picks", "--all-subscribers", "-k", "3", "--config", trained_shop / "recsys.toml")
    right, out = trained_shop / "right.parquet", trained_shop / "picks.parquet"
    assert recsys(*arguments, "--out", right).returncode == 0
    killed = recsys_apart(*arguments, "--out", out, RECSYS_CRASH_AT="in file")
    assert killed.returncode == -9
    assert not out.exists()
    with closing(opened(configured(trained_shop))) as store, store.engine.begin() as connection:
        connection.execute(store.tables.leases.delete())  # of the dead process, which has a minute left
    done = recsys(*arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "went on" in done.stdout
    assert out.read_bytes() == right.read_bytes()
    assert recsys(*arguments, "--members", "x", "--out", out).returncode == 2
    assert recsys("picks", "--out", out, "--config", trained_shop / "recsys.toml").returncode == 2
    wrong = recsys(*arguments, "--out", trained_shop / "picks.xlsx")
    assert (wrong.returncode, ".csv, .parquet, .jsonl" in wrong.stderr) == (2, True)


def test_what_cannot_be_asked_is_refused_and_named(trained_shop: Path) -> None:
    config = configured(trained_shop)
    for others, error, message in (
        ({"caps": ["category"]}, ConfigError, "expected COLUMN:NUMBER"),
        ({"caps": ["colour:2"]}, RefusedError, "no such column"),
        ({"filters": ["prize:gt:2"]}, RefusedError, "no such column"),
        ({"fields": ["prise"]}, ConfigError, "no such column"),
        ({"link": "https://shop.example/"}, ConfigError, "item_id"),
        ({"as_of": "soon"}, ConfigError, "--as-of"),
    ):
        with pytest.raises(error, match=message):
            pick(config, trained_shop, **others)
    assert not (trained_shop / "picks.jsonl").exists()
    assert job.LEASE == "picks"
