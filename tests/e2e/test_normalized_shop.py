"""The shop of many tables in docs/shops.md, read with the configuration that is printed there."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from databases import Databases
from shop_systems.story import fill
from tiny import quiet

from recsys.config.loading import load_config
from recsys.source.dataset import Dataset, load
from recsys.store.migrate import open_store

PAGE = Path(__file__).parents[2] / "docs" / "shops.md"
TABLES = """
CREATE TYPE order_state AS ENUM ('cart', 'placed', 'paid', 'shipped', 'delivered', 'cancelled', 'payment_failed');
CREATE TYPE tracked AS ENUM ('product_view', 'add_to_cart');
CREATE TYPE consent AS ENUM ('opted_in', 'opted_out', 'pending');
CREATE TABLE customers (id uuid PRIMARY KEY, email text, newsletter consent, erased_at timestamptz);
CREATE TABLE products (id bigint PRIMARY KEY, parent_id bigint, price money, stock numeric(10, 2), title jsonb,
  created_at timestamptz, deleted_at timestamptz);
CREATE TABLE attributes (id integer PRIMARY KEY, code text);
CREATE TABLE product_attributes (product_id bigint, attribute_id integer, lang char(2), value text);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id uuid, guest_email text, state order_state, placed_at timestamp,
  is_test boolean);
CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint, product_id bigint, quantity numeric(10, 3),
  unit_price numeric(12, 4));
CREATE TABLE refunds (id bigint PRIMARY KEY, order_line_id bigint, quantity numeric(10, 3), refunded_at timestamptz);
CREATE TABLE tracking (customer_id uuid, product_id bigint, kind tracked, at timestamptz)
"""
ANN, BOB, ERASED = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
GUEST = f"guest-{md5(b'guest@example.org').hexdigest()}"
NOON = datetime(2025, 7, 1, 10, 0, tzinfo=UTC)  # in Berlin, in summer
VARIANTS, GONE = 1000, 4

# customer, guest's address, state, whether a test; then product, quantity, returned
ORDERS: list[tuple[str | None, str | None, str, bool, list[tuple[int, int, int]]]] = [
    (ANN, None, "paid", False, [(1, 1, 0), (VARIANTS + 2, 2, 1)]),
    (ANN, None, "shipped", False, [(3, 2, 2)]),
    (BOB, None, "delivered", False, [(GONE, 1, 0), (2, 1, 0)]),
    (BOB, None, "cancelled", False, [(1, 1, 0)]),
    (BOB, None, "payment_failed", False, [(1, 1, 0)]),
    (BOB, None, "placed", False, [(1, 1, 0)]),
    (BOB, None, "cart", False, [(1, 1, 0)]),
    (BOB, None, "paid", True, [(1, 1, 0)]),
    (ERASED, None, "paid", False, [(1, 1, 0)]),
    (None, "Guest@example.org ", "paid", False, [(1, 1, 0)]),
    (None, "guest@example.org", "paid", False, [(2, 1, 0)]),
    (None, "", "paid", False, [(3, 1, 0)]),
]


def rows() -> dict[str, list[dict[str, Any]]]:
    made: dict[str, list[dict[str, Any]]] = {}

    def add(table: str, **row: Any) -> None:
        made.setdefault(table, []).append(row)

    for customer, newsletter in ((ANN, "opted_in"), (BOB, "pending"), (ERASED, "opted_in")):
        add("customers", id=customer, newsletter=newsletter, erased_at=NOON if customer == ERASED else None)
    for number, code in enumerate(("category", "brand", "color", "weight"), 1):
        add("attributes", id=number, code=code)
    for product in (1, 2, 3, GONE):
        title = json.dumps({"de": f"Größe {product}", "fr": f"Été {product}"})
        gone = NOON if product == GONE else None
        values = {"stock": product - 1, "title": title, "created_at": NOON, "deleted_at": gone}
        add("products", id=product, parent_id=None, price=f"{product}.50", **values)
        add("products", id=VARIANTS + product, parent_id=product, price=None, **values)
        for attribute, lang, value in (
            *((1, "de", "Wohnen > Lampen"), (1, "fr", "Maison > Lampes"), (2, None, "Vento")),
            *((3, "fr", "vert"), (3, "de", "grün"), (4, None, f"{product}.25")),
        ):
            add("product_attributes", product_id=product, attribute_id=attribute, lang=lang, value=value)
    for number, (customer, address, state, is_test, lines) in enumerate(ORDERS, 1):
        local = (NOON + timedelta(hours=2 + number)).replace(tzinfo=None)
        who = {"customer_id": customer, "guest_email": address}
        add("orders", id=number, state=state, placed_at=local, is_test=is_test, **who)
        for at, (product, quantity, returned) in enumerate(lines):
            line = number * 10 + at
            add("order_lines", id=line, order_id=number, product_id=product, quantity=quantity, unit_price=2.5)
            for unit in range(returned):
                add(
                    "refunds", id=line * 10 + unit, order_line_id=line, quantity=1, refunded_at=NOON + timedelta(days=1)
                )
    for customer, product, kind in (
        *((ANN, VARIANTS + 1, "product_view"), (None, 1, "product_view")),
        *((ERASED, 1, "add_to_cart"), (BOB, 3, "add_to_cart")),
    ):
        add("tracking", customer_id=customer, product_id=product, kind=kind, at=NOON)
    return made


@pytest.fixture(scope="module")
def settings(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of the page, with the URL of a database in which there is such a shop."""
    folder = tmp_path_factory.mktemp("normalized")
    found = re.search(r"```toml\n(.*?)```\n\nSaved as `normalized.toml`", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    with databases.fresh("postgresql", folder) as url:
        fill(url, TABLES, rows())
        (folder / "recsys.toml").write_text(found[1].replace("postgresql://reader:secret@localhost/shop", url))
        yield folder / "recsys.toml"


def read(settings: Path) -> Dataset:
    config = load_config(settings, {})
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        return load(config, store, now=store.now(), progress=quiet)


def test_the_events_are_what_was_sold_and_seen(settings: Path) -> None:
    found = read(settings)
    events, hour = found.events, 3_600_000_000
    seen = zip(
        *(found.users.ids_of(events.users), found.catalog.ids.ids_of(events.items)),
        *([found.kinds[code] for code in events.kinds], (events.times // hour - NOON.timestamp() // 3600).astype(int)),
        strict=True,
    )
    assert sorted(seen) == sorted(
        [
            *((ANN, "1", "view", 0), (ANN, "1", "purchase", 1), (ANN, "2", "purchase", 1)),
            *((BOB, "3", "cart", 0), (BOB, "4", "purchase", 3), (BOB, "2", "purchase", 3)),
            *((GUEST, "1", "purchase", 10), (GUEST, "2", "purchase", 11)),
        ]
    )


def test_the_catalog_speaks_one_language_and_has_one_row_for_each_product_on_sale(settings: Path) -> None:
    catalog = read(settings).catalog
    listed = {catalog.ids.id_of(at): row for at, row in enumerate(catalog.columns.to_pylist())}
    assert {identifier: row["title"] for identifier, row in listed.items()} == {
        **{str(product): f"Größe {product}" for product in (1, 2, 3)},
        str(GONE): None,
    }
    assert {key: listed["2"][key] for key in ("price", "available", "category", "brand", "color", "weight")} == {
        **{"price": 2.5, "available": True, "category": "Wohnen > Lampen", "brand": "Vento"},
        **{"color": "grün", "weight": 2.25},
    }
    assert listed["1"]["available"] is False


def test_only_who_has_agreed_is_mailed(settings: Path) -> None:
    found = read(settings)
    assert found.consent is not None
    assert dict(zip(list(found.users), found.consent.to_pylist(), strict=True)) == {ANN: True, BOB: False, GUEST: None}


def test_every_row_counts_or_is_left_out_on_purpose(settings: Path, recsys: Any) -> None:
    report = json.loads(recsys("source", "check", "--json", "--config", str(settings)).stdout)
    assert [found for found in report["findings"] if found["left_out"] and found["severity"] != "note"] == []
    notes = {found["reason"]: found["rows"] for found in report["findings"] if found["severity"] == "note"}
    assert notes["purchase taken back by a return"] == notes["item without catalog row"] == 1
