"""WooCommerce 10 on WordPress: products among the posts, orders in tables of their own or among the posts too."""

from datetime import datetime
from typing import Any

from shop_systems.story import DRAFT, OTHER_DRAFT, VARIANTS, Buyer, Story, fill, number_of_product, number_of_user

CATEGORY = "Home & Garden > Lamps"

TABLES = """
CREATE TABLE wp_posts (ID BIGINT UNSIGNED PRIMARY KEY, post_date_gmt DATETIME, post_title TEXT, post_status VARCHAR(20),
  post_password VARCHAR(255) DEFAULT '', post_parent BIGINT UNSIGNED DEFAULT 0, post_type VARCHAR(20));
CREATE TABLE wp_postmeta (meta_id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, post_id BIGINT UNSIGNED,
  meta_key VARCHAR(255), meta_value LONGTEXT, KEY (post_id));
CREATE TABLE wp_options (option_id BIGINT UNSIGNED PRIMARY KEY, option_name VARCHAR(191), option_value LONGTEXT);
CREATE TABLE wp_users (ID BIGINT UNSIGNED PRIMARY KEY, user_email VARCHAR(100));
CREATE TABLE wp_terms (term_id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(200), slug VARCHAR(200));
CREATE TABLE wp_term_taxonomy (term_taxonomy_id BIGINT UNSIGNED PRIMARY KEY, term_id BIGINT UNSIGNED,
  taxonomy VARCHAR(32), parent BIGINT UNSIGNED DEFAULT 0);
CREATE TABLE wp_term_relationships (object_id BIGINT UNSIGNED, term_taxonomy_id BIGINT UNSIGNED, KEY (object_id));
CREATE TABLE wp_wc_product_meta_lookup (product_id BIGINT PRIMARY KEY, sku VARCHAR(100), min_price DECIMAL(19,4),
  max_price DECIMAL(19,4), stock_quantity DOUBLE, stock_status VARCHAR(100) DEFAULT 'instock');
CREATE TABLE wp_woocommerce_order_items (order_item_id BIGINT UNSIGNED PRIMARY KEY, order_item_name TEXT,
  order_item_type VARCHAR(200), order_id BIGINT UNSIGNED, KEY (order_id));
CREATE TABLE wp_woocommerce_order_itemmeta (meta_id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  order_item_id BIGINT UNSIGNED, meta_key VARCHAR(255), meta_value LONGTEXT, KEY (order_item_id));
"""
HPOS = """
CREATE TABLE wp_wc_orders (id BIGINT UNSIGNED PRIMARY KEY, status VARCHAR(20), currency VARCHAR(10), type VARCHAR(20),
  tax_amount DECIMAL(26,8), total_amount DECIMAL(26,8), customer_id BIGINT UNSIGNED, billing_email VARCHAR(320),
  date_created_gmt DATETIME, date_updated_gmt DATETIME, parent_order_id BIGINT UNSIGNED, KEY (parent_order_id));
"""
STATES = {"complete": "wc-completed", "cancelled": "wc-cancelled", "failed": "wc-failed", "draft": "wc-checkout-draft"}
REFUNDS, ERASED = 50_000, "deleted@site.invalid"

_Row = dict[str, Any]
user_id, product_id = number_of_user, number_of_product


def consent(buyer: Buyer) -> bool | None:
    """WooCommerce itself knows none."""
    return None


def build(url: str, story: Story, *, in_posts: bool = False) -> None:
    """Tell the story to an empty database. in_posts: orders lie among the posts."""
    rows: dict[str, list[_Row]] = {}

    def add(table: str, **row: Any) -> None:
        rows.setdefault(f"wp_{table}", []).append(row)

    _add_products(add, story)
    _add_orders(add, story, _order_adder(add, in_posts=in_posts))
    fill(url, TABLES if in_posts else TABLES + HPOS, rows)


def _add_products(add: Any, story: Story) -> None:
    add("options", option_id=1, option_name="siteurl", option_value="https://shop.example")
    for number, slug, taxonomy, parent in (
        (1, "uncategorized", "product_cat", 0),
        (2, "Home &amp; Garden", "product_cat", 0),
        (3, "Lamps", "product_cat", 2),
        (4, "Vento", "product_brand", 0),
        (5, "exclude-from-catalog", "product_visibility", 0),
        (6, "exclude-from-search", "product_visibility", 0),
        (7, "Aged", "product_tag", 2),
    ):
        add("terms", term_id=number, name=slug, slug=slug)
        add("term_taxonomy", term_taxonomy_id=10 + number, term_id=number, taxonomy=taxonomy, parent=parent)
    for product in story.products.values():
        status = "draft" if product.number == DRAFT else "publish"
        password = "secret" if product.number == OTHER_DRAFT else ""  # shown to who knows it
        title, when = product.title.replace("&", "&amp;"), datetime(2024, 1, 1)
        post = {"post_date_gmt": when, "post_parent": 0}
        add(
            "posts",
            ID=product.number,
            post_title=title,
            post_status=status,
            post_type="product",
            post_password=password,
            **post,
        )
        for term in (17, 12, 13, 14, 15 if product.is_hidden else 16):
            add("term_relationships", object_id=product.number, term_taxonomy_id=term)
        stock = "instock" if product.stock else "outofstock"
        add("wc_product_meta_lookup", product_id=product.number, min_price=product.price, stock_status=stock)
        image = 20_000 + product.number
        add("postmeta", post_id=product.number, meta_key="_thumbnail_id", meta_value=str(image))
        add("postmeta", post_id=product.number, meta_key="_product_image_gallery", meta_value="1,2")
        add("postmeta", post_id=image, meta_key="_wp_attachment_metadata", meta_value="a:0:{}")
        add("postmeta", post_id=image, meta_key="_wp_attached_file", meta_value=f"2024/{product.number}.jpg")
        for variant in product.variants:
            post = {"post_date_gmt": when, "post_parent": product.number}
            add(
                "posts",
                ID=variant,
                post_title=title,
                post_status="publish",
                post_type="product_variation",
                post_password="",
                **post,
            )
            add("wc_product_meta_lookup", product_id=variant, min_price=1, stock_status="instock")


def _order_adder(add: Any, *, in_posts: bool) -> Any:
    def add_order(number: int, status: str, kind: str, buyer: int, email: str, when: datetime, parent: int = 0) -> None:
        if not in_posts:
            order = {"customer_id": buyer, "billing_email": email, "date_created_gmt": when, "parent_order_id": parent}
            add("wc_orders", id=number, status=status, type=kind, **order)
            return
        post = {"post_title": "Order", "post_date_gmt": when, "post_parent": parent}
        add("posts", ID=number, post_status=status, post_type=kind, post_password="", **post)
        add("postmeta", post_id=number, meta_key="_customer_user", meta_value=str(buyer))
        add("postmeta", post_id=number, meta_key="_billing_email", meta_value=email)

    return add_order


def _add_orders(add: Any, story: Story, add_order: Any) -> None:
    for buyer in story.buyers.values():
        if not buyer.is_guest and not buyer.is_deleted:
            add("users", ID=buyer.number, user_email=buyer.email)
    for order in story.orders:
        buyer = order.buyer
        # An erased customer: no number, and the same address as every other one.
        number = 0 if buyer.is_guest or buyer.is_deleted else buyer.number
        email = ERASED if buyer.is_deleted else buyer.email
        when = order.time.replace(tzinfo=None)
        add_order(10_000 + order.number, STATES[order.state], "shop_order", number, email, when)
    for at, order, line in story.lines():
        variant = VARIANTS + line.product if at % 2 else 0
        _add_line(add, 10_000 + order.number, at * 10, line.product, variant, line.quantity)
        for part_at, part in enumerate(line.parts, 1):
            mark = ("_bundled_by", "_composite_parent", "_mnm_container")[part_at % 3]
            _add_line(add, 10_000 + order.number, at * 10 + part_at, part, 0, 1, **{mark: str(at * 10)})
        for unit in range(line.returned):  # each unit is refunded by itself
            refund = REFUNDS + at * 10 + unit
            when = order.returned_at.replace(tzinfo=None)
            add_order(refund, "wc-completed", "shop_order_refund", 0, "", when, parent=10_000 + order.number)
            _add_line(add, refund, 500_000 + refund, line.product, 0, -1, _refunded_item_id=str(at * 10))
    first = story.orders[0]
    when = first.returned_at.replace(tzinfo=None)
    # A product that was gone when the order was written.
    _add_line(add, 10_000 + first.number, 800_001, 0, 0, 1)
    # A refund of an amount names no line. An order that became a refunded one, and one in the trash, are no sales.
    add_order(90_001, "wc-completed", "shop_order_refund", 0, "", when, parent=10_000 + first.number)
    add_order(90_002, "wc-refunded", "shop_order", 5, "buyer5@example.org", when)
    add_order(90_003, "trash", "shop_order", 5, "buyer5@example.org", when)
    add_order(90_004, "wc-completed", "shop_order", 0, "", when)  # typed in by the shop, for nobody
    for number in (90_002, 90_003, 90_004):
        _add_line(add, number, 900_000 + number, 6, 0, 1)
        add_order(number + 10, "wc-completed", "shop_order_refund", 0, "", when, parent=number)
        _add_line(add, number + 10, 910_000 + number, 6, 0, -1, _refunded_item_id=str(900_000 + number))
    add("woocommerce_order_items", order_item_id=1, order_item_type="shipping", order_id=10_000 + first.number)


def _add_line(add: Any, order: int, number: int, product: int, variant: int, quantity: int, **more: str) -> None:
    add("woocommerce_order_items", order_item_id=number, order_item_type="line_item", order_id=order)
    values = {"_product_id": product, "_variation_id": variant, "_qty": quantity, "_line_total": 10 * quantity}
    for key, value in {**values, "_line_tax": 2 * quantity, **more}.items():
        add("woocommerce_order_itemmeta", order_item_id=number, meta_key=key, meta_value=str(value))
