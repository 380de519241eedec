"""What is known of one item, and what becomes of a deleted one: now, in every worker, and after the next training."""

from contextlib import closing

import pyarrow as pa
import pytest
import sqlalchemy as sa
from serving import codes, ids, said
from shops import NOW, load, own_events

from recsys.bundle import bundle as bundles
from recsys.config.settings import Config
from recsys.store.database import count_rows
from recsys.store.events import insert_events
from recsys.store.items import delete_item, stored_items, upsert_items
from recsys.store.migrate import open_store
from recsys.store.tables import own_queries


@pytest.fixture
def item(shop):
    return bundles.load(shop / "recsys-data").catalog.ids.id_of(5)


def test_an_item_shows_its_columns_and_what_was_posted_since(serve, item):
    server = serve()
    first = server.http.get(f"/v1/items/{item}")
    known = said(first)
    assert (known["item_id"], known["trained"], known["listed"]) == (item, True, True)
    assert {"title", "category", "brand", "price", "available"} <= set(known["fields"])
    held = {"If-None-Match": first.headers["ETag"]}
    assert server.http.get(f"/v1/items/{item}", headers=held).status_code == 304
    server.post("/v1/items", [{"item_id": item, "price": 1.25}, {"item_id": "a/new one", "title": "Lantern"}])
    assert said(server.http.get(f"/v1/items/{item}", headers=held))["fields"]["price"] == 1.25
    new = said(server.http.get("/v1/items/a%2Fnew%20one"))
    assert (new["trained"], new["fields"]["title"]) == (False, "Lantern")
    unknown = server.http.get("/v1/items/unknown")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_item")


def test_words_find_items_and_what_was_posted_since(serve, item):
    server = serve()
    title = said(server.http.get(f"/v1/items/{item}"))["fields"]["title"]

    def search(words, **asked):
        return said(server.http.get("/v1/items", params={"q": words, **asked}))

    found = search(title, k=5, fields="title,price")
    assert found["hits"][0]["fields"]["title"] == title
    assert {hit["reason"] for hit in found["hits"]} == {"search"}
    assert found["eligible"] >= len(found["hits"])
    first, *others = title.split()
    misspelled = " ".join([first[0] + first[2] + first[1] + first[3:] if len(first) > 4 else first, *others])
    assert item in [hit["item_id"] for hit in search(misspelled, k=100)["hits"]]
    assert search(item)["hits"][0]["item_id"] == item
    nothing = search("qqqqqq")
    assert (nothing["hits"], codes(nothing)) == ([], ["nothing_found"])
    server.post("/v1/items", [{"item_id": "new-1", "title": "Zwirbelwind lantern", "price": 3.0}])
    assert [hit["item_id"] for hit in search("zwirblewind")["hits"]] == ["new-1"]
    assert not search("zwirbelwind", filter="price:gt:5")["hits"]
    server.post("/v1/items", {"item_id": item, "title": "Renamed"})
    assert search(title, k=1)["hits"][0]["item_id"] != item
    assert [hit["item_id"] for hit in search("rename")["hits"]] == [item]
    server.post("/v1/items", {"item_id": item, "available": False})
    assert not search("renamed")["hits"]
    for wrong in (
        {},
        {"q": ""},
        {"q": "x" * 201},
        {"q": "a", "k": 0},
        {"q": "a", "fields": "nope"},
        {"q": "a", "o": 1},
    ):
        assert server.http.get("/v1/items", params=wrong).status_code == 422
    held = server.http.get("/v1/items", params={"q": title})
    again = server.http.get("/v1/items", params={"q": title}, headers={"If-None-Match": held.headers["ETag"]})
    assert again.status_code in (200, 304)  # 200: the minute is over


def test_a_deleted_item_is_in_no_answer_until_it_is_posted_again(server, item):
    server.event("u", item, "view")
    before = server.user("u", k=500)
    assert item in ids(before)
    gone = said(server.http.delete(f"/v1/items/{item}"))
    assert (gone["item_id"], gone["known"], gone["deleted_at"] is not None) == (item, True, True)
    after = server.user("u", k=500)
    assert item not in ids(after)
    assert after["eligible"] == before["eligible"] - 1
    assert codes(after) == ["fewer_than_k"]  # what the user did with it still counts
    assert server.http.get(f"/v1/items/{item}").status_code == 404
    assert server.http.get(f"/v1/items/{item}/similar").status_code == 404
    assert server.event("u", item, "view")["unknown_items"] == [item]
    again = said(server.http.delete(f"/v1/items/{item}"))
    assert (again["known"], again["deleted_at"]) == (False, None)
    back = server.post("/v1/items", {"item_id": item, "title": "Back"})
    assert (back["stored"], back["new"]) == (1, [item])
    assert item in ids(server.user("u", k=500))


def test_what_is_gone_is_in_no_answer_where_no_more_new_items_are_held(serve, item):
    server = serve(RECSYS_API__MAX_FRESH_ITEMS="1")
    other = next(one for one in ids(server.user("u", k=500)) if one != item)
    server.post("/v1/items", [{"item_id": "first"}, {"item_id": "second"}])
    assert server.http.get("/v1/items/first").status_code == 200
    assert server.http.get("/v1/items/second").status_code == 404
    server.http.delete(f"/v1/items/{item}")
    server.post("/v1/items", {"item_id": other, "available": False})
    answer = server.user("u", k=500)
    assert "too_many_new_items" in codes(answer)
    assert {item, other}.isdisjoint(ids(answer))


def test_a_posted_item_that_is_deleted_is_forgotten_with_its_values(server):
    server.post("/v1/items", {"item_id": "mistake", "title": "Lantern", "color": "red"})
    assert said(server.http.delete("/v1/items/mistake"))["known"] is True
    assert server.http.get("/v1/items/mistake").status_code == 404
    server.post("/v1/items", {"item_id": "mistake", "title": "Lamp"})
    assert said(server.http.get("/v1/items/mistake"))["fields"] == {"title": "Lamp"}
    assert said(server.http.delete("/v1/items/never%20there"))["known"] is False


def test_a_tombstone_is_no_item_of_the_catalog(store):
    upsert_items(store, pa.table({"item_id": ["a", "b"], "title": ["A", "B"], "own_deleted_at": ["x", "y"]}))
    delete_item(store, "a", now=7)
    assert (stored_items(store, ["a", "b"]), count_rows(store)["items"]) == ({"b"}, 1)
    with store.reading() as connection:
        rows = connection.exec_driver_sql(own_queries(store.tables)[1]).mappings().all()
        tombstone = connection.execute(sa.select(store.tables.items).where(store.tables.items.c.item_id == "a")).one()
    assert [row["item_id"] for row in rows] == ["b"]
    assert (tombstone.title, tombstone.own_deleted_at) == (None, 7)
    insert_events(store, own_events([(f"u{at % 3}", "ab"[at % 2], "purchase", NOW - at) for at in range(12)]))
    catalog = load(Config(), store).catalog
    listed = dict(zip(catalog.ids, catalog.is_listed.tolist(), strict=True))
    assert listed == {"b": True, "a": False}  # it trains, and is not recommended


def test_a_tombstone_of_an_item_that_nobody_knows_takes_no_place(serve, shop):
    with closing(open_store(f"sqlite:///{shop / 'recsys.db'}")) as store:
        for at in range(3):
            delete_item(store, f"x{at}", now=7)
    server = serve(RECSYS_API__MAX_FRESH_ITEMS="1")
    server.post("/v1/items", {"item_id": "new", "title": "Lantern"})
    assert said(server.http.get("/v1/items/new"))["trained"] is False
    assert said(server.http.get("/v1/status"))["serving"]["new_items"] == 1
