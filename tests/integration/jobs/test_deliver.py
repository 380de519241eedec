"""A written list reaches its destination: once, whole, and only who may be mailed now."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
import tiny
from tiny import quiet

from jobs import deliver as job
from jobs.deliver import deliver
from recsys.audience.inputs import Inputs
from recsys.audience.shapes import SHAPES, pages
from recsys.config.settings import Config
from recsys.data.extract import Extract
from recsys.data.vocabulary import Vocabulary
from recsys.errors import AwayError, ConfigError, NotFoundError, RecsysError, RefusedError
from recsys.source.people import read_people
from recsys.store.changes import NO_EVENTS
from recsys.store.database import database_url
from recsys.store.migrate import open_store
from recsys.store.users import delete_user, upsert_users

PEOPLE = [f"u{number}" for number in range(7)]
PICKS = [{"item_id": "i1", "title": "Lamp", "price": 9.5}, {"item_id": "i2", "title": "<b>Chair</b>", "price": None}]


@pytest.fixture
def shop(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """Users of whom one never consented and one was deleted, and a list of all of them."""
    monkeypatch.setenv(job.SECRET, "secret")
    values = {"store": {"url": database}, "storage": {"path": tmp_path / "data"}}
    config = Config.model_validate(values)
    store = open_store(database, "recsys_")
    consent = [number != 2 for number in range(7)]
    emails = [json.dumps({"email": f"{user}@Shop.example"} if user != "u5" else {}) for user in PEOPLE]
    upsert_users(store, pa.table({"user_id": PEOPLE, "email_consent": consent, "attributes": emails}))
    delete_user(store, "u3", now=store.now())
    rows = [{"user_id": user, "rank": rank, "picks": PICKS} for rank, user in enumerate(PEOPLE, 1)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # A trained shop, as far as a delivery reads it: these users are known, and did nothing.
    known = Extract(Vocabulary.from_ids(PEOPLE), Vocabulary.from_ids([]), tiny.events([], users=7, items=0), (), 0, 0)
    monkeypatch.setattr(job, "open_inputs", lambda *of: Inputs(*of, None, known, NO_EVENTS, read_people(*of)))
    yield config
    store.close()


def sent(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch, **others: Any) -> tuple[Any, list[Any]]:
    """What the job says, and the pages with their keys."""
    found: list[Any] = []
    monkeypatch.setattr(job, "send", lambda _webhook, body, key: found.append((key, json.loads(body))))
    arguments = {"file": folder / "list.jsonl", "to": "https://hooks.shop.example/x", "progress": quiet} | others
    return deliver(config, **arguments).data, found


def test_a_webhook_gets_everybody_who_may_be_mailed_once(
    shop: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "plain", SHAPES["plain"].__class__(SHAPES["plain"].body, 3, 10_000))
    data, found = sent(shop, tmp_path, monkeypatch)
    users = [row["user_id"] for _, body in found for row in body["rows"]]
    assert users == ["u0", "u1", "u4", "u5", "u6"]
    assert (data["delivered"], data["rows"], data["pages"]) == (5, 7, 3)
    assert data["left_out"] == {"withdrew their consent": 1, "were deleted": 1}
    assert found[0][1]["rows"][0] == {"user_id": "u0", "rank": 1, "picks": PICKS, "email": "u0@Shop.example"}
    assert len({key for key, _ in found}) == 3
    assert sent(shop, tmp_path, monkeypatch)[1] == []
    assert sent(shop, tmp_path, monkeypatch, again=True)[1] == found
    assert len(sent(shop, tmp_path, monkeypatch, to="https://other.example/")[1]) == 3


class Killed(BaseException):
    """As if the process had been killed there."""


def test_a_delivery_that_is_killed_goes_on_and_repeats_no_page_under_another_key(
    shop: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "plain", SHAPES["plain"].__class__(SHAPES["plain"].body, 2, 10_000))
    everything, got, write = sent(shop, tmp_path, monkeypatch)[1], list[Any](), job.replace_text
    (tmp_path / ".list.jsonl.delivered").unlink()

    def dies(_path: Path, _text: str) -> None:
        raise Killed

    for ends in ("before the note", "on the line", "before the note", "before the note"):
        left = [1]

        def send(_webhook: Any, body: bytes, key: str, left: list[int] = left) -> None:
            if not left[0]:
                raise AwayError("as if the line had broken")
            left[0] -= 1
            got.append((key, json.loads(body)))

        monkeypatch.setattr(job, "send", send)
        monkeypatch.setattr(job, "replace_text", dies if ends == "before the note" else write)
        with pytest.raises((AwayError, Killed)):
            deliver(shop, file=tmp_path / "list.jsonl", to="https://hooks.shop.example/x", progress=quiet)
    monkeypatch.setattr(job, "replace_text", write)
    got += sent(shop, tmp_path, monkeypatch)[1]
    assert len(got) == len(everything) + 3
    assert [*dict(got).items()] == everything


def test_a_table_holds_the_list_and_is_replaced_as_a_whole(shop: Config, tmp_path: Path, database: str) -> None:
    engine = sa.create_engine(database_url(database))
    read = sa.text("SELECT * FROM newsletter ORDER BY user_id")
    try:
        for _ in range(2):
            data = deliver(shop, file=tmp_path / "list.jsonl", table="newsletter", progress=quiet).data
            with engine.connect() as connection:
                rows = [dict(row) for row in connection.execute(read).mappings()]
            assert [row["user_id"] for row in rows] == ["u0", "u1", "u4", "u5", "u6"]
            assert (data["delivered"], rows[0]["rank"], json.loads(rows[0]["picks"])) == (5, 1, PICKS)
        lines = (tmp_path / "list.jsonl").read_text().splitlines()
        (tmp_path / "twice.jsonl").write_text("\n".join([*lines, lines[0]]))
        with pytest.raises((sa.exc.IntegrityError, RecsysError)):
            deliver(shop, file=tmp_path / "twice.jsonl", table="newsletter", progress=quiet)
        with engine.connect() as connection:
            assert len(connection.execute(read).all()) == 5
        (tmp_path / "other.jsonl").write_text('{"user_id": "u1", "color": "red"}\n')
        with pytest.raises(RefusedError, match="has the columns"):
            deliver(shop, file=tmp_path / "other.jsonl", table="newsletter", progress=quiet)
        with pytest.raises(ConfigError, match="expected a name"):
            deliver(shop, file=tmp_path / "list.jsonl", table="x; DROP TABLE y", progress=quiet)
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE IF EXISTS newsletter"))
        engine.dispose()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_shapes_are_those_that_the_services_document(
    shop: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, klaviyo),) = sent(shop, tmp_path, monkeypatch, shape="klaviyo", list_id="L7")[1]
    assert klaviyo["data"]["type"] == "profile-bulk-import-job"
    assert klaviyo["data"]["relationships"] == {"lists": {"data": [{"type": "list", "id": "L7"}]}}
    profile = klaviyo["data"]["attributes"]["profiles"]["data"][0]
    properties = {"recsys_rank": 1, "recsys_picks": PICKS}
    attributes = {"external_id": "u0", "email": "u0@Shop.example", "properties": properties}
    assert profile == {"type": "profile", "attributes": attributes}
    ((_, braze),) = sent(shop, tmp_path, monkeypatch, shape="braze")[1]
    assert braze["attributes"][0] == {"external_id": "u0", "_update_existing_only": True} | properties
    data, ((_, mailchimp),) = sent(shop, tmp_path, monkeypatch, shape="mailchimp", list_id="m1")
    assert data["left_out"]["have no e-mail address"] == 1
    member = hashlib.md5(b"u0@shop.example").hexdigest()
    first = mailchimp["operations"][0]
    assert (first["method"], first["path"]) == ("PATCH", f"/lists/m1/members/{member}")
    assert json.loads(first["body"])["merge_fields"] == {
        **{"RANK": 1, "PICK1": "i1", "TITLE1": "Lamp", "PRICE1": 9.5},
        **{"PICK2": "i2", "TITLE2": "<b>Chair</b>"},
    }
    rows = [{"user_id": f"u{number}", "text": "x" * 1000} for number in range(200)]
    bodies = [json.loads(body) for body in pages(iter(rows), SHAPES["braze"])]
    assert [len(body["attributes"]) for body in bodies] == [75, 75, 50]
    small = SHAPES["braze"].__class__(SHAPES["braze"].body, 75, 20_000)
    assert all(len(body) <= 20_000 for body in pages(iter(rows), small))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_cannot_be_delivered_is_named(shop: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "list.jsonl"
    (tmp_path / "headers").write_text("no header\n")
    for others, error, message in (
        ({"file": tmp_path / "none.csv"}, NotFoundError, "there is no file"),
        ({}, ConfigError, "say where to"),
        ({"to": "http://shop.example/"}, ConfigError, "begin with https"),
        ({"to": "https://127.0.0.1/"}, RefusedError, "no public address"),
        ({"to": "https://shop.example/", "shape": "brevo"}, ConfigError, "allowed are plain, klaviyo"),
        ({"to": "https://shop.example/", "shape": "mailchimp"}, ConfigError, "--list-id"),
        ({"to": "https://shop.example/", "headers_file": tmp_path / "headers"}, ConfigError, "line 1 is no header"),
        ({"to": "https://shop.example/", "secret_file": tmp_path / "none"}, ConfigError, "cannot be read"),
    ):
        with pytest.raises(error, match=message):
            deliver(shop, **({"file": file, "progress": quiet} | others))
    monkeypatch.delenv(job.SECRET)
    with pytest.raises(ConfigError, match="pages are signed"):
        deliver(shop, file=file, to="https://shop.example/", progress=quiet)
