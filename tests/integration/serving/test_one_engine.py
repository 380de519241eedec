"""The command line and HTTP answer from one engine: the same questions get the same answers, in every field."""

import csv
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import run_here
from serving import ServiceHere

from recsys.bundle import bundle as bundles
from recsys.data.extract import open_extract
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.serving.boxes import BOXES

SECTIONS = ("category", "brand", "price", "available", "created_at", "title")
COMPARED = {"bundle", "hits", "eligible", "dropped", "warnings"}


def command(shop: Path, *words: Any) -> list[dict[str, Any]]:
    """What a command prints with --json."""
    done = run_here(*map(str, words), "--json", "--config", shop / "recsys.toml")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def refused(shop: Path, *words: Any) -> tuple[int, str]:
    done = run_here(*map(str, words), "--config", shop / "recsys.toml")
    return done.returncode, done.stderr


def imported(shop: Path, rows: list[dict[str, Any]]) -> None:
    """`recsys import` of items."""
    file = shop / "items.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = run_here("import", file, "--what", "items", "--config", shop / "recsys.toml")
    assert done.returncode == 0, done.stderr


def assert_equal_in_what_both_have(ours: dict[str, Any], theirs: dict[str, Any], question: Any) -> None:
    assert set(ours) & set(theirs) >= COMPARED
    for name in set(ours) & set(theirs) - {"hits"}:
        assert ours[name] == theirs[name], (name, question)
    assert [hit["item_id"] for hit in ours["hits"]] == [hit["item_id"] for hit in theirs["hits"]], question
    for mine, other in zip(ours["hits"], theirs["hits"], strict=True):
        assert {"item_id", "score", "reason"} <= set(mine) & set(other)
        assert all(mine[name] == other[name] for name in set(mine) & set(other)), question


class Asker:
    """Random questions about a shop, each in the words of both doors."""

    def __init__(self, shop: Path, seed: int, items: list[str], as_of: list[str]) -> None:
        self.random, self.folder, self.items, self.as_of = random.Random(seed), shop, items, as_of
        extract, bundle = open_extract(shop / "recsys-data"), bundles.load(shop / "recsys-data")
        self.users = [*extract.users.ids_of(range(0, len(extract.users), 7)), "first seen", "deleted", "nobody"]
        columns = bundle.catalog.columns
        self.values = {name: columns.column(name).drop_null().unique().to_pylist() for name in ("category", "brand")}

    def one_of(self, *chances: Any) -> Any:
        return self.random.choice(chances)

    def some(self, values: list[str], most: int) -> list[str]:
        return self.random.sample(values, self.random.randint(0, most))

    def condition(self) -> dict[str, Any]:
        low = self.random.uniform(0, 60)
        column = self.one_of("category", "brand")
        return self.one_of(
            {"column": "price", "op": "between", "value": [low, low + self.random.uniform(0, 60)]},
            {"column": column, "op": "in", "value": self.random.sample(self.values[column], 3)},
            {"column": column, "op": "eq", "value": self.random.choice(self.values[column])},
            {"column": "available", "op": "eq", "value": self.one_of(True, False)},
        )

    def expression(self) -> dict[str, Any]:
        parts = [self.condition(), self.condition()]
        return self.one_of({"and": parts}, {"or": parts}, {"not": parts[0]}, parts[0])

    def options(self) -> tuple[dict[str, Any], list[str]]:
        """Those that both commands have: as HTTP has them, and as words."""
        k, exclude = self.one_of(1, 5, 20, 300), self.some(self.items, 6)
        fields = self.some(list(SECTIONS), 3)
        words = ["-k", str(k), *(word for item in exclude for word in ("--exclude", item))]
        words += ["--fields", ",".join(fields)] if fields else []
        return {"k": k, "exclude": exclude, "fields": fields}, words

    def events(self) -> list[dict[str, Any]]:
        return [
            {"item_id": self.random.choice(self.items), "kind": self.one_of("view", "cart", "purchase")}
            | self.one_of({}, {"occurred_at": self.random.choice(self.as_of)}, {"occurred_at": "2026-01-05T10:00:00Z"})
            for _ in range(self.random.randint(1, 8))
        ]

    def recommend(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Questions for HTTP, and one command that asks all of them."""
        question, words = self.options()
        question["as_of"] = self.random.choice(self.as_of)
        words += ["--as-of", question["as_of"]]
        if self.random.random() < 0.5:
            question["filter"] = self.expression()
            words += ["--filter", json.dumps(question["filter"])]
        if self.random.random() < 0.6:
            users = self.random.sample(self.users, 12)
            return [{**question, "user_id": user} for user in users], [*users, *words]
        user, visitor = self.one_of(None, *self.random.sample(self.users, 2)), self.one_of(None, "v1", "v2", "v?")
        if visitor is not None:
            question["visitor_id"] = visitor
            words += ["--visitor", visitor]
        if self.random.random() < 0.5 or user is None is visitor:
            question["history"] = self.events()
            words += ["--history", str(self.file(question["history"]))]
        return [question | ({} if user is None else {"user_id": user})], [*([] if user is None else [user]), *words]

    def file(self, events: list[dict[str, Any]]) -> Path:
        """The events in one of the three forms."""
        form, file = self.one_of("lines", "array", "csv"), self.folder / "history"
        if form == "csv":
            with file.open("w", newline="") as opened:
                writer = csv.DictWriter(opened, ("item_id", "kind", "occurred_at"))
                writer.writeheader()
                writer.writerows(events)
        else:
            file.write_text(json.dumps(events) if form == "array" else "\n".join(map(json.dumps, events)))
        return file

    def similar(self) -> tuple[list[str], dict[str, Any], list[str]]:
        """Items, the address's parameters, and one command that asks for all of them."""
        question, words = self.options()
        column = self.one_of("category", "brand")
        filters = self.some(["available:eq:true", "price:between:1,50", json.dumps(self.expression())], 2)
        filters += self.one_of([], [f"{column}:eq:{self.random.choice(self.values[column])}"])
        words += [word for one in filters for word in ("--filter", one)]
        items = self.random.sample(self.items, 6)
        question["fields"] = ",".join(question["fields"]) or None
        return items, {k: v for k, v in question.items() if v} | {"filter": filters}, [*items, *words]


@pytest.fixture
def busy(shop: Path, serve: Any) -> tuple[ServiceHere, list[str]]:
    """The service of a shop in which all that can happen after training has happened, and items of each sort."""
    bundle = bundles.load(shop / "recsys-data")
    known = bundle.catalog.ids.ids_of(range(0, len(bundle.catalog), 5))
    like = {name: bundle.catalog.columns.column(name)[5].as_py() for name in ("title", "category", "brand")}
    imported(shop, [{"item_id": "imported", "price": 3.5, **like}, {"item_id": known[3], "price": 0.75, **like}])
    server = serve()
    server.post("/v1/items", [{"item_id": "posted", "price": 9.0, **like}, {"item_id": "bare"}])
    server.post("/v1/items", [{"item_id": known[0], "available": False}, {"item_id": known[1], "title": "Renamed"}])
    for at, item in enumerate(("imported", "posted", known[0], known[4], known[5], "bare")):
        server.event("first seen", item, ("view", "purchase")[at % 2])
        server.event(None, item, ("cart", "view", "purchase")[at % 3], visitor_id=("v1", "v2")[at % 2])
        server.event("deleted", item)
    assert server.http.delete("/v1/users/deleted").status_code == 200
    server.event("deleted", known[6], "view")
    return server, [*known, "imported", "posted", "bare"]


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_questions_get_the_same_answers_from_the_command_line_and_over_http(
    count: int, shop: Path, busy: tuple[ServiceHere, list[str]]
) -> None:
    server, items = busy
    newest, now = open_extract(shop / "recsys-data").as_of, time.time_ns() // 1000
    moments = [rfc3339(time) for time in (now, newest, newest - 30 * MICROSECONDS_PER_DAY)]
    asker = Asker(shop, seed=7, items=items, as_of=moments)
    asked, reasons, warnings, dropped = 0, set[str](), set[str](), set[str]()
    while asked < count:
        if asked % 5 < 4:
            questions, words = asker.recommend()
            answers = [server.ask(**question) for question in questions]
            shown = command(shop, "recommend", *words)
        else:
            wanted, parameters, words = asker.similar()
            questions = [{"item": item, **parameters} for item in wanted]
            answers = [server.similar(item, **parameters) for item in wanted]
            shown = command(shop, "similar", *words)
        for question, ours, theirs in zip(questions, shown, answers, strict=True):
            assert_equal_in_what_both_have(ours, theirs, (question, words))
            reasons |= {hit["reason"] for hit in ours["hits"]}
            warnings |= {warning["code"] for warning in ours["warnings"]}
            dropped |= {reason for reason, count in ours["dropped"].items() if count}
        asked += len(questions)
    assert reasons == {"personal", "new", "visitor", "similar", "popular"}  # every sort of answer was among them
    assert warnings == {"fewer_than_k", "no_history", "fallback"}
    assert dropped == {"sold_out", "filtered", "bought", "excluded", "not_in_box"}


def test_an_item_that_an_import_brought_or_changed_is_known_to_both_commands_at_once(shop: Path) -> None:
    bundle = bundles.load(shop / "recsys-data")
    old = bundle.catalog.ids.id_of(7)
    like = {name: bundle.catalog.columns.column(name)[7].as_py() for name in ("title", "category", "brand")}
    assert "no item 'imported'" in refused(shop, "similar", "imported")[1]
    imported(shop, [{"item_id": "imported", "price": 3.5, **like}])
    [answer] = command(shop, "similar", "imported", "-k", 3)
    assert answer["item"] == {"item_id": "imported", **like, "price": 3.5}
    assert answer["hits"][0]["reason"] == "similar"
    [answer] = command(shop, "similar", old, "-k", 10, "--fields", "price,created_at")
    hit = next(hit for hit in answer["hits"] if hit["item_id"] == "imported")
    assert hit["fields"] == {"price": 3.5, "created_at": None}
    (shop / "history").write_text(json.dumps([{"item_id": "imported", "kind": "view"}]))
    [answer] = command(shop, "recommend", "--history", shop / "history", "-k", 300)
    assert (answer["user_id"], answer["warnings"][0]["code"]) == (None, "fewer_than_k")
    assert answer["history"][0] | {"time": ""} == {
        **{"time": "", "event": "view", "item_id": "imported", "price": 3.5},
        **like,
    }
    assert "imported" in {hit["item_id"] for hit in answer["hits"]}
    assert answer["hits"][0]["reason"] == "visitor"
    [answer] = command(shop, "recommend", "nobody", "-k", 300, "--exclude", "imported", "--exclude", old)
    assert not {"imported", old} & {hit["item_id"] for hit in answer["hits"]}
    assert answer["dropped"]["excluded"] == 2


def test_the_command_line_answers_every_box_as_http_does(shop: Path, busy: tuple[ServiceHere, list[str]]) -> None:
    server, items = busy
    moment = rfc3339(open_extract(shop / "recsys-data").as_of)
    for name, box in BOXES.items():
        question: dict[str, Any] = {"visitor_id": "v1", "k": 30, "fields": ["price"], "as_of": moment}
        words = ["--visitor", "v1", "-k", 30, "--fields", "price", "--as-of", moment]
        if box.needs in ("item", "items"):
            question["item_id"], words = items[7:9], [*words, "--item", items[7], "--item", items[8]]
        if box.takes_window:
            question["window_days"], words = 90, [*words, "--window-days", 90]
        theirs = server.post(f"/v1/boxes/{name}", question)
        done = run_here("box", name, *map(str, words), "--json", "--config", shop / "recsys.toml")
        ours = json.loads(done.stdout)
        assert_equal_in_what_both_have(ours, theirs, name)
        in_address = server.http.get(f"/v1/boxes/{name}", params=question).json()
        assert in_address | {"request_id": theirs["request_id"]} == theirs
        assert name in run_here("box", "--help").stdout


def test_a_box_on_the_command_line_goes_on_with_a_cursor_and_explains(
    shop: Path, busy: tuple[ServiceHere, list[str]]
) -> None:
    _, items = busy
    (shop / "viewed").write_text(json.dumps([{"item_id": items[7], "kind": "view"}]))
    asked = ["box", "for_you", "--history", str(shop / "viewed"), "-k", "4", "--config", str(shop / "recsys.toml")]
    first = json.loads(run_here(*asked, "--json").stdout)
    second = json.loads(run_here(*asked, "--cursor", first["next_cursor"], "--explain", "--json").stdout)
    assert not {hit["item_id"] for hit in first["hits"]} & {hit["item_id"] for hit in second["hits"]}
    explained = [hit["explanation"] for hit in second["hits"] if hit["reason"] == "visitor"]
    assert explained
    assert {told["history"][0]["item_id"] for told in explained} == {items[7]}
    assert "because of" in run_here(*asked, "--explain").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("box", "popular", "--cursor", "x"), "--cursor: this is none"),
        (("recommend",), "nobody is named"),
        (("recommend", "a", "b", "--visitor", "v"), "belong to one user"),
        (("recommend", "a", "--visitor", ""), "is empty"),
        (("recommend", "a", "--as-of", "yesterday"), "--as-of 'yesterday' is no time"),
        (("recommend", "a", "--as-of", "1960-01-01"), "from 1970 on"),
        (("recommend", "a", "--filter", "colour:eq:red"), "--filter.column: no such column"),
        (("similar", "P00007", "--filter", "price"), "--filter: expected column:op:value"),
        (("similar", "P00007", "--filter", "{"), "--filter: this is no JSON"),
        (("recommend", "a", "--fields", "title,colour"), "--fields: no such column"),
        (("similar", "P00007", "--exclude", ""), "is empty"),
        (("recommend", "--history", "nowhere.json"), "nowhere.json cannot be read"),
        (("box", "trendin"), "NAME: there is no 'trendin'; allowed are for_you"),
        (("box", "similar"), "--item: the box similar is about an item"),
        (("box", "popular", "--window-days", 7), "--window-days: the box popular has no window"),
    ],
)
def test_a_wrong_option_is_named_and_ends_with_code_2(shop: Path, words: tuple[str, ...], says: str) -> None:
    code, shown = refused(shop, *words)
    assert (code, says in " ".join(shown.replace("│", " ").split())) == (2, True), shown


def test_people_see_the_columns_they_asked_for_and_what_was_wrong_with_the_question(shop: Path) -> None:
    arguments = ("recommend", "--visitor", "v1", "-k", "300", "--fields", "available", "--config", shop / "recsys.toml")
    shown = run_here(*arguments).stdout
    assert "Visitor v1: newest of 0 events" in shown
    assert "available" in shown
    assert "Nothing is known of this user yet; these items are popular." in shown
