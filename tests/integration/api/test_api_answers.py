"""What the service answers: on each kind of database."""

from urllib.parse import quote

import numpy as np
import pytest
from serving import codes, ids, said

from recsys.bundle import bundle as bundles
from recsys.data.extract import open_extract

ODD_IDS = [
    "a/b",
    "x/recommendations",
    "\"quoted\" 'id'",
    "🙂",
    " a  b ",
    "50%",
    "?&#=+",
    "é" * 255,
    "\t",
    "a//b/",
    "\n",
]


def a_buyer(shop):
    """A user with purchases, and what they bought."""
    extract = open_extract(shop / "recsys-data")
    bought = extract.kinds.index("purchase")
    counts = np.bincount(extract.events.users[extract.events.kinds == bought], minlength=len(extract.users))
    row = int(np.argmax(counts))
    events = slice(extract.events.offsets[row], extract.events.offsets[row + 1])
    items = extract.events.items[events][extract.events.kinds[events] == bought]
    return extract.users.id_of(row), set(extract.items.ids_of(items))


def test_a_user_gets_personal_items_that_they_have_not_bought(server, shop):
    user, bought = a_buyer(shop)
    answer = server.user(user, k=20)
    assert len(ids(answer)) == len(set(ids(answer))) == 20
    assert not set(ids(answer)) & bought
    assert {hit["reason"] for hit in answer["hits"]} == {"personal"}
    assert answer["bundle"] == bundles.load(shop / "recsys-data").version
    assert answer["dropped"]["bought"] > 0
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["warnings"] == []


def test_who_is_unknown_gets_popular_items_and_is_told_so(sqlite_server):
    answer = sqlite_server.user("nobody knows me", k=5)
    assert {hit["reason"] for hit in answer["hits"]} == {"popular"}
    assert codes(answer) == ["no_history"]
    assert ids(sqlite_server.ask(k=5)) == ids(answer)


def test_an_event_changes_the_next_answer(server, shop):
    user, _ = a_buyer(shop)
    first = ids(server.user(user, k=1))[0]
    server.event(user, first)
    after = server.user(user, k=20)
    assert first not in ids(after)
    server.event("fresh", first, "view")
    fresh = server.user("fresh", k=5)
    assert fresh["hits"][0]["reason"] == "personal"


def test_a_visitor_is_known_by_their_events_and_takes_them_along_when_logging_in(server, shop):
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(3)
    server.event(None, item, "cart", visitor_id="v1")
    answer = server.ask(visitor_id="v1", k=3)
    assert {hit["reason"] for hit in answer["hits"]} == {"visitor"}
    logged_in = server.user("brand new", visitor_id="v1", k=3)
    assert ids(logged_in) == ids(answer)
    assert {hit["reason"] for hit in logged_in["hits"]} == {"personal"}
    assert {hit["reason"] for hit in server.user("brand new", k=3)["hits"]} == {"popular"}


def test_a_history_in_the_body_needs_no_user_and_says_what_nobody_knows(sqlite_server, shop):
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(3)
    basket = [{"item_id": item, "kind": "cart"}, {"item_id": "never heard of", "kind": "view"}]
    answer = sqlite_server.ask(history=basket, k=4)
    assert {hit["reason"] for hit in answer["hits"]} == {"visitor"}
    assert codes(answer) == ["unknown_items"]
    bought = sqlite_server.ask(history=[{"item_id": item, "kind": "purchase"}], k=200)
    assert item not in ids(bought)
    assert bought["dropped"]["bought"] == 1


def test_a_carted_item_counts_as_bought_where_the_configuration_says_so(serve, shop):
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(3)
    basket = {"history": [{"item_id": item, "kind": "cart"}], "k": 200}
    assert serve().ask(**basket)["dropped"]["bought"] == 0
    answer = serve(RECSYS_EVENTS__BOUGHT='["cart", "purchase"]').ask(**basket)
    assert item not in ids(answer)
    assert answer["dropped"]["bought"] == 1


def test_counts_of_what_was_dropped_and_what_is_eligible_add_up(sqlite_server, shop):
    bundle = bundles.load(shop / "recsys-data")
    user, bought = a_buyer(shop)
    out = ids(sqlite_server.user(user, k=3))
    price = sorted(bundle.catalog.columns.column("price").to_pylist())[len(bundle.catalog) // 2]
    answer = sqlite_server.user(user, k=500, exclude=[*out, "unknown"], filter=f"price:between:0,{price}")
    assert answer["eligible"] == len(answer["hits"])
    assert answer["eligible"] + sum(answer["dropped"].values()) == len(bundle.catalog)
    assert not {*out, *bought} & set(ids(answer))
    assert codes(answer) == ["fewer_than_k"]
    sold_out = bundle.catalog.columns.column("available").to_pylist().count(False)
    assert answer["dropped"]["sold_out"] == sold_out > 0


def test_filters_hold_for_every_hit_in_both_forms(sqlite_server):
    fields = ["category", "price"]
    first = sqlite_server.user("u", fields="category,price", k=1)["hits"][0]["fields"]
    category, price = first["category"], first["price"]
    alike = {"column": "category", "op": "eq", "value": category}
    cheaper = {"column": "price", "op": "between", "value": [0, price - 0.01]}
    answer = sqlite_server.ask(filter={"and": [alike, {"not": cheaper}]}, fields=fields, k=50)
    assert all(hit["fields"]["category"] == category and hit["fields"]["price"] >= price for hit in answer["hits"])
    short = sqlite_server.user("u", filter=[f"category:eq:{category}", f"price:between:{price},100000"], k=50)
    assert ids(short) == ids(answer) != []
    one = f"price:lt:{price}"
    assert ids(sqlite_server.ask(filter=one, k=50)) == ids(sqlite_server.user("u", filter=one, k=50)) != []
    none = sqlite_server.ask(filter={"column": "price", "op": "between", "value": [-2, -1]})
    assert (none["hits"], none["eligible"], codes(none)) == ([], 0, ["fewer_than_k", "no_history"])


def test_similar_items_are_never_the_item_itself(sqlite_server, shop):
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(5)
    answer = sqlite_server.similar(item, k=10, fields="title,price")
    assert len(ids(answer)) == 10
    assert item not in ids(answer)
    assert {hit["reason"] for hit in answer["hits"]} == {"similar"}
    assert set(answer["hits"][0]["fields"]) == {"title", "price"}
    everything = sqlite_server.similar(item, k=500, exclude=ids(answer))
    assert len(everything["hits"]) == everything["eligible"]
    assert not {item, *ids(answer)} & set(ids(everything))


def test_a_new_item_is_similar_to_its_like_and_recommended_at_once(server, shop):
    like = bundles.load(shop / "recsys-data").catalog.ids.id_of(7)
    known = server.ask(
        history=[{"item_id": like, "kind": "view"}], k=500, fields=["title", "category", "brand", "price"]
    )
    fields = next(hit["fields"] for hit in known["hits"] if hit["item_id"] == like)
    server.post("/v1/items", {"item_id": "new 🙂/1", **fields, "color": "red"})
    assert server.similar("new 🙂/1", k=3)["hits"][0]["reason"] == "similar"
    assert "new 🙂/1" in ids(server.similar(like, k=10))
    answer = server.ask(history=[{"item_id": like, "kind": "view"}], k=500, fields=["title", "price"])
    hit = answer["hits"][ids(answer).index("new 🙂/1")]
    assert hit["reason"] in ("visitor", "new")  # some new items get a place because they are new
    assert hit["fields"] == {"title": fields["title"], "price": fields["price"]}
    assert answer["eligible"] == known["eligible"] + 1
    server.event("first buyer", "new 🙂/1")
    buyer = server.user("first buyer", k=500)
    assert "new 🙂/1" not in ids(buyer)
    assert buyer["hits"][0]["reason"] == "personal"


def test_an_item_that_is_sold_out_or_cheaper_now_counts_so_at_once(server, shop):
    item, other = ids(server.user("u", k=2))
    server.post("/v1/items", [{"item_id": item, "available": False}, {"item_id": other, "price": 0.25}])
    answer = server.user("u", k=500, fields="price,title")
    assert item not in ids(answer)
    assert answer["hits"][0]["item_id"] == other
    assert answer["hits"][0]["fields"]["price"] == 0.25
    assert answer["hits"][0]["fields"]["title"]  # what was not said stays
    assert len(set(ids(answer))) == len(ids(answer)) == answer["eligible"]
    server.post("/v1/items", {"item_id": item, "available": True})
    assert ids(server.user("u", k=2)) == [item, other]
    server.event("u2", item)  # bought under its old row or the new one: it is gone
    assert item not in ids(server.user("u2", k=500))


def test_posted_attributes_are_fields_and_filters_at_once_and_keep_the_type_of_their_first_value(server):
    first = server.post("/v1/items", {"item_id": "n1", "title": "Lamp", "color": "red", "watts": 40})
    assert (first["new"], first["warnings"]) == (["n1"], [])
    answer = server.user("u", filter="color:eq:red", fields="color,watts,title", k=5)
    assert [hit["fields"] for hit in answer["hits"]] == [{"color": "red", "watts": 40.0, "title": "Lamp"}]
    assert ids(server.user("u", filter="watts:between:30,50")) == ["n1"]
    old = ids(server.user("u", k=1, exclude="n1"))[0]
    assert server.user("u", k=1, exclude="n1", fields="color")["hits"][0]["fields"] == {"color": None}
    more = [{"item_id": old, "color": 7, "watts": "much"}, {"item_id": "n2", "color": "red"}]
    second = server.post("/v1/items", more)
    assert (second["stored"], second["new"], codes(second)) == (2, ["n2"], ["wrong_type"])
    assert "watts is a number" in second["warnings"][0]["detail"]
    assert ids(server.user("u", filter="color:eq:7", fields="watts")) == [old]
    assert set(ids(server.user("u", filter="color:in:red,blue"))) == {"n1", "n2"}
    assert server.http.get("/v1/users/u/recommendations?filter=shade:eq:red").status_code == 422
    assert said(server.http.get("/v1/status"))["serving"]["columns"]["watts"] == "number"


def test_a_posted_attribute_leaves_the_others_as_they_are(server):
    server.post("/v1/items", {"item_id": "n1", "color": "red", "watts": 40, "sizes": ["s", "m"]})
    # The second has other columns than the first and the third.
    rows = [{"item_id": "n1", "eco": True}, {"item_id": "n1", "title": "Lamp", "watts": "much"}]
    assert codes(server.post("/v1/items", [*rows, {"item_id": "n1", "color": "blue"}])) == ["wrong_type"]
    columns = "title,color,watts,sizes,eco"
    shown = {"title": "Lamp", "color": "blue", "watts": 40.0, "sizes": ["s", "m"], "eco": True}
    assert [hit["fields"] for hit in server.user("u", filter="eco:eq:true", fields=columns)["hits"]] == [shown]
    server.post("/v1/items", {"item_id": "n1", "color": None})
    found = server.user("u", filter="eco:eq:true", fields=columns)["hits"]
    assert [hit["fields"] for hit in found] == [shown | {"color": None}]


def test_posted_lists_are_fields_and_can_be_filtered(server):
    lists = {"stores": ["Bonn", "Köln"], "sizes": [38, 40.5]}
    assert server.post("/v1/items", {"item_id": "n1", **lists})["warnings"] == []
    more = [{"item_id": "n2", "stores": "Ulm", "sizes": []}, {"item_id": "n3", "stores": [], "sizes": ["much"]}]
    assert codes(server.post("/v1/items", more)) == ["wrong_type"]
    answer = server.user("u", filter="stores:contains:köln", fields="stores,sizes")
    assert [hit["fields"] for hit in answer["hits"]] == [lists]
    assert set(ids(server.user("u", filter="stores:in:bonn,ulm"))) == {"n1", "n2"}
    assert set(ids(server.user("u", filter="stores:exists:true"))) == {"n1", "n2"}
    assert ids(server.user("u", filter="sizes:gt:40")) == ["n1"]
    refused = server.http.get("/v1/users/u/recommendations?filter=stores:contains")
    assert refused.status_code == 422
    assert said(server.http.get("/v1/status"))["serving"]["columns"]["stores"] == "texts"


def test_a_misspelled_column_and_a_new_id_are_told(sqlite_server):
    known = ids(sqlite_server.user("u", k=1))[0]
    answer = sqlite_server.post("/v1/items", {"item_id": known, "avaliable": False, "price": 2.5})
    assert (answer["new"], codes(answer)) == ([], ["misspelled_column"])
    assert "is available meant?" in answer["warnings"][0]["detail"]
    answer = sqlite_server.post("/v1/items", [{"item_id": known + "x", "price": 2.5}, {"item_id": known}])
    assert (answer["new"], answer["warnings"]) == ([known + "x"], [])
    assert sqlite_server.post("/v1/items", {"item_id": known + "x", "price": 3.5})["new"] == []
    for name in ("own_unreadable", "attributes"):
        reserved = sqlite_server.http.post("/v1/items", json={"item_id": known, name: "x"})
        assert (reserved.status_code, name in reserved.text) == (422, True)


def test_a_price_below_0_is_refused_as_in_a_file(sqlite_server):
    item = ids(sqlite_server.user("u", k=1))[0]
    refused = sqlite_server.http.post(
        "/v1/items", json=[{"item_id": item, "price": 0}, {"item_id": item, "price": -0.01}]
    )
    assert (refused.status_code, "price" in refused.text) == (422, True)


@pytest.mark.parametrize(
    ("database", "workers"), [("sqlite", 2), ("postgresql", 4), ("mariadb", 2)], indirect=["database"]
)
def test_new_items_are_recommendable_at_once_in_each_worker_and_after_a_restart(
    serve, serve_apart, database, workers, shop
):
    like = bundles.load(shop / "recsys-data").catalog.ids.id_of(7)
    first = serve_apart("--workers", str(workers), RECSYS_STORE__URL=database)
    each = first.each_worker(workers)
    view = {"history": [{"item_id": like, "kind": "view"}], "k": 500, "fields": ["title", "category", "brand"]}
    hits = said(each[0].post("/v1/recommendations", json=view))["hits"]
    fields = next(hit["fields"] for hit in hits if hit["item_id"] == like)
    for at, poster in enumerate(each):
        said(poster.post("/v1/items", json={"item_id": f"new {at}", **fields}))
        for worker in each:
            assert f"new {at}" in ids(said(worker.get(f"/v1/items/{like}/similar", params={"k": 10})))
            assert f"new {at}" in ids(said(worker.post("/v1/recommendations", json=view)))
    first.post("/v1/items", [{"item_id": f"n{at}", "title": "Thing", "price": 3.0} for at in range(1000)])
    first.kill()
    second = serve(RECSYS_STORE__URL=database)
    assert second.similar("n999", k=1)["hits"]
    assert f"new {workers - 1}" in ids(second.similar(like, k=10))


def test_a_deleted_user_is_forgotten_at_once_and_the_receipt_says_what_was_done(server, shop):
    user, _ = a_buyer(shop)
    server.event(user, ids(server.user(user, k=1))[0])
    receipt = said(server.http.delete(f"/v1/users/{user}"))
    assert (receipt["user_id"], receipt["events"]) == (user, 1)
    assert codes(server.user(user, k=3)) == ["no_history"]
    server.event(user, ids(server.user(user, k=1))[0], "view")
    assert server.user(user, k=3)["hits"][0]["reason"] == "personal"  # who comes back is new
    unknown = said(server.http.delete("/v1/users/never%20seen"))
    assert (receipt["known"], unknown["known"], unknown["events"]) == (True, False, 0)


def test_a_buyer_of_whom_only_the_extract_knows_is_known_when_deleted(server, shop):
    user, _ = a_buyer(shop)
    receipt = said(server.http.delete(f"/v1/users/{user}"))
    assert (receipt["known"], receipt["events"], receipt["visitor_ids"]) == (True, 0, [])


def test_a_guest_is_merged_for_good_and_at_once_by_a_call_or_an_event(server, shop):
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(3)
    server.event(None, item, "cart", visitor_id="v")
    server.event(None, item, "cart", visitor_id="w")
    assert codes(server.user("new")) == ["no_history"]
    merged = server.post("/v1/users/new/merge", {"visitor_id": "v"})
    assert (merged["user_id"], merged["visitor_id"], merged["events"]) == ("new", "v", 1)
    assert server.user("new", k=1)["hits"][0]["reason"] == "personal"
    server.event("newer", item, "view", visitor_id="w")
    assert len(said(server.http.get("/v1/users/newer/history"))["events"]) == 2
    again = server.http.post("/v1/users/other/merge", json={"visitor_id": "v"})
    assert (again.status_code, "another user" in again.json()["detail"]) == (422, True)
    assert server.http.post("/v1/users/other/merge", json={"visitor_id": ""}).status_code == 422


def test_deleting_a_visitor_deletes_the_user_that_the_visitor_is(server, shop):
    user, _ = a_buyer(shop)
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(3)
    server.event(None, item, "cart", visitor_id="v/1")
    server.event(None, item, "cart", visitor_id="stranger")
    server.post(f"/v1/users/{user}/merge", {"visitor_id": "v/1"})
    receipt = said(server.http.delete("/v1/visitors/v%2F1"))
    told = [receipt[key] for key in ("user_id", "visitor_ids", "known", "events")]
    assert told == [user, ["v/1"], True, 1]
    assert codes(server.user(user)) == ["no_history"]
    assert codes(server.ask(visitor_id="v/1")) == ["no_history"]
    receipt = said(server.http.delete("/v1/visitors/stranger"))
    assert [receipt[key] for key in ("user_id", "visitor_ids", "known", "events")] == [None, ["stranger"], True, 1]
    assert said(server.http.delete("/v1/visitors/nobody"))["known"] is False


def test_any_text_is_an_id(server):
    for odd in ODD_IDS:
        path = quote(odd, safe="")
        server.post("/v1/items", {"item_id": odd, "title": "Odd"})
        server.event(odd, odd, "view")
        assert "no_history" not in codes(said(server.http.get(f"/v1/users/{path}/recommendations")))
        assert said(server.http.get(f"/v1/items/{path}/similar"))["hits"]
        assert said(server.http.delete(f"/v1/users/{path}"))["user_id"] == odd
        assert codes(said(server.http.get(f"/v1/users/{path}/recommendations"))) == ["no_history"]


def test_ids_that_look_alike_are_not_the_same(server, shop):
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(3)
    server.event("Ann", item, "view")
    for other in ("ann", "Ann ", " Ann", "Ánn"):
        assert codes(server.user(other)) == ["no_history"]
    assert codes(server.user("Ann")) == []


def test_with_repeats_what_was_bought_comes_again(serve, shop):
    user, bought = a_buyer(shop)
    answer = serve(RECSYS_RECOMMENDATIONS__ALLOW_REPURCHASE="true").user(user, k=500)
    assert bought & set(ids(answer))
    assert answer["dropped"]["bought"] == 0


def test_sold_out_items_are_answered_when_configured(serve):
    answer = serve(RECSYS_RECOMMENDATIONS__EXCLUDE_SOLD_OUT="false").user("u", k=500, fields="available")
    assert answer["dropped"]["sold_out"] == 0
    assert any(hit["fields"]["available"] is False for hit in answer["hits"])


def test_an_explanation_names_the_items_of_the_history_and_adds_up(serve, shop):
    server = serve()
    catalog = bundles.load(shop / "recsys-data").catalog.ids
    history = [{"item_id": catalog.id_of(row), "kind": kind} for row, kind in ((3, "cart"), (8, "view"), (3, "view"))]
    answer = server.ask(history=history, k=4, explain=True)
    for hit in answer["hits"]:
        told = hit["explanation"]
        assert told["method"] == "exact"
        assert {one["item_id"] for one in told["history"]} == {catalog.id_of(3), catalog.id_of(8)}
        total = sum(one["contribution"] for one in told["history"]) + told["rest"]
        assert abs(total - told["score"]) < 1e-4
        assert abs(told["score"] - hit["score"]) < 1e-4
    assert "explanation" not in server.ask(history=history, k=4)["hits"][0]
    assert "explanation" not in server.ask(k=4, explain=True)["hits"][0]  # popular items come from no history
    assert said(server.http.get("/v1/users/u/recommendations?explain=true&k=1"))["hits"]
