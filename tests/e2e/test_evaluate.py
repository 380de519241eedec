"""Judging without publishing: on the last days, and on a file of held-out events."""

import csv
import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from road import parsed
from tiny import quiet

from jobs.evaluate_box import evaluate as evaluate_box
from recsys.config.loading import load_config

Run = Callable[..., CompletedProcess[str]]
LISTED, LEFT_OUT = "everything listed", "bought before left out"


def written(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id"), *rows])
    return path


def purchases(shop: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(shop / "shop.db") as connection:
        lines = "orders JOIN order_lines ON order_lines.order_id = orders.id WHERE orders.status <> 'cancelled'"
        return [(str(user), item) for user, item in connection.execute(f"SELECT customer_id, sku FROM {lines}")]


def test_a_file_is_judged_with_and_without_what_was_bought_before(shop: Path, recsys: Run) -> None:
    bought = purchases(shop)
    holdout = written(shop / "held.csv", bought)
    found = parsed(recsys("evaluate", "--holdout", holdout, "--config", shop / "recsys.toml", "--json"))
    assert list(found["models"]) == ["popularity", "mf"]
    assert found["rows"] == len(bought)
    for rows in found["models"].values():
        assert rows[LISTED]["users"] == len({user for user, _ in bought})
        assert rows[LISTED]["recall@20"] > 0
        assert rows[LEFT_OUT]["recall@20"] == 0  # every target is something that the user has bought
    assert found["models"]["mf"][LISTED]["recall@20"] > 1.5 * found["models"]["popularity"][LISTED]["recall@20"]
    assert not (shop / "recsys-data" / "bundles").exists()


def test_users_and_items_that_nobody_knows_count_as_missed(shop: Path, recsys: Run) -> None:
    known = purchases(shop)[:50]
    config = shop / "recsys.toml"
    users = {user for user, _ in known}
    alone = parsed(recsys("evaluate", "--holdout", written(shop / "a.csv", known), "--config", config, "--json"))
    strangers = [(f"nobody-{at}", "P-none") for at in range(len(users))]
    mixed = written(shop / "b.csv", known + strangers)
    beside = parsed(recsys("evaluate", "--holdout", mixed, "--config", config, "--json"))
    for name, rows in beside["models"].items():
        assert rows[LISTED]["users"] == 2 * len(users)
        assert abs(2 * rows[LISTED]["recall@20"] - alone["models"][name][LISTED]["recall@20"]) < 1e-9


def test_rows_with_a_blank_are_counted_and_shown(shop: Path, recsys: Run) -> None:
    blank = [("", "P00001"), ("1001", ""), ("", "")]
    held = written(shop / "held.csv", [*purchases(shop)[:20], *blank])
    done = recsys("evaluate", "--holdout", held, "--config", shop / "recsys.toml", "--json")
    assert (parsed(done)["rows"], parsed(done)["left_out"]) == (20, 3)
    done = recsys("evaluate", "--holdout", held, "--config", shop / "recsys.toml")
    assert "20 rows held out, 3 without user_id or item_id left out" in done.stdout


def test_a_file_without_the_columns_is_refused_by_name(shop: Path, recsys: Run) -> None:
    (shop / "held.csv").write_text("customer,item_id\n1001,P1\n")
    done = recsys("evaluate", "--holdout", shop / "held.csv", "--config", shop / "recsys.toml")
    assert done.returncode == 1
    assert "lacks user_id; found: customer, item_id" in done.stderr


def test_the_last_days_are_judged_as_a_night_would(shop: Path, recsys: Run) -> None:
    found = parsed(recsys("evaluate", "--config", shop / "recsys.toml", "--json"))
    assert set(found["models"]["mf"]) == {"all", "new_users", "cold_items"}
    assert found["models"]["mf"]["all"]["ndcg@20"] > found["models"]["popularity"]["all"]["ndcg@20"]
    runs = parsed(recsys("runs", "--config", shop / "recsys.toml", "--json"))
    assert [(run["job"], run["status"]) for run in runs] == [("evaluate", "done")]


def test_a_box_is_evaluated_beside_the_plain_ones_of_its_kind(shop: Path, recsys: Run) -> None:
    output = evaluate_box(load_config(shop / "recsys.toml", {}), box="bestsellers", progress=quiet)
    found = output.data
    assert (found["box"], list(found["ways"])) == ("bestsellers", ["bestsellers", "popular", "trending"])
    assert all(way["ndcg@20"] > 0.7 for way in found["ways"].values())
    assert set(found["differences"]) == {"popular", "trending"}
    said = [str(part) for part in output.parts]
    assert any(part.startswith("bestsellers is not told apart from trending (NDCG@20 +0.") for part in said)
    chosen = found["chosen"]
    assert {name: facts["way"] for name, facts in chosen.items()} == dict.fromkeys(chosen, "bestsellers")
    ranked = f"trending ranks as bestsellers of {chosen['trending']['window_days']} days: NDCG@20 0."
    assert any(part.startswith(ranked) and " weeks before, trending of " in part for part in said)
    wrong = recsys("evaluate", "--box", "trendin", "--config", shop / "recsys.toml")
    assert (wrong.returncode, "allowed are for_you" in wrong.stderr) == (2, True)
    both = recsys("evaluate", "--box", "trending", "--holdout", "x.csv", "--config", shop / "recsys.toml")
    assert both.returncode == 2
    assert not (shop / "recsys-data" / "bundles").exists()
