"""Boxes, pages and batches over HTTP, on each kind of database."""

from serving import codes, ids, said, wait_until

from recsys.bundle import bundle as bundles
from recsys.serving import posted


def known_items(shop):
    return bundles.load(shop / "recsys-data").catalog.ids.ids_of(range(8))


def test_a_page_asks_for_several_boxes_at_once(server, shop):
    items = known_items(shop)
    server.event(None, items[1], "view", visitor_id="v1")
    boxes = [
        {"box": "recently_viewed", "k": 3},
        {"box": "similar", "item_id": items[0]},
        {"box": "similar", "item_id": "never heard of"},
        {"box": "bestsellers", "category": "Home", "fields": ["category"], "k": 2, "exclude": [items[5]]},
        {"box": "rerank", "item_id": items[2:7], "filter": {"column": "price", "op": "ge", "value": 0}},
    ]
    asked = {"visitor_id": "v1", "k": 4, "fields": ["title"], "exclude": [items[6]], "boxes": boxes}
    page = server.post("/v1/pages", asked)
    viewed, similar, unknown, best, ranked = page["boxes"]
    assert [box["box"] for box in page["boxes"]] == [box["box"] for box in boxes]
    assert (ids(viewed), len(ids(similar)), len(ids(best))) == ([items[1]], 4, 2)
    assert (unknown["hits"], unknown["error"]["status"], unknown["error"]["code"]) == ([], 404, "unknown_item")
    assert {tuple(hit["fields"]) for hit in similar["hits"]} == {("title",)}
    assert all(hit["fields"]["category"].startswith("Home") for hit in best["hits"])
    listed = [item for box in page["boxes"] for item in ids(box)]
    assert len(listed) == len(set(listed))
    assert not {items[6]} & set(listed)
    assert set(ids(ranked)) <= set(items[2:6])
    assert (page["bundle"], viewed["dropped"]["excluded"]) == (bundles.load(shop / "recsys-data").version, 1)
    assert server.post("/v1/pages", {"boxes": [{"box": "rerank", "item_id": items}]})["boxes"][0]["eligible"] <= 8


def test_a_batch_answers_users_and_visitors_as_questions_of_their_own(server, shop):
    items = known_items(shop)
    server.event("u1", items[0], "view")
    server.event(None, items[1], "view", visitor_id="v1")
    server.event(None, items[2], "view", visitor_id="v2")
    server.post("/v1/users/u2/merge", {"visitor_id": "v2"})
    people = [{"user_id": "u1"}, {"visitor_id": "v1"}, {"user_id": "u1", "visitor_id": "v1"}]
    people += [{"user_id": "u2"}, {"visitor_id": "v2"}, {"user_id": "nobody"}, {}]
    questions = [{"box": "for_you", "k": 5, **who} for who in people]
    questions.insert(1, {"box": "for_you", "k": 0})
    questions.insert(2, {"box": "trendin"})
    questions.insert(3, {"box": "similar"})
    questions.insert(4, {"box": "popular", "windw_days": 3})
    answers = server.post("/v1/batch", {"questions": questions})["answers"]
    wrong = [answer["error"]["detail"] for answer in answers[1:5]]
    assert wrong[0] == "k: Input should be greater than or equal to 1"
    assert wrong[1].endswith("is trending meant?")
    assert wrong[2] == "item_id: the box similar is about an item; name it"
    assert "is window_days meant?" in wrong[3]
    assert all(answer["error"]["status"] == 422 and answer["hits"] == [] for answer in answers[1:5])
    right = [answers[0], *answers[5:]]
    assert [ids(answer) for answer in right] == [ids(server.ask(k=5, **who)) for who in people]
    assert [ids(answer) == ids(right[-1]) for answer in right] == [False] * 5 + [True] * 2
    assert codes(right[-2]) == ["no_history"]


def test_too_much_at_once_is_refused(serve):
    server = serve()
    for path, key, most in (("/v1/batch", "questions", 100), ("/v1/pages", "boxes", 20)):
        assert len(said(server.http.post(path, json={key: [{"box": "popular", "k": 1}] * most}))) == 3
        for count in (0, most + 1):
            answer = server.http.post(path, json={key: [{"box": "popular"}] * count})
            assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, f"body.{key}")
    page = said(server.http.post("/v1/pages", json={"boxes": [{"box": "popular", "k": 2}]}))["boxes"][0]
    more = said(server.http.get("/v1/boxes/popular", params={"k": 2, "cursor": page["next_cursor"]}))
    assert ids(page) + ids(more) == ids(server.post("/v1/boxes/popular", {"k": 4}))
    wrong = server.http.post("/v1/pages", json={"cursor": page["next_cursor"], "boxes": [{"box": "popular"}]})
    assert "a cursor goes on with one box" in wrong.json()["detail"]
    typo = server.http.post("/v1/pages", json={"boxes": [{"box": "popular", "windw_days": 7}]}).json()
    assert typo["errors"][0]["where"] == "body.boxes[0].windw_days"
    assert "is window_days meant?" in typo["detail"]


def test_bestsellers_move_with_what_is_posted_and_back_when_its_user_is_deleted(sqlite_server, monkeypatch):
    monkeypatch.setattr(posted, "CHECK_SECONDS", 0.2)

    def best():
        return ids(said(sqlite_server.http.get("/v1/boxes/bestsellers", params={"k": 3})))

    trained = best()
    item = ids(said(sqlite_server.http.get("/v1/boxes/popular", params={"k": 60})))[-1]
    events = [{"event_id": f"e{at}", "user_id": "u1", "kind": "purchase", "item_id": item} for at in range(300)]
    sqlite_server.post("/v1/events", events)
    wait_until(lambda: best()[0] == item)
    said(sqlite_server.http.delete("/v1/users/u1"))
    wait_until(lambda: best() == trained)
