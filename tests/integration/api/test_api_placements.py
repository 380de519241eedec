"""Placements over HTTP and on the command line: what is stored counts at once, and who changed it is kept."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from command_line import run_here
from serving import said, wait_until

CONFIGURED = """
[placements.home]
box = "bestsellers"
k = 5
filter = "price:ge:5"
fields = ["title"]
fallbacks = ["popular"]

[placements.home.rules]
max_per = { category = 1 }

[placements.ended]
ends_at = 2020-01-01T00:00:00Z
"""


def ids(answer):
    return [hit["item_id"] for hit in answer["hits"]]


def recsys(shop, *arguments):
    done = run_here("placements", *arguments, "--config", shop / "recsys.toml", "--json")
    return json.loads(done.stdout) if done.returncode == 0 else (done.returncode, done.stderr)


@pytest.fixture
def configured(shop):
    settings = shop / "recsys.toml"
    settings.write_text(settings.read_text() + CONFIGURED)
    return shop


def test_a_placement_of_the_configuration_is_answered_while_it_is_active(configured, serve):
    server = serve()
    home = said(server.http.get("/v1/placements/home"))
    assert 1 < len(home["hits"]) <= 5
    assert {hit["reason"] for hit in home["hits"]} <= {"bestsellers", "popular"}
    assert all(hit["fields"]["title"] for hit in home["hits"])
    wide = said(server.http.get("/v1/placements/home", params={"k": 2, "fields": "price", "filter": "price:le:30"}))
    assert len(wide["hits"]) <= 2
    assert all(5 <= hit["fields"]["price"] <= 30 for hit in wide["hits"])
    last = ids(said(server.http.get("/v1/boxes/bestsellers?k=40&filter=price:ge:5")))[-1]
    rules = {"pin": [{"item_id": last, "place": 1}]}
    assert ids(server.post("/v1/placements/home", {"user_id": "nobody", "rules": rules}))[0] == last
    ended = server.http.get("/v1/placements/ended")
    assert (ended.status_code, "until 2020-01-01" in ended.json()["detail"]) == (404, True)
    unknown = server.http.get("/v1/placements/hone")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_placement")
    assert "is home meant?" in unknown.json()["detail"]
    listed = said(server.http.get("/v1/placements"))["placements"]
    assert [(one["name"], one["source"], one["active"]) for one in listed] == [
        ("ended", "configuration", False),
        ("home", "configuration", True),
    ]


def test_pages_and_batches_may_name_a_placement_and_a_box_of_a_page_has_rules_of_its_own(configured, serve):
    server = serve()
    home, last = said(server.http.get("/v1/placements/home")), server.post("/v1/boxes/popular", {"k": 40})
    pinned = {"rules": {"pin": [{"item_id": ids(last)[-1], "place": 2}]}}
    boxes = [{"placement": "home"}, {"placement": "hone"}, {"box": "popular", **pinned}, {"placement": "home", "k": 1}]
    page = server.post("/v1/pages", {"k": 3, "boxes": boxes})["boxes"]
    assert [box["box"] for box in page] == ["bestsellers", None, "popular", "bestsellers"]
    assert (ids(page[0]), ids(page[2])[1]) == (ids(home), ids(last)[-1])
    assert [len(box["hits"]) for box in page[2:]] == [3, 1]
    assert not set(ids(page[0])) & {*ids(page[2]), *ids(page[3])}
    assert (page[1]["error"]["status"], page[1]["error"]["code"]) == (404, "unknown_placement")
    assert (page[1]["hits"], page[1]["warnings"]) == ([], [])
    both = {"placement": "home", "box": "popular"}
    batch = server.post("/v1/batch", {"questions": [{"placement": "home", "k": 2}, {"placement": "hone"}, both, {}]})
    assert ids(batch["answers"][0]) == ids(said(server.http.get("/v1/placements/home?k=2")))
    errors = [answer["error"] for answer in batch["answers"][1:]]
    assert [error["status"] for error in errors] == [404, 422, 422]
    assert errors[1]["detail"] == errors[2]["detail"] == "box or placement: one of them is required, not both"
    assert server.http.post("/v1/pages", json={"boxes": [both]}).status_code == 422


def test_a_stored_placement_counts_at_once_and_takes_the_place_of_a_configured_one(configured, serve, database):
    server = serve(RECSYS_STORE__URL=database)
    before = ids(said(server.http.get("/v1/placements/home")))
    put = said(server.http.put("/v1/placements/home", json={"box": "trending", "k": 3, "filter": "price:lt:20"}))
    assert (put["changed"], put["placement"]["changed_by"]) == (True, "without a key")
    assert len(said(server.http.get("/v1/placements/home"))["hits"]) == 3
    again = server.http.put("/v1/placements/home", json={"k": 3, "box": "trending", "filter": "price:lt:20"})
    assert said(again)["changed"] is False
    assert [one["source"] for one in said(server.http.get("/v1/placements"))["placements"]] == [
        "configuration",
        "store",
        "configuration",
    ]
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    said(server.http.put("/v1/placements/home", json={"box": "popular", "k": 2, "starts_at": later}))
    assert ids(said(server.http.get("/v1/placements/home"))) == before  # the stored one is not active yet
    assert len(server.post("/v1/placements/home/preview", {"user_id": "u"})["hits"]) == 2
    draft = {"definition": {"box": "popular", "k": 1}, "visitor_id": "v"}
    assert len(server.post("/v1/placements/new/preview", draft)["hits"]) == 1
    said(server.http.delete("/v1/placements/home"))
    assert ids(said(server.http.get("/v1/placements/home"))) == before
    assert server.http.delete("/v1/placements/home").status_code == 404
    changes = said(server.http.get("/v1/placements/home/history"))["changes"]
    assert [(one["definition"] or {}).get("box") for one in changes] == [None, "popular", "trending"]


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"boxx": "for_you"}, "is box meant?"),
        ({"box": "trendy"}, "is trending meant?"),
        ({"filter": "pirce:lt:5"}, "is price meant?"),
        ({"rules": {"max_per": {"brnd": 1}}}, "is brand meant?"),
        ({"fields": ["titel"]}, "is title meant?"),
        ({"fallbacks": ["rerank"]}, "fallbacks"),
        ({"k": 0}, "k:"),
        ({"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, ": a placement's ends_at"),
        ({"starts_at": "2026-01-02T00:00:00"}, "starts_at"),
    ],
)
def test_a_wrong_definition_is_refused_and_named(serve, definition, words):
    server = serve()
    for answer in (
        server.http.put("/v1/placements/home", json=definition),
        server.http.post("/v1/placements/home/preview", json={"definition": definition}),
    ):
        assert (answer.status_code, words in answer.text) == (422, True), answer.text
    assert server.http.put("/v1/placements/Big", json={}).status_code == 422


def test_the_history_names_the_key_and_every_worker_learns_within_seconds(configured, serve):
    key = json.loads(
        run_here("key", "create", "shop desk", "--scope=admin", "--config", configured / "recsys.toml", "--json").stdout
    )
    one, other = serve(), serve()
    for server in (one, other):
        server.http.headers["X-API-Key"] = key["key"]
    said(one.http.put("/v1/placements/cart", json={"box": "popular", "k": 4}))
    wait_until(lambda: other.http.get("/v1/placements/cart").status_code == 200)
    changes = said(other.http.get("/v1/placements/cart/history"))["changes"]
    assert [change["changed_by"] for change in changes] == [f"shop desk ({key['key_id']})"]


def test_the_command_line_says_the_same(configured, serve):
    shop = configured
    assert recsys(shop, "put", "cart", '{"box": "popular", "k": 4}')["changed"] is True
    file = shop / "cart.json"
    file.write_text('{"box": "popular", "k": 3}')
    assert recsys(shop, "put", "cart", str(file))["definition"] == {"box": "popular", "k": 3}
    assert [one["name"] for one in recsys(shop, "list")] == ["cart", "ended", "home"]
    server = serve()
    shown = recsys(shop, "preview", "cart", "--user", "nobody")
    assert ids(shown) == ids(said(server.http.get("/v1/placements/cart?user_id=nobody")))
    assert [one["definition"]["k"] for one in recsys(shop, "history", "cart")] == [3, 4]
    assert recsys(shop, "history", "cart")[0]["changed_by"].endswith("(command line)")
    recsys(shop, "delete", "cart")
    assert "there are ended, home" in recsys(shop, "preview", "cart")[1]
    for arguments, words in (
        (("put", "cart", "{"), "no JSON"),
        (("put", "cart", "nowhere.json"), "nowhere.json"),
        (("put", "cart", '{"boxx": 1}'), "is box meant?"),
    ):
        code, error = recsys(shop, *arguments)
        assert (code, words in error) == (2, True), error
