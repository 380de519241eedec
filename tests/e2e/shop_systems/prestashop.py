"""PrestaShop 8: times in the shop's own zone, names by language and shop, prices without tax."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from shop_systems.story import (
    BLOCKED,
    DELETED,
    DRAFT,
    OTHER_DRAFT,
    Buyer,
    Order,
    Story,
    fill,
    number_of_product,
    number_of_user,
)

CATEGORY, ZONE = "Wohnen > Lampen", "America/New_York"
TABLES = """
CREATE TABLE ps_configuration (id_configuration INT UNSIGNED PRIMARY KEY, id_shop_group INT UNSIGNED,
  id_shop INT UNSIGNED, name VARCHAR(254), value TEXT);
CREATE TABLE ps_customer (id_customer INT UNSIGNED PRIMARY KEY, id_shop INT UNSIGNED DEFAULT 1, email VARCHAR(128),
  newsletter TINYINT(1) UNSIGNED DEFAULT 0, optin TINYINT(1) UNSIGNED DEFAULT 0, active TINYINT(1) UNSIGNED DEFAULT 1,
  is_guest TINYINT(1) DEFAULT 0, deleted TINYINT(1) DEFAULT 0);
CREATE TABLE ps_order_state (id_order_state INT UNSIGNED PRIMARY KEY, logable TINYINT(1), paid TINYINT(1) UNSIGNED);
CREATE TABLE ps_orders (id_order INT UNSIGNED PRIMARY KEY, id_shop INT UNSIGNED DEFAULT 1, id_customer INT UNSIGNED,
  current_state INT UNSIGNED, conversion_rate DECIMAL(13,6) DEFAULT 1, valid INT(1) UNSIGNED, date_add DATETIME,
  date_upd DATETIME);
CREATE TABLE ps_order_detail (id_order_detail INT UNSIGNED PRIMARY KEY, id_order INT UNSIGNED, product_id INT UNSIGNED,
  product_attribute_id INT UNSIGNED, product_quantity INT UNSIGNED, product_quantity_refunded INT UNSIGNED,
  product_quantity_return INT UNSIGNED, total_price_tax_incl DECIMAL(20,6), KEY (id_order));
CREATE TABLE ps_order_slip (id_order_slip INT UNSIGNED PRIMARY KEY, id_order INT UNSIGNED, date_add DATETIME);
CREATE TABLE ps_order_slip_detail (id_order_slip INT UNSIGNED, id_order_detail INT UNSIGNED,
  product_quantity INT UNSIGNED, PRIMARY KEY (id_order_slip, id_order_detail), KEY (id_order_detail));
CREATE TABLE ps_product (id_product INT UNSIGNED PRIMARY KEY, id_manufacturer INT UNSIGNED,
  id_shop_default INT UNSIGNED DEFAULT 1, price DECIMAL(20,6), active TINYINT(1) UNSIGNED, state INT(11) UNSIGNED,
  date_add DATETIME);
CREATE TABLE ps_product_shop (id_product INT UNSIGNED, id_shop INT UNSIGNED, id_category_default INT UNSIGNED,
  id_tax_rules_group INT UNSIGNED, price DECIMAL(20,6), active TINYINT(1) UNSIGNED, available_for_order TINYINT(1),
  visibility ENUM('both', 'catalog', 'search', 'none'), PRIMARY KEY (id_product, id_shop));
CREATE TABLE ps_product_lang (id_product INT UNSIGNED, id_shop INT UNSIGNED, id_lang INT UNSIGNED, name VARCHAR(128),
  link_rewrite VARCHAR(128), PRIMARY KEY (id_product, id_shop, id_lang));
CREATE TABLE ps_product_attribute_shop (id_product INT UNSIGNED, id_product_attribute INT UNSIGNED,
  id_shop INT UNSIGNED, price DECIMAL(20,6), default_on TINYINT(1) UNSIGNED NULL,
  PRIMARY KEY (id_product_attribute, id_shop), KEY (id_product));
CREATE TABLE ps_stock_available (id_stock_available INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, id_product INT UNSIGNED,
  id_product_attribute INT UNSIGNED, id_shop INT UNSIGNED, quantity INT, out_of_stock TINYINT(1) UNSIGNED,
  KEY (id_product));
CREATE TABLE ps_category (id_category INT UNSIGNED PRIMARY KEY, id_parent INT UNSIGNED, level_depth TINYINT UNSIGNED);
CREATE TABLE ps_category_lang (id_category INT UNSIGNED, id_shop INT UNSIGNED, id_lang INT UNSIGNED, name VARCHAR(128),
  PRIMARY KEY (id_category, id_shop, id_lang));
CREATE TABLE ps_manufacturer (id_manufacturer INT UNSIGNED PRIMARY KEY, name VARCHAR(64));
CREATE TABLE ps_image (id_image INT UNSIGNED PRIMARY KEY, id_product INT UNSIGNED, cover TINYINT(1) UNSIGNED NULL,
  KEY (id_product));
CREATE TABLE ps_tax (id_tax INT UNSIGNED PRIMARY KEY, rate DECIMAL(10,3), active TINYINT(1), deleted TINYINT(1));
CREATE TABLE ps_tax_rule (id_tax_rule INT AUTO_INCREMENT PRIMARY KEY, id_tax_rules_group INT, id_country INT,
  id_state INT, id_tax INT);
"""
# The states of a new installation: 2 paid, 6 cancelled, 7 refunded, 8 failed, 9 paid and not in stock, 10 by bank wire.
PAID, CANCELLED, REFUNDED, FAILED, BACKORDER, AWAITED = 2, 6, 7, 8, 9, 10
STATES = {"complete": PAID, "cancelled": CANCELLED, "failed": FAILED, "draft": AWAITED}
ANONYMOUS = 900

_Row = dict[str, Any]
user_id, product_id = number_of_user, number_of_product


def consent(buyer: Buyer) -> bool | None:
    return buyer.consent


def build(url: str, story: Story) -> None:
    """Tell the story to an empty database."""
    rows: dict[str, list[_Row]] = {}

    def add(table: str, **row: Any) -> None:
        rows.setdefault(f"ps_{table}", []).append(row)

    _add_settings(add)
    for product in story.products.values():
        _add_product(add, product)
    _add_customers(add, story)
    _add_orders(add, story)
    fill(url, TABLES, rows)


def _add_settings(add: Any) -> None:
    given = {"PS_LANG_DEFAULT": "2", "PS_COUNTRY_DEFAULT": "8", "PS_ORDER_OUT_OF_STOCK": "0"}
    given |= {"PS_STOCK_MANAGEMENT": "1", "PS_SHOP_DOMAIN_SSL": "shop.example"}
    for at, (name, value) in enumerate(given.items(), 1):
        add("configuration", id_configuration=100 + at, id_shop=None, id_shop_group=None, name=name, value=value)
    for at, name in enumerate(given, 1):  # another shop and another group of shops do it their own way
        add("configuration", id_configuration=at, id_shop=2, id_shop_group=1, name=name, value="9")
        add("configuration", id_configuration=50 + at, id_shop=None, id_shop_group=2, name=name, value="9")
    for number, parent, depth, name in (
        (1, 0, 0, "Root"),
        (2, 1, 1, "Start"),
        (3, 2, 2, "Wohnen"),
        (4, 3, 3, "Lampen"),
    ):
        add("category", id_category=number, id_parent=parent, level_depth=depth)
        for shop, language, given_name in ((1, 1, f"{name} 1"), (1, 2, name), (2, 2, f"{name} 2")):
            add("category_lang", id_category=number, id_shop=shop, id_lang=language, name=given_name)
    add("manufacturer", id_manufacturer=1, name="Vento")
    for number, rate, active, deleted in ((1, 25, 1, 0), (2, 99, 1, 1), (3, 45, 1, 0), (4, 98, 0, 0)):
        add("tax", id_tax=number, rate=rate, active=active, deleted=deleted)
    for country, state, tax in ((8, 0, 1), (8, 0, 2), (9, 0, 3), (8, 0, 4), (8, 3, 3)):
        add("tax_rule", id_tax_rules_group=1, id_country=country, id_state=state, id_tax=tax)
    for state in (PAID, BACKORDER):
        add("order_state", id_order_state=state, logable=int(state == PAID), paid=1)
    for state in (CANCELLED, REFUNDED, FAILED, AWAITED):
        add("order_state", id_order_state=state, logable=0, paid=0)


def _add_product(add: Any, product: Any) -> None:
    number, net = product.number, product.price / 1.25
    row = {"id_shop_default": 1, "price": net, "active": 1, "state": int(number != DRAFT)}
    add(
        "product",
        id_product=number,
        id_manufacturer=1,
        date_add=local(datetime.fromisoformat("2024-01-01T00:00Z")),
        **row,
    )
    for shop in (1, 2):
        seen = "none" if product.is_hidden else "both"
        row = {"id_category_default": 4, "id_tax_rules_group": 1, "available_for_order": 1, "visibility": seen}
        add("product_shop", id_product=number, id_shop=shop, price=net - 1, active=int(number != OTHER_DRAFT), **row)
        for language, title in ((1, product.foreign_title), (2, product.title)):
            name = {"name": title if shop == 1 else "other shop", "link_rewrite": f"p{number}"}
            add("product_lang", id_product=number, id_shop=shop, id_lang=language, **name)
    stock = {"id_product": number, "id_shop": 1, "quantity": product.stock, "out_of_stock": 2}
    add("stock_available", id_product_attribute=0, **stock)
    for is_default, variant in zip((1, None), product.variants, strict=True):
        row = {"id_product": number, "id_shop": 1, "price": 1.0 if is_default else 50.0, "default_on": is_default}
        add("product_attribute_shop", id_product_attribute=variant, **row)
        add("product_attribute_shop", id_product_attribute=variant, **{**row, "id_shop": 2, "price": 9.0})
        add("stock_available", id_product_attribute=variant, **{**stock, "quantity": 5})
    for at, cover in ((0, 1), (1, None)):
        add("image", id_image=number * 2 + at, id_product=number, cover=cover)


def _add_customers(add: Any, story: Story) -> None:
    for buyer in story.buyers.values():
        row = {"email": buyer.email, "newsletter": int(buyer.consent), "optin": int(not buyer.consent)}
        row |= {"is_guest": int(buyer.is_guest), "deleted": int(buyer.number == DELETED)}
        add("customer", id_customer=buyer.number, active=int(buyer.number != BLOCKED), **row)
    row = {"newsletter": 1, "optin": 1, "is_guest": 0, "deleted": 0}
    add("customer", id_customer=ANONYMOUS, active=1, email="anonymous@psgdpr.com", **row)


def local(moment: datetime) -> datetime:
    return moment.astimezone(ZoneInfo(ZONE)).replace(tzinfo=None)


def _add_orders(add: Any, story: Story) -> None:
    for order in story.orders:
        state = BACKORDER if order.number == 1 else STATES[order.state]
        _add_order(add, order.number, order.buyer.number, state, order)
    for at, order, line in story.lines():
        # What came back after delivery may be counted as returned, as refunded, or as both.
        back = {"product_quantity_refunded": line.returned, "product_quantity_return": line.returned * (at % 2)}
        row = {"product_id": line.product, "product_attribute_id": 1000 + line.product * (at % 2)}
        _add_line(add, at, order.number, line.quantity, **row, **back)
        if line.returned:
            when = local(order.returned_at)
            add("order_slip", id_order_slip=at, id_order=order.number, date_add=when)
            add("order_slip_detail", id_order_slip=at, id_order_detail=at, product_quantity=line.returned)
    # An order refunded whole, one of an erased customer, and one of a customer without a row.
    for number, buyer, state in ((90_001, 5, REFUNDED), (90_002, ANONYMOUS, PAID), (90_003, 999, PAID)):
        _add_order(add, number, buyer, state, story.orders[0])
        row = {"product_id": 6, "product_attribute_id": 0}
        _add_line(add, number * 10, number, 1, **row, product_quantity_refunded=0, product_quantity_return=0)


def _add_order(add: Any, number: int, buyer: int, state: int, order: Order) -> None:
    row = {"current_state": state, "conversion_rate": 2, "valid": int(state == PAID), "date_upd": local(order.time)}
    add("orders", id_order=number, id_customer=buyer, date_add=local(order.time), **row)


def _add_line(add: Any, number: int, order: int, quantity: int, **row: int) -> None:
    price = 24 * quantity
    add(
        "order_detail",
        id_order_detail=number,
        id_order=order,
        product_quantity=quantity,
        total_price_tax_incl=price,
        **row,
    )
