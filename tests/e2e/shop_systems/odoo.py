"""Odoo 17 on PostgreSQL: names as JSON, a partner for each checkout of a guest, refunds as credit notes."""

import json
from datetime import datetime, timedelta
from typing import Any

from shop_systems.story import DRAFT, GONE, GUEST, OTHER_DRAFT, SAME_GUEST, Buyer, Story, fill

CATEGORY = "All > Wohnen > Lampen"
TABLES = """
CREATE TABLE res_partner (id INTEGER PRIMARY KEY, name VARCHAR, email VARCHAR, lang VARCHAR,
  active BOOLEAN DEFAULT true, create_date TIMESTAMP);
CREATE TABLE res_users (id INTEGER PRIMARY KEY, partner_id INTEGER, login VARCHAR, active BOOLEAN DEFAULT true);
CREATE TABLE res_company (id INTEGER PRIMARY KEY, partner_id INTEGER);
CREATE TABLE ir_config_parameter (id INTEGER PRIMARY KEY, key VARCHAR, value TEXT);
CREATE TABLE mail_blacklist (id INTEGER PRIMARY KEY, email VARCHAR, active BOOLEAN DEFAULT true);
CREATE TABLE product_category (id INTEGER PRIMARY KEY, name VARCHAR, complete_name VARCHAR, parent_id INTEGER);
CREATE TABLE product_template (id INTEGER PRIMARY KEY, name JSONB NOT NULL, type VARCHAR, categ_id INTEGER,
  list_price NUMERIC, sale_ok BOOLEAN, active BOOLEAN, is_published BOOLEAN, allow_out_of_stock_order BOOLEAN,
  create_date TIMESTAMP);
CREATE TABLE product_product (id INTEGER PRIMARY KEY, product_tmpl_id INTEGER, active BOOLEAN);
CREATE TABLE stock_location (id INTEGER PRIMARY KEY, usage VARCHAR);
CREATE TABLE stock_quant (id SERIAL PRIMARY KEY, product_id INTEGER, location_id INTEGER, quantity NUMERIC,
  reserved_quantity NUMERIC);
CREATE TABLE sale_order (id INTEGER PRIMARY KEY, name VARCHAR, state VARCHAR, partner_id INTEGER, company_id INTEGER,
  currency_rate NUMERIC, date_order TIMESTAMP);
CREATE TABLE sale_order_line (id INTEGER PRIMARY KEY, order_id INTEGER, product_id INTEGER, display_type VARCHAR,
  is_downpayment BOOLEAN, product_uom_qty NUMERIC, qty_invoiced NUMERIC, price_total NUMERIC, combo_item_id INTEGER);
CREATE TABLE account_move (id INTEGER PRIMARY KEY, move_type VARCHAR, state VARCHAR, create_date TIMESTAMP);
CREATE TABLE account_move_line (id INTEGER PRIMARY KEY, move_id INTEGER, product_id INTEGER, quantity NUMERIC);
CREATE TABLE sale_order_line_invoice_rel (invoice_line_id INTEGER, order_line_id INTEGER);
"""
STATES = {"complete": "sale", "cancelled": "cancel", "failed": "sent", "draft": "draft"}
DELIVERY, COMPANY, VARIANTS = 900, 500, 10_000

_Row = dict[str, Any]


def user_id(story: Story, number: int) -> str:
    return str(GUEST if number == SAME_GUEST else number)


def product_id(number: int) -> str:
    return str(number)


def consent(buyer: Buyer) -> bool | None:
    return False if buyer.number == 4 else None  # Odoo itself knows who must not be mailed


def build(url: str, story: Story) -> None:
    """Tell the story to an empty database."""
    rows: dict[str, list[_Row]] = {}

    def add(table: str, **row: Any) -> None:
        rows.setdefault(table, []).append(row)

    _add_partners(add, story)
    _add_products(add, story)
    _add_orders(add, story)
    fill(url, TABLES, rows)


def _add_partners(add: Any, story: Story) -> None:
    add("res_partner", id=COMPANY, email="shop@example.org", lang="de_DE", active=True)
    add("res_company", id=1, partner_id=COMPANY)
    add("ir_config_parameter", id=1, key="web.base.url", value="https://shop.example")
    add("mail_blacklist", id=1, email=story.buyers[4].email)
    for buyer in story.buyers.values():
        add("res_partner", id=buyer.number, email=buyer.email, lang="en_US", active=not buyer.is_deleted)
        if not buyer.is_guest:
            add("res_users", id=buyer.number, partner_id=buyer.number, login=buyer.email)


def _variant(number: int, at: int) -> int:
    return number + VARIANTS * (1 + at % 2)


def _add_products(add: Any, story: Story) -> None:
    add("product_category", id=1, name="Lampen", complete_name="All / Wohnen / Lampen")
    add("stock_location", id=1, usage="internal")
    add("stock_location", id=2, usage="customer")
    for product in story.products.values():
        # The title has German only where it differs; English is always there.
        names = {"en_US": product.foreign_title, "de_DE": product.title}
        is_sold = product.number != OTHER_DRAFT
        row = {"list_price": product.price, "is_published": not product.is_hidden, "type": "product"}
        _add_product(add, product.number, names, active=product.number != DRAFT, sale_ok=is_sold, **row)
        for location, quantity in ((1, product.stock), (2, 7)):
            quant = {"product_id": _variant(product.number, 0), "location_id": location, "reserved_quantity": 0}
            add("stock_quant", quantity=quantity, **quant)
    # Who has bought a product can archive it, not delete it.
    row = {"list_price": 1, "is_published": True}
    _add_product(add, GONE, {"en_US": "Gone"}, active=False, sale_ok=True, type="product", **row)
    _add_product(add, DELIVERY, {"en_US": "Delivery"}, active=True, sale_ok=False, type="service", **row)


def _add_product(add: Any, number: int, names: dict[str, str], **row: Any) -> None:
    when = datetime(2024, 1, 1)
    row |= {"categ_id": 1, "create_date": when, "allow_out_of_stock_order": False}
    add("product_template", id=number, name=json.dumps(names), **row)
    for at in (0, 1):
        add("product_product", id=_variant(number, at), product_tmpl_id=number, active=True)


def _add_orders(add: Any, story: Story) -> None:
    for order in story.orders:
        when = order.time.replace(tzinfo=None)
        row = {"partner_id": order.buyer.number, "currency_rate": 2, "date_order": when}
        add("sale_order", id=order.number, name=f"S{order.number}", state=STATES[order.state], **row)
        _add_line(add, order.number * 1000, order.number, _variant(DELIVERY, 0), 1)
        _add_line(add, order.number * 1000 + 1, order.number, None, 0, display_type="line_section")
    for at, order, line in story.lines():
        number = order.number * 1000 + 10 * (at % 10 + 1)
        invoiced = 0 if order.number in (2, 3) else line.quantity - line.returned
        _add_line(add, number, order.number, _variant(line.product, at), line.quantity, qty_invoiced=invoiced)
        for part_at, part in enumerate(line.parts, 1):
            _add_line(add, number + part_at, order.number, _variant(part, 0), 1, combo_item_id=1)
        when = order.returned_at.replace(tzinfo=None)
        _add_invoice(add, number * 10, number, "out_invoice", line.quantity, when - timedelta(days=2))
        for unit in range(line.returned):
            _add_invoice(add, number * 10 + 1 + unit, number, "out_refund", 1, when)
    # A wrong invoice that was corrected: a credit note and another invoice. A discount and a down payment.
    first = story.orders[0]
    when = first.returned_at.replace(tzinfo=None)
    _add_invoice(add, 5, first.number * 1000 + 10, "out_refund", 1, when)
    _add_invoice(add, 6, first.number * 1000 + 10, "out_invoice", 1, when)
    _add_line(add, 1, first.number, _variant(6, 0), 1, price_total=-5)
    _add_line(add, 2, first.number, _variant(6, 0), 1, is_downpayment=True)
    # Orders 2 and 3 are not invoiced yet; one of them has a credit note that nobody has posted.
    _add_invoice(add, 7, story.orders[2].number * 1000 + 10, "out_refund", 1, when, state="draft")


def _add_invoice(
    add: Any, number: int, line: int, kind: str, quantity: int, when: datetime, state: str = "posted"
) -> None:
    add("account_move", id=number, move_type=kind, state=state, create_date=when)
    add("account_move_line", id=number, move_id=number, quantity=quantity)
    add("sale_order_line_invoice_rel", invoice_line_id=number, order_line_id=line)


def _add_line(add: Any, number: int, order: int, product: int | None, quantity: int, **more: Any) -> None:
    row = {"display_type": None, "is_downpayment": False, "qty_invoiced": quantity, "combo_item_id": None}
    row |= {"price_total": 12 * quantity, "product_uom_qty": quantity, **more}
    add("sale_order_line", id=number, order_id=order, product_id=product, **row)
