import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import quiet

from recsys.sample.shop import END, Truth, generate, sample_config
from recsys.sample.words import SHELVES

SMALL = {"users": 1_500, "items": 300, "events": 30_000}
PURCHASES = """
SELECT orders.customer_id - 1001, order_lines.sku, unixepoch(orders.placed_at)
FROM orders JOIN order_lines ON order_lines.order_id = orders.id
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sqlite3.Connection, Truth]]:
    path = tmp_path_factory.mktemp("sample") / "shop.db"
    truth = generate(path, **SMALL, seed=0, progress=quiet)
    with closing(sqlite3.connect(path)) as database:
        yield database, truth


def column(database: sqlite3.Connection, query: str) -> list[Any]:
    return [row[0] for row in database.execute(query)]


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


def test_the_same_seed_gives_the_same_shop_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        generate(tmp_path / name, users=100, items=50, events=1_000, seed=seed, progress=quiet)
    assert dump(tmp_path / "one") == dump(tmp_path / "two")
    assert dump(tmp_path / "one") != dump(tmp_path / "three")


def test_a_file_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="there already"):
        generate(path, **SMALL, progress=quiet)
    assert path.read_text() == "precious"


def test_sizes_are_as_asked(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, truth = shop
    counts = {
        table: column(database, f"SELECT count(*) FROM {table}")[0]
        for table in ("products", "customers", "page_views", "cart_events", "order_lines")
    }
    assert counts["products"] == len(truth.item_ids) == 300
    assert counts["customers"] == len(truth.user_ids) == 1_500
    assert counts["page_views"] + counts["cart_events"] + counts["order_lines"] == pytest.approx(30_000, rel=0.1)
    assert counts["page_views"] > 1.5 * counts["cart_events"] > 2 * counts["order_lines"]


def test_titles_are_unique_and_name_the_brand(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    rows = database.execute("SELECT p.name, b.name FROM products p JOIN brands b ON b.id = p.brand_id").fetchall()
    assert len({title for title, _ in rows}) == len(rows) == 300
    assert all(title.startswith(brand + " ") for title, brand in rows)


def test_whatever_is_bought_was_looked_at_and_put_into_the_cart_before(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    for table, moment in (("page_views", "viewed_at"), ("cart_events", "added_at")):
        without = f"""
            SELECT count(*) FROM orders o JOIN order_lines l ON l.order_id = o.id
            WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE t.customer_id = o.customer_id AND t.sku = l.sku
                              AND t.{moment} BETWEEN datetime(o.placed_at, '-1 day') AND o.placed_at)"""
        database.execute(f"CREATE INDEX IF NOT EXISTS {table}_at ON {table} (customer_id, sku)")
        assert column(database, without) == [0]


def test_every_event_lies_in_the_year_and_while_the_product_was_for_sale(
    shop: tuple[sqlite3.Connection, Truth],
) -> None:
    database, _ = shop
    views = "page_views v JOIN products p ON p.sku = v.sku"
    assert column(database, f"SELECT count(*) FROM {views} WHERE v.viewed_at < p.created") == [0]
    latest = "SELECT max(at) FROM (SELECT max(viewed_at) at FROM page_views UNION SELECT max(placed_at) FROM orders)"
    assert column(database, f"SELECT unixepoch(({latest}))")[0] < END / 1e6
    assert column(database, "SELECT unixepoch(min(viewed_at)) FROM page_views")[0] >= END / 1e6 - 364 * 86_400
    sold_out = f"SELECT max(v.viewed_at) FROM {views} WHERE p.stock = 0 GROUP BY p.sku"
    assert len(column(database, sold_out)) > 5
    assert min(column(database, sold_out)) < "2026-06"


def test_only_what_is_used_up_is_bought_again(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    again = column(
        database,
        """SELECT c.name FROM orders o JOIN order_lines l ON l.order_id = o.id JOIN products p ON p.sku = l.sku
           JOIN categories c ON c.id = p.category_id GROUP BY o.customer_id, l.sku HAVING count(*) > 1""",
    )
    assert len(again) > 50
    assert set(again) <= {shelf.name for shelf in SHELVES if shelf.consumable}


def test_no_event_comes_twice(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    query = tomllib.loads(sample_config())["source"]["interactions"]
    assert (
        column(
            database, f"SELECT count(*) FROM ({query}) GROUP BY user_id, item_id, event, timestamp HAVING count(*) > 1"
        )
        == []
    )


def test_some_products_sell_far_more_than_most(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    counts = column(database, "SELECT count(*) FROM page_views GROUP BY sku ORDER BY 1 DESC")
    assert sum(counts[:30]) > 0.35 * sum(counts)
    assert len(counts) > 280


def test_products_sell_in_their_season(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    in_month = """SELECT count(*) FROM page_views v JOIN products p ON p.sku = v.sku
                  JOIN categories c ON c.id = p.category_id
                  WHERE c.name = 'Christmas' AND strftime('%m', v.viewed_at) = '{}'"""
    december, june = (column(database, in_month.format(month))[0] for month in ("12", "06"))
    assert december > 4 * (june + 1)


def test_consent_is_given_refused_or_unknown(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    counts = dict(database.execute("SELECT email_consent, count(*) FROM customers GROUP BY 1").fetchall())
    assert counts[1] > counts[0] > counts[None] > 0


def test_the_oracle_beats_popularity_and_popularity_beats_chance(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, truth = shop
    cut = END / 1e6 - 28 * 86_400
    row = {sku: number for number, sku in enumerate(truth.item_ids)}
    rows = [(user, row[sku], at) for user, sku, at in database.execute(PURCHASES)]
    known = {(user, item) for user, item, at in rows if at < cut}
    targets = [(user, item) for user, item, at in rows if at >= cut and (user, item) not in known]
    users, items = np.array(targets).T
    popular = np.bincount([item for _, item, at in rows if at < cut], minlength=300).astype(float)

    def hit_rate(scores: np.ndarray[Any, Any]) -> float:
        own = scores[np.arange(len(items)), items]
        return float(((scores > own[:, None]).sum(axis=1) < 20).mean())

    chance = hit_rate(np.random.default_rng(0).random((len(items), 300)))
    popularity = hit_rate(np.tile(popular, (len(items), 1)))
    oracle = hit_rate(truth.scores(users))
    assert chance < 0.1 < 2 * chance < popularity < popularity + 0.1 < oracle < 0.95


def test_the_truth_is_a_probability_for_every_user(shop: tuple[sqlite3.Connection, Truth]) -> None:
    _, truth = shop
    scores = truth.scores(np.arange(1_500))
    assert scores.shape == (1_500, 300)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)
    assert np.all(scores >= 0)


def test_what_is_sold_out_at_the_end_has_no_chance(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, truth = shop
    sold_out = np.isin(truth.item_ids, column(database, "SELECT sku FROM products WHERE stock = 0"))
    assert 5 < sold_out.sum() < 60
    assert not truth.demand[:, sold_out].any()


def test_the_queries_of_the_configuration_fit_the_shop(shop: tuple[sqlite3.Connection, Truth]) -> None:
    database, _ = shop
    source = tomllib.loads(sample_config(store_url="sqlite:///own.db", folder="here"))["source"]
    names = {}
    for query in ("interactions", "items", "users"):
        found = database.execute(source[query])
        names[query] = [name for name, *_ in found.description]
        assert found.fetchone() is not None
    assert names["interactions"] == ["user_id", "item_id", "event", "timestamp", "value"]
    assert names["items"] == [
        "item_id",
        *("title", "category", "brand", "price", "available", "image_url", "created_at"),
    ]
    assert names["users"][:2] == ["user_id", "email_consent"]
