"""A return takes a purchase back: in what is read, in what is posted, and in what was imported."""

from pathlib import Path

import pytest
from shops import DAY, NOW, SECONDS, Shop, check, events_of, found, load, own_events
from tiny import quiet

from recsys.config.settings import Config
from recsys.source.importer import import_files
from recsys.store.database import Store
from recsys.store.events import insert_events

HOUR = 3600
BOUGHT = [
    ("a", "x", "purchase", SECONDS - 3 * HOUR, 10.0),
    ("a", "y", "purchase", SECONDS - 3 * HOUR, 10.0),
    ("b", "x", "purchase", SECONDS - 3 * HOUR, 10.0),
    ("b", "z", "view", SECONDS - 4 * HOUR, None),
]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def pairs(config: Config, store: Store) -> list[tuple[str, str, str]]:
    return [event[:3] for event in events_of(load(config, store))]


def test_a_purchase_that_was_returned_is_no_event_and_the_check_tells_so(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", BOUGHT)
    shop.add("events", [("b", "x", "return", SECONDS - HOUR, 10.0), ("b", "y", "return", SECONDS - HOUR, 10.0)])
    assert pairs(shop.config(), sqlite_store) == [("a", "x", "purchase"), ("a", "y", "purchase"), ("b", "z", "view")]
    report = check(shop.config(), sqlite_store)
    assert found(report, "purchase taken back by a return").rows == 1
    assert all(error.is_of_evaluation for error in report.errors)
    assert (found(report, "return without an earlier purchase").rows, report.counts["events"]) == (1, 3)
    assert report.kinds["return"] == {"kind": "return", "rows": 2}


def test_the_shop_has_words_of_its_own_for_returns(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", BOUGHT)
    shop.add("events", [("a", "x", "refund", SECONDS - HOUR, None), ("b", "x", "Gutschrift", SECONDS - HOUR, None)])
    config = shop.config({"returns": ["refund"], "aliases": {"Gutschrift": "refund"}})
    assert pairs(config, sqlite_store) == [("a", "y", "purchase"), ("b", "z", "view")]
    refused = check(shop.config({"returns": []}), sqlite_store)
    assert [error.reason for error in refused.errors if not error.is_of_evaluation] == ["unknown kind"]


def test_a_return_that_was_posted_counts_unless_the_shop_delivers_returns(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", BOUGHT)
    insert_events(sqlite_store, own_events([("a", "x", "return", NOW - DAY), ("a", "y", "return", NOW)]))
    kept = [("a", "x", "purchase"), ("b", "z", "view"), ("b", "x", "purchase")]
    assert pairs(shop.config(), sqlite_store) == kept  # the first return came before the purchase
    shop.add("events", [("b", "x", "return", SECONDS, None)])
    assert ("a", "y", "purchase") in pairs(shop.config(), sqlite_store)
    assert pairs(shop.config({"own_kinds": ["return"]}), sqlite_store) == [("a", "x", "purchase"), ("b", "z", "view")]


def test_returns_of_a_file_are_kept_as_events_and_take_back_at_the_next_reading(
    tmp_path: Path, sqlite_store: Store
) -> None:
    rows = [",".join(map(str, row[:4])) for row in BOUGHT] + [f"b,x,retoure,{SECONDS}"]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,event,timestamp", *rows]), encoding="utf-8")
    config = Config.model_validate({"events": {"aliases": {"retoure": "return"}}})
    import_files(config, sqlite_store, [tmp_path / "events.csv"], progress=quiet)
    expected = [("a", "x", "purchase"), ("a", "y", "purchase"), ("b", "z", "view")]
    assert pairs(config, sqlite_store) == expected


def test_a_shop_whose_own_kind_is_called_return_keeps_it(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", BOUGHT)
    shop.add("events", [("a", "x", "return", SECONDS - HOUR, None)])
    kept = shop.config({"weights": {"view": 0.2, "return": 0.1, "purchase": 1.0}})
    assert ("a", "x", "return") in pairs(kept, sqlite_store)
    assert ("a", "x", "purchase") in pairs(kept, sqlite_store)
    assert ("a", "x", "view") in pairs(shop.config({"aliases": {"return": "view"}}), sqlite_store)
    with pytest.raises(ValueError, match=r"\[events\] returns return: is a kind or an alias too; allowed is one"):
        shop.config({"weights": {"return": 0.1, "purchase": 1.0}, "returns": ["return"]})
