"""The whole road on each database, as the shop's own and as the service's, with ids that are easily confused."""

import numpy as np
import sqlalchemy as sa
from road import QUICK, parsed

from recsys.store.database import database_url

CONFUSABLE = [
    "a",
    "A",
    "a ",
    " a",
    "ä",
    "Ä",
    "a/b",
    "a\\b",
    "it's",
    '"a"',
    "a%20",
    "😀",
    "😃",
    "a\tb",
    "ａ",
    "nil",
    "-1",
]
TABLES = (
    "CREATE TABLE wares (code {id} PRIMARY KEY, label VARCHAR(99), kind_of VARCHAR(9), cost NUMERIC, in_stock BOOLEAN)",
    "CREATE TABLE people (code {id} PRIMARY KEY, may_mail BOOLEAN)",
    "CREATE TABLE deeds (buyer {id}, product {id}, what VARCHAR(10), happened BIGINT, paid FLOAT)",
)
CLUSTERS, PER_CLUSTER, START = 5, 12, 1_760_000_000

CONFIG = '''
[store]
url = "{url}"
[source]
url = "{url}"
interactions = """
SELECT buyer AS user_id, product AS item_id, what AS event, happened AS timestamp, paid AS value FROM deeds
"""
items = "SELECT code AS item_id, label AS title, kind_of AS category, cost AS price, in_stock AS available FROM wares"
users = "SELECT code AS user_id, may_mail AS email_consent FROM people"
[events.aliases]
bought = "purchase"
looked = "view"
[training]
models = ["mf"]
{quick}
'''


def test_the_whole_road(database, tmp_path, recsys):
    people, wares = fill_shop(database)
    settings = tmp_path / "recsys.toml"
    settings.write_text(CONFIG.format(url=database, quick=QUICK), encoding="utf-8")
    parsed(recsys("init", "--config", settings, "--json"))
    before = shop_content(database)
    report = parsed(recsys("source", "check", "--config", settings, "--json"))
    assert not [f for f in report["findings"] if f["severity"] == "error"]
    done = parsed(recsys("train", "--config", settings, "--json"))
    assert done["published"]
    assert shop_content(database) == before
    answers = parsed(recsys("recommend", "--config", settings, "--json", "-k", "5", "--", *people))
    assert [answer["user_id"] for answer in answers] == people
    for at, answer in enumerate(answers):
        own = {event["item_id"] for event in answer["history"]}
        assert own <= {wares[i] for i in cluster_of(at)}, answer["user_id"]
        assert own
        assert len(answer["hits"]) == 5
        bought = {event["item_id"] for event in answer["history"] if event["event"] == "purchase"}
        assert not bought & {hit["item_id"] for hit in answer["hits"]}
    likenesses = parsed(recsys("similar", "--config", settings, "--json", "-k", "3", "--", *CONFUSABLE))
    assert [likeness["item"]["item_id"] for likeness in likenesses] == CONFUSABLE
    same = parsed(recsys("train", "--config", settings, "--json"))
    assert (same["nothing_new"], same["bundle"]) == (True, done["bundle"])
    again = parsed(recsys("train", "--full", "--config", settings, "--json"))
    assert again["bundle"] != done["bundle"]
    assert parsed(recsys("rollback", "--config", settings, "--json"))["live"] == done["bundle"]
    runs = parsed(recsys("runs", "--config", settings, "--json"))
    assert [run["status"] for run in runs] == ["done", "done", "done"]


def cluster_of(person: int) -> range:
    """The wares that a person buys from."""
    first = person % CLUSTERS * PER_CLUSTER
    return range(first, first + PER_CLUSTER)


def fill_shop(url: str) -> tuple[list[str], list[str]]:
    """Tables of a shop's own making, with confusable ids of people and wares."""
    people = [*CONFUSABLE, *(f"p{n}" for n in range(400))]
    wares = [*CONFUSABLE, *(f"w{n}" for n in range(CLUSTERS * PER_CLUSTER - len(CONFUSABLE)))]
    random = np.random.default_rng(0)
    rows = []
    for at, person in enumerate(people):
        for ware in random.choice(cluster_of(at), 5, replace=False):
            happened = START + int(random.integers(0, 100 * 86_400))
            kind = "bought" if random.random() < 0.8 else "looked"
            rows.append({"buyer": person, "product": wares[ware], "what": kind, "happened": happened, "paid": 1.5})
    engine = sa.create_engine(database_url(url))
    # The default collations of MariaDB take "a" for "A"; this one tells ids apart as the other databases do.
    id_type = "VARCHAR(255)" + " COLLATE utf8mb4_nopad_bin" * (engine.dialect.name == "mysql")
    with engine.begin() as connection:
        for table in TABLES:
            connection.execute(sa.text(table.format(id=id_type)))
        insert = "INSERT INTO wares VALUES (:code, :label, :kind_of, :cost, TRUE)"
        connection.execute(sa.text(insert), [
            {"code": w, "label": f"Ware {n}", "kind_of": f"Group {n // PER_CLUSTER}", "cost": 1 + n}
            for n, w in enumerate(wares)
        ])  # fmt: skip
        insert = "INSERT INTO people VALUES (:code, :may_mail)"
        connection.execute(sa.text(insert), [{"code": p, "may_mail": n % 2 == 0} for n, p in enumerate(people)])
        connection.execute(sa.text("INSERT INTO deeds VALUES (:buyer, :product, :what, :happened, :paid)"), rows)
    engine.dispose()
    return people[: len(CONFUSABLE)], wares


def shop_content(url: str) -> list[list[tuple]]:
    """Everything in the shop's tables."""
    engine = sa.create_engine(database_url(url))
    with engine.connect() as connection:
        found = [
            sorted(map(tuple, connection.execute(sa.text(f"SELECT * FROM {table}"))), key=repr)
            for table in ("wares", "people", "deeds")
        ]
    engine.dispose()
    return found
