"""Magento 2.4: attributes as rows, in scopes of stores; variants and bundles as children of a line."""

import json
from datetime import datetime
from typing import Any

from shop_systems.story import (
    BUNDLE,
    DELETED,
    DRAFT,
    GONE,
    OTHER_DRAFT,
    Buyer,
    Story,
    fill,
    number_of_product,
    number_of_user,
)

CATEGORY = "Wohnen > Lampen"
_VALUE = "(value_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, attribute_id SMALLINT UNSIGNED, "
_VALUE += "store_id SMALLINT UNSIGNED DEFAULT 0, entity_id INT UNSIGNED, value {}, KEY (entity_id))"
TABLES = f"""
CREATE TABLE eav_entity_type (entity_type_id SMALLINT UNSIGNED PRIMARY KEY, entity_type_code VARCHAR(50));
CREATE TABLE eav_attribute (attribute_id SMALLINT UNSIGNED PRIMARY KEY, entity_type_id SMALLINT UNSIGNED,
  attribute_code VARCHAR(255), backend_type VARCHAR(8));
CREATE TABLE eav_attribute_option_value (value_id INT UNSIGNED PRIMARY KEY, option_id INT UNSIGNED,
  store_id SMALLINT UNSIGNED, value VARCHAR(255));
CREATE TABLE catalog_product_entity (entity_id INT UNSIGNED PRIMARY KEY, attribute_set_id SMALLINT UNSIGNED,
  type_id VARCHAR(32), sku VARCHAR(64), created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL);
CREATE TABLE catalog_product_entity_varchar {_VALUE.format("VARCHAR(255)")};
CREATE TABLE catalog_product_entity_int {_VALUE.format("INT")};
CREATE TABLE catalog_product_entity_decimal {_VALUE.format("DECIMAL(20,6)")};
CREATE TABLE catalog_category_entity_varchar {_VALUE.format("VARCHAR(255)")};
CREATE TABLE catalog_category_entity (entity_id INT UNSIGNED PRIMARY KEY, parent_id INT UNSIGNED, path VARCHAR(255),
  level INT);
CREATE TABLE catalog_category_product (entity_id INT AUTO_INCREMENT PRIMARY KEY, category_id INT UNSIGNED,
  product_id INT UNSIGNED, KEY (product_id));
CREATE TABLE catalog_product_website (product_id INT UNSIGNED, website_id SMALLINT UNSIGNED,
  PRIMARY KEY (product_id, website_id));
CREATE TABLE catalog_product_index_price (entity_id INT UNSIGNED, customer_group_id INT UNSIGNED,
  website_id SMALLINT UNSIGNED, tax_class_id SMALLINT UNSIGNED, price DECIMAL(20,6), final_price DECIMAL(20,6),
  min_price DECIMAL(20,6), max_price DECIMAL(20,6), PRIMARY KEY (entity_id, customer_group_id, website_id));
CREATE TABLE cataloginventory_stock_status (product_id INT UNSIGNED, website_id SMALLINT UNSIGNED,
  stock_id SMALLINT UNSIGNED, qty DECIMAL(12,4), stock_status SMALLINT UNSIGNED, PRIMARY KEY (product_id, website_id));
CREATE TABLE core_config_data (config_id INT UNSIGNED PRIMARY KEY, scope VARCHAR(8), scope_id INT, path VARCHAR(255),
  value TEXT);
CREATE TABLE customer_entity (entity_id INT UNSIGNED PRIMARY KEY, website_id SMALLINT UNSIGNED, email VARCHAR(255),
  is_active SMALLINT UNSIGNED DEFAULT 1);
CREATE TABLE newsletter_subscriber (subscriber_id INT UNSIGNED PRIMARY KEY, store_id SMALLINT UNSIGNED,
  customer_id INT UNSIGNED, subscriber_email VARCHAR(150), subscriber_status INT, KEY (customer_id));
CREATE TABLE sales_order (entity_id INT UNSIGNED PRIMARY KEY, state VARCHAR(32), status VARCHAR(32),
  store_id SMALLINT UNSIGNED, customer_id INT UNSIGNED, customer_is_guest SMALLINT UNSIGNED,
  customer_email VARCHAR(128), created_at TIMESTAMP NULL);
CREATE TABLE sales_order_item (item_id INT UNSIGNED PRIMARY KEY, order_id INT UNSIGNED, parent_item_id INT UNSIGNED,
  product_id INT UNSIGNED, product_type VARCHAR(255), product_options LONGTEXT,
  qty_canceled DECIMAL(12,4), qty_ordered DECIMAL(12,4), qty_refunded DECIMAL(12,4),
  base_row_total_incl_tax DECIMAL(20,4), base_discount_amount DECIMAL(20,4),
  KEY (order_id));
CREATE TABLE sales_creditmemo (entity_id INT UNSIGNED PRIMARY KEY, order_id INT UNSIGNED, state INT,
  created_at TIMESTAMP NULL);
CREATE TABLE sales_creditmemo_item (entity_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, parent_id INT UNSIGNED,
  qty DECIMAL(12,4), product_id INT, order_item_id INT, KEY (order_item_id));
"""
STATES = {"complete": "complete", "cancelled": "canceled", "failed": "pending_payment", "draft": "payment_review"}
NAME, STATUS, VISIBILITY, PRICE, BRAND, IMAGE, CATEGORY_NAME = 73, 97, 99, 77, 83, 87, 45

_Row = dict[str, Any]
user_id, product_id = number_of_user, number_of_product


def consent(buyer: Buyer) -> bool | None:
    return buyer.consent and buyer.number != 4  # who has unsubscribed in one store


def build(url: str, story: Story) -> None:
    """Tell the story to an empty database."""
    rows: dict[str, list[_Row]] = {}

    def add(table: str, **row: Any) -> None:
        rows.setdefault(table, []).append(row)

    _add_attributes(add)
    for product in story.products.values():
        _add_product(add, product.number, product)
    _add_customers(add, story)
    _add_orders(add, story)
    fill(url, TABLES, rows)


def _add_attributes(add: Any) -> None:
    add("eav_entity_type", entity_type_id=3, entity_type_code="catalog_category")
    add("eav_entity_type", entity_type_id=4, entity_type_code="catalog_product")
    names = {NAME: "name", STATUS: "status", VISIBILITY: "visibility", PRICE: "price", BRAND: "manufacturer"}
    for number, code in {**names, IMAGE: "image"}.items():
        add("eav_attribute", attribute_id=number, entity_type_id=4, attribute_code=code)
    add("eav_attribute", attribute_id=CATEGORY_NAME, entity_type_id=3, attribute_code="name")
    add("eav_attribute_option_value", value_id=1, option_id=7, store_id=0, value="Vento")
    add("eav_attribute_option_value", value_id=2, option_id=7, store_id=1, value="Wind")
    for number, parent, level, name in (
        (1, 0, 0, "Root"),
        (2, 1, 1, "Default"),
        (3, 2, 2, "Wohnen"),
        (4, 3, 3, "Lampen"),
    ):
        add("catalog_category_entity", entity_id=number, parent_id=parent, path="", level=level)
        for store, given in ((0, name), (1, f"{name} (store 1)")):
            value = {"attribute_id": CATEGORY_NAME, "store_id": store, "entity_id": number, "value": given}
            add("catalog_category_entity_varchar", **value)
    for number, scope, address in ((1, "default", "https://shop.example/"), (2, "stores", "https://other.example/")):
        add("core_config_data", config_id=number, scope=scope, scope_id=0, path="web/secure/base_url", value=address)


def _add_product(add: Any, number: int, product: Any) -> None:
    when = datetime(2024, 1, 1)
    is_variant = number != product.number
    kind = "bundle" if number == BUNDLE else "simple" if is_variant else "configurable"
    add("catalog_product_entity", entity_id=number, type_id=kind, sku=f"S{number}", created_at=when)

    def value(kind: str, attribute: int, given: Any, store: int = 0) -> None:
        row = {"attribute_id": attribute, "store_id": store, "entity_id": number, "value": given}
        add(f"catalog_product_entity_{kind}", **row)

    value("varchar", NAME, product.title)
    value("varchar", NAME, product.foreign_title, store=1)
    value("varchar", IMAGE, f"/l/a/{number}.jpg")
    value("int", STATUS, 2 if number == DRAFT else 1)
    value("int", STATUS, 2, store=1)
    value("int", VISIBILITY, 1 if is_variant or product.is_hidden else 4)
    value("int", VISIBILITY, 4, store=1)
    value("int", BRAND, 7)
    value("int", BRAND, 8, store=1)
    value("decimal", PRICE, 2.0, store=1)
    value("decimal", PRICE, 1.0)
    if number != OTHER_DRAFT:
        add("catalog_product_website", product_id=number, website_id=1)
    add("catalog_category_product", category_id=3, product_id=number)
    add("catalog_category_product", category_id=4, product_id=number)
    for group, price in ((0, product.price), (1, product.price - 1)):
        index = {"website_id": 1, "price": 0, "final_price": 0, "min_price": price, "max_price": price + 5}
        add("catalog_product_index_price", entity_id=number, customer_group_id=group, **index)
    stock = {"website_id": 0, "stock_id": 1, "qty": product.stock, "stock_status": int(product.stock > 0)}
    add("cataloginventory_stock_status", product_id=number, **stock)
    if not is_variant:
        for variant in product.variants:
            _add_product(add, variant, product)


def _add_customers(add: Any, story: Story) -> None:
    for buyer in story.buyers.values():
        if buyer.is_guest or buyer.number == DELETED:
            continue
        is_active = int(not buyer.is_deleted)
        add("customer_entity", entity_id=buyer.number, website_id=1, email=buyer.email, is_active=is_active)
        row = {"customer_id": buyer.number, "subscriber_email": buyer.email}
        status = 1 if buyer.consent else 2
        add("newsletter_subscriber", subscriber_id=buyer.number, store_id=1, subscriber_status=status, **row)
    row = {"customer_id": 4, "subscriber_email": story.buyers[4].email}
    add("newsletter_subscriber", subscriber_id=999, store_id=2, subscriber_status=3, **row)


def _add_orders(add: Any, story: Story) -> None:
    for order in story.orders:
        buyer, state = order.buyer, STATES[order.state]
        # The customer's number is set to NULL when the customer is deleted; the guest's mark stays 0.
        number = None if buyer.is_guest or buyer.is_deleted else buyer.number
        who = {"customer_id": number, "customer_is_guest": int(buyer.is_guest), "customer_email": buyer.email}
        when = order.time.replace(tzinfo=None)
        add("sales_order", entity_id=order.number, state=state, status=state, store_id=1, created_at=when, **who)
    for at, order, line in story.lines():
        kind = "bundle" if line.parts else "configurable"
        if not line.parts and at % 3 == 0:  # a member of a group of this number
            group = {"product_type": "grouped", "product_id": str(line.product)}
            member = story.products[line.product].variants[0] if line.product != GONE else 31337
            options = json.dumps({"info_buyRequest": {}, "super_product_config": group})
            _add_line(
                add, at * 10, order.number, None, member, "grouped", line.quantity, line.returned, options=options
            )
        else:
            _add_line(add, at * 10, order.number, None, line.product, kind, line.quantity, line.returned)
        children = line.parts or (() if line.product == GONE else (story.products[line.product].variants[at % 2],))
        for child_at, child in enumerate(children, 1):
            _add_line(add, at * 10 + child_at, order.number, at * 10, child, "simple", line.quantity, line.returned)
        for unit in range(line.returned):  # each unit has a credit note of its own
            when = order.returned_at.replace(tzinfo=None)
            add("sales_creditmemo", entity_id=at * 10 + unit, order_id=order.number, state=2, created_at=when)
            memo = {"parent_id": at * 10 + unit, "product_id": line.product, "order_item_id": at * 10}
            add("sales_creditmemo_item", qty=1, **memo)
    # A line that was cancelled in an order that was not. An order of a guest without an address.
    add(
        "sales_order",
        entity_id=90_001,
        state="complete",
        status="complete",
        store_id=1,
        created_at=story.orders[0].time.replace(tzinfo=None),
        customer_id=None,
        customer_is_guest=1,
        customer_email="",
    )
    _add_line(add, 99_999_998, 90_001, None, 6, "simple", 1, 0)
    _add_line(add, 99_999_999, 1, None, 6, "simple", 2, 0, canceled=2)


def _add_line(
    add: Any, number: int, order: int, parent: int | None, product: int, kind: str, quantity: int, refunded: int,
    canceled: int = 0, options: str = 'a:1:{s:15:"info_buyRequest";a:0:{}}',
) -> None:  # fmt: skip
    quantities = {"qty_ordered": quantity, "qty_refunded": refunded, "qty_canceled": canceled}
    amounts = {"base_row_total_incl_tax": 12 * quantity, "base_discount_amount": 1}
    row = {"order_id": order, "parent_item_id": parent, "product_id": product, "product_type": kind}
    row["product_options"] = options  # as PHP writes it, before 2.2
    add("sales_order_item", item_id=number, **row, **quantities, **amounts)
