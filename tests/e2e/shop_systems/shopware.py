"""Shopware 6: binary ids, versions of everything, states in a machine, names by language."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from shop_systems.story import DELETED, DRAFT, GONE, HIDDEN, OTHER_DRAFT, Buyer, Story, fill, guest_id

CATEGORY = "Wohnen > Lampen"
_ID, _TIMES = "id BINARY(16) NOT NULL", "created_at DATETIME(3), updated_at DATETIME(3)"
TABLES = f"""
CREATE TABLE state_machine_state ({_ID} PRIMARY KEY, technical_name VARCHAR(255), state_machine_id BINARY(16));
CREATE TABLE customer ({_ID} PRIMARY KEY, email VARCHAR(254), guest TINYINT(1), active TINYINT(1));
CREATE TABLE newsletter_recipient ({_ID} PRIMARY KEY, email VARCHAR(255), status VARCHAR(255),
  sales_channel_id BINARY(16), KEY (email));
CREATE TABLE sales_channel_domain ({_ID} PRIMARY KEY, url VARCHAR(255), sales_channel_id BINARY(16));
CREATE TABLE `order` ({_ID}, version_id BINARY(16), order_number VARCHAR(64), sales_channel_id BINARY(16),
  currency_factor DOUBLE, state_id BINARY(16), order_date_time DATETIME(3), PRIMARY KEY (id, version_id));
CREATE TABLE order_customer ({_ID}, version_id BINARY(16), customer_id BINARY(16), order_id BINARY(16),
  order_version_id BINARY(16), email VARCHAR(254), PRIMARY KEY (id, version_id), KEY (order_id));
CREATE TABLE order_transaction ({_ID}, version_id BINARY(16), order_id BINARY(16), order_version_id BINARY(16),
  state_id BINARY(16), {_TIMES}, PRIMARY KEY (id, version_id), KEY (order_id));
CREATE TABLE order_line_item ({_ID}, version_id BINARY(16), order_id BINARY(16), order_version_id BINARY(16),
  parent_id BINARY(16), product_id BINARY(16), referenced_id VARCHAR(255), type VARCHAR(255), quantity INT,
  payload JSON, price JSON, total_price DOUBLE AS (JSON_VALUE(price, '$.totalPrice')) VIRTUAL,
  PRIMARY KEY (id, version_id), KEY (order_id));
CREATE TABLE product ({_ID}, version_id BINARY(16), parent_id BINARY(16), product_manufacturer_id BINARY(16),
  product_media_id BINARY(16), active TINYINT UNSIGNED, available TINYINT(1), stock INT, price JSON, {_TIMES},
  PRIMARY KEY (id, version_id), KEY (parent_id));
CREATE TABLE product_translation (product_id BINARY(16), product_version_id BINARY(16), language_id BINARY(16),
  name VARCHAR(255), PRIMARY KEY (product_id, product_version_id, language_id));
CREATE TABLE product_manufacturer_translation (product_manufacturer_id BINARY(16),
  product_manufacturer_version_id BINARY(16), language_id BINARY(16), name VARCHAR(255));
CREATE TABLE product_visibility ({_ID} PRIMARY KEY, product_id BINARY(16), product_version_id BINARY(16),
  sales_channel_id BINARY(16), visibility INT, KEY (product_id));
CREATE TABLE product_media ({_ID}, version_id BINARY(16), media_id BINARY(16), PRIMARY KEY (id, version_id));
CREATE TABLE media ({_ID} PRIMARY KEY, path VARCHAR(2048));
CREATE TABLE category ({_ID}, version_id BINARY(16), parent_id BINARY(16), level INT UNSIGNED,
  PRIMARY KEY (id, version_id));
CREATE TABLE category_translation (category_id BINARY(16), category_version_id BINARY(16), language_id BINARY(16),
  name VARCHAR(255));
CREATE TABLE product_category (product_id BINARY(16), product_version_id BINARY(16), category_id BINARY(16),
  category_version_id BINARY(16), PRIMARY KEY (product_id, product_version_id, category_id, category_version_id));
"""
LIVE, CURRENCY = bytes.fromhex("0fa91ce3e96a4bc2be4bd9ce752c3425"), "b7d2554b0ce847cd82f3ac9bd1c0dfca"
GERMAN, ENGLISH = bytes.fromhex("2fbb5fe2e29a4d70aa5854ce7ce3e20b"), hashlib.md5(b"english").digest()

_Row = dict[str, Any]


def _id(of: str, number: Any = 0) -> bytes:
    return hashlib.md5(f"{of} {number}".encode()).digest()


def user_id(story: Story, number: int) -> str:
    buyer = story.buyers[number]
    return guest_id(buyer.email) if buyer.is_guest else _id("customer", number).hex()


def product_id(number: int) -> str:
    return _id("product", number).hex()


def consent(buyer: Buyer) -> bool | None:
    return buyer.consent and buyer.number != 4  # who has unsubscribed from one sales channel


def build(url: str, story: Story) -> None:
    """Tell the story to an empty database."""
    rows: dict[str, list[_Row]] = {}

    def add(table: str, **row: Any) -> None:
        rows.setdefault(table, []).append(row)

    for name in ("open", "completed", "cancelled", "paid", "failed", "refunded", "unconfirmed"):
        add("state_machine_state", id=_id("state", name), technical_name=name)
    add("sales_channel_domain", id=_id("domain"), url="https://shop.example")
    _add_categories(add)
    for product in story.products.values():
        _add_product(add, product)
    _add_customers(add, story)
    _add_orders(add, story)
    fill(url, TABLES, rows)


def _add_categories(add: Any) -> None:
    for number, parent, level, name in ((1, None, 1, "Katalog"), (2, 1, 2, "Wohnen"), (3, 2, 3, "Lampen")):
        above = None if parent is None else _id("category", parent)
        add("category", id=_id("category", number), version_id=LIVE, parent_id=above, level=level)
        for language, given in ((ENGLISH, f"{name} in English"), (GERMAN, name)):
            row = {"category_version_id": LIVE, "language_id": language, "name": given}
            add("category_translation", category_id=_id("category", number), **row)
    for language, name in ((ENGLISH, "Wind"), (GERMAN, "Vento")):
        row = {"product_manufacturer_version_id": LIVE, "language_id": language, "name": name}
        add("product_manufacturer_translation", product_manufacturer_id=_id("maker"), **row)


def _add_product(add: Any, product: Any) -> None:
    number, identifier, when = product.number, _id("product", product.number), datetime(2024, 1, 1)
    price = {f"c{CURRENCY}": {"net": 1.0, "gross": product.price, "linked": True, "currencyId": CURRENCY}}
    add("media", id=_id("media", number), path=f"media/{number}.jpg")
    add("product_media", id=_id("cover", number), version_id=LIVE, media_id=_id("media", number))
    row = {"product_manufacturer_id": _id("maker"), "product_media_id": _id("cover", number), "created_at": when}
    row |= {"stock": product.stock, "parent_id": None, "price": json.dumps(price)}
    # With variants what counts is whether one of them is there. A draft version is an edit that nobody has saved.
    add("product", id=identifier, version_id=LIVE, active=int(number != DRAFT), available=0, **row)
    add("product", id=identifier, version_id=_id("edit"), active=1, available=1, **row)
    for at, variant in enumerate(product.variants):
        own = {"parent_id": identifier, "price": None, "product_manufacturer_id": None, "product_media_id": None}
        # One variant inherits that the product is active; the other, which nobody can buy, is not.
        values = {**row, **own, "active": None if at == 0 else 0, "available": int(product.stock > 0 or at == 1)}
        add("product", id=_id("product", variant), version_id=LIVE, **values)
    for language, name in ((GERMAN, product.title), (ENGLISH, product.foreign_title)):
        add("product_translation", product_id=identifier, product_version_id=LIVE, language_id=language, name=name)
    for category in (2, 3):
        row = {"category_id": _id("category", category), "category_version_id": LIVE}
        add("product_category", product_id=identifier, product_version_id=LIVE, **row)
    row = {"product_version_id": _id("edit"), "language_id": GERMAN, "name": "An edit"}
    add("product_translation", product_id=identifier, **row)
    if not product.is_hidden and number != OTHER_DRAFT:
        row = {"product_version_id": LIVE, "visibility": 30}
        add("product_visibility", id=_id("visible", number), product_id=identifier, **row)


def _add_customers(add: Any, story: Story) -> None:
    for buyer in story.buyers.values():
        if buyer.number != DELETED:
            row = {"email": buyer.email.strip(), "guest": int(buyer.is_guest), "active": int(not buyer.is_deleted)}
            add("customer", id=_id("customer", buyer.number), **row)
            status = "optIn" if buyer.consent else "notSet"
            add("newsletter_recipient", id=_id("news", buyer.number), email=buyer.email.strip(), status=status)
    add("newsletter_recipient", id=_id("news", 999), email=story.buyers[4].email, status="optOut")


def _add_orders(add: Any, story: Story) -> None:
    for order in story.orders:
        buyer, number = order.buyer, order.number
        who = None if buyer.is_deleted else _id("customer", buyer.number)
        when = order.time.replace(tzinfo=None)
        is_refunded = any(line.returned == line.quantity for line in order.lines)
        states = {"failed": ("open", "failed"), "draft": ("open", "unconfirmed")}.get(order.state, ("paid",))
        states = ("paid", "refunded") if is_refunded else ("failed", "paid") if number == 1 else states
        is_open = "cancelled" if order.state == "cancelled" else "completed"
        _add_order(add, number, LIVE, who, buyer.email, is_open, when)
        for at, state in enumerate(states):
            row = {"order_id": _id("order", number), "order_version_id": LIVE, "state_id": _id("state", state)}
            row |= {"created_at": when + timedelta(seconds=at), "updated_at": order.returned_at.replace(tzinfo=None)}
            add("order_transaction", id=_id("payment", f"{number} {at}"), version_id=LIVE, **row)
    for at, order, line in story.lines():
        gone, product = line.product in (GONE, HIDDEN), story.products.get(line.product)
        number = (
            line.product if product is None or line.parts or (at % 2 and not gone) else product.variants[at % 4 // 2]
        )
        # A deleted product leaves its id in referenced_id, and a deleted variant its parent in the payload.
        parent = None if number == line.product else _id("product", line.product).hex()
        _add_line(add, at * 10, order.number, number, line.quantity, is_gone=gone, parent=parent)
        for part_at, part in enumerate(line.parts, 1):
            _add_line(add, at * 10 + part_at, order.number, part, 1, inside=at * 10)
    first = story.orders[0]
    # A copy of an order that is being edited, and a voucher.
    when = first.time.replace(tzinfo=None)
    _add_order(add, first.number, _id("edit"), _id("customer", 5), "", "open", when)
    _add_line(add, 90_001, first.number, 6, 1, version=_id("edit"))
    _add_line(add, 90_002, first.number, 6, 1, kind="promotion")


def _add_order(add: Any, number: int, version: bytes, who: bytes | None, email: str, state: str, when: Any) -> None:
    row = {"currency_factor": 2.0, "state_id": _id("state", state), "order_date_time": when}
    add("order", id=_id("order", number), version_id=version, order_number=str(number), **row)
    row = {"customer_id": who, "order_id": _id("order", number), "order_version_id": version, "email": email}
    add("order_customer", id=_id("order customer", number), version_id=version, **row)


def _add_line(
    add: Any, number: int, order: int, product: int, quantity: int, *, is_gone: bool = False, parent: str | None = None,
    inside: int | None = None, version: bytes = LIVE, kind: str = "product",
) -> None:  # fmt: skip
    identifier = _id("product", product)
    row = {"order_id": _id("order", order), "order_version_id": version, "type": kind, "quantity": quantity}
    row |= {"parent_id": None if inside is None else _id("line", inside), "product_id": None if is_gone else identifier}
    row |= {"referenced_id": identifier.hex(), "payload": json.dumps({"parentId": parent})}
    price = json.dumps({"totalPrice": 12.0 * quantity})
    add("order_line_item", id=_id("line", number), version_id=version, price=price, **row)
