"""Answers on the command line: what was bought, what is sold out, and what a configuration changed since."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from road import parsed

Run = Callable[..., CompletedProcess[str]]
WEIGHTS = "[events.weights]\nclick = 0.1\nview = 0.2\ncart = 0.5\npurchase = 1.0\n"


def asked(recsys: Run, config: Path, user: str, **environment: str) -> dict[str, Any]:
    done = recsys("recommend", user, "-k", "300", "--config", config, "--json", **environment)
    return dict(parsed(done)[0])


def with_another_kind(shop: Path) -> Path:
    """The configuration with a kind before all others, beside the one that the shop was trained with."""
    other = shop / "other.toml"
    other.write_text((shop / "recsys.toml").read_text() + WEIGHTS)
    return other


def bought_by(shop: Path, user: str) -> set[str]:
    lines = "orders JOIN order_lines ON order_lines.order_id = orders.id WHERE orders.status <> 'cancelled'"
    with sqlite3.connect(shop / "shop.db") as connection:
        return {item for (item,) in connection.execute(f"SELECT sku FROM {lines} AND customer_id = ?", (int(user),))}


def buyer(shop: Path) -> str:
    """Whoever has most orders."""
    with sqlite3.connect(shop / "shop.db") as connection:
        query = "SELECT customer_id FROM orders GROUP BY customer_id ORDER BY count(*) DESC, customer_id LIMIT 1"
        return str(connection.execute(query).fetchone()[0])


def test_what_was_bought_long_ago_is_not_recommended_however_short_the_history(trained_shop: Path, recsys: Run) -> None:
    user = buyer(trained_shop)
    bought = bought_by(trained_shop, user)
    answer = asked(recsys, trained_shop / "recsys.toml", user, RECSYS_EVENTS__HISTORY_LENGTH="1")
    assert len(bought) > 3
    assert not bought & {hit["item_id"] for hit in answer["hits"]}
    assert {event["event"] for event in answer["history"][1:]} <= {"purchase"}


def test_a_bundle_answers_with_its_own_kinds_when_the_configuration_has_others(trained_shop: Path, recsys: Run) -> None:
    user = buyer(trained_shop)
    before = asked(recsys, trained_shop / "recsys.toml", user)
    after = asked(recsys, with_another_kind(trained_shop), user)
    assert after["hits"] == before["hits"]
    assert after["history"] == before["history"]


def test_a_pinned_bundle_answers_from_an_extract_with_other_kinds(trained_shop: Path, recsys: Run) -> None:
    config, user = trained_shop / "recsys.toml", buyer(trained_shop)
    assert recsys("train", "--full", "--config", config).returncode == 0
    assert recsys("rollback", "--config", config).returncode == 0
    before, other = asked(recsys, config, user), with_another_kind(trained_shop)
    assert recsys("train", "--config", other).returncode == 0
    after = asked(recsys, other, user)
    assert after["bundle"] == before["bundle"]
    assert after["history"] == before["history"]
    # The history is some seconds older in the second answer, which may change the last bit of a score.
    assert [hit["item_id"] for hit in after["hits"]] == [hit["item_id"] for hit in before["hits"]]
    scores = [hit["score"] for hit in before["hits"]]
    assert [hit["score"] for hit in after["hits"]] == pytest.approx(scores, rel=1e-5)


def test_what_is_sold_out_is_not_listed_as_similar_unless_it_may_be(trained_shop: Path, recsys: Run) -> None:
    with sqlite3.connect(trained_shop / "shop.db") as connection:
        query = "SELECT sku FROM products WHERE stock <= 0"
        sold_out = {item for (item,) in connection.execute(query)}
        item = connection.execute("SELECT sku FROM products WHERE stock > 0 ORDER BY sku LIMIT 1").fetchone()[0]
    ask, all_of_them = (
        ("similar", item, "-k", "300", "--config", trained_shop / "recsys.toml", "--json"),
        "RECSYS_RECOMMENDATIONS__EXCLUDE_SOLD_OUT",
    )
    listed = {hit["item_id"] for hit in parsed(recsys(*ask))[0]["hits"]}
    every = {hit["item_id"] for hit in parsed(recsys(*ask, **{all_of_them: "false"}))[0]["hits"]}
    assert sold_out
    assert every - listed == sold_out
