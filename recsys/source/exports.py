"""Presets for exports of shop systems and product feeds, by the names that these write into the header."""

from collections.abc import Mapping

import polars as pl

from recsys.errors import SourceError
from recsys.source.events import require
from recsys.source.headers import with_points
from recsys.source.prepared import Prepared

IMAGE = "row of a further image"
NO_SALE = "order that was canceled, voided or refunded whole"
NO_USER = "no user"
REFUNDED_IN_PART = "line of an order refunded in part: the export does not say which, so the purchase stays"
NO_PRODUCT = "no product"

_SHOPIFY: Mapping[str, tuple[str, ...]] = {
    "orders": (
        "Name",
        "Email",
        "Financial Status",
        "Created at",
        "Lineitem quantity",
        "Lineitem name",
        "Lineitem price",
    ),
    "products": ("Handle", "Title", "Vendor", "Variant SKU", "Variant Price"),
    "customers": ("Email", "First Name", "Last Name"),
}
_CONSENT = ("Accepts Email Marketing", "Accepts Marketing")
_NO_SALE = ("voided", "refunded", "expired")
_PRODUCT_WIDE = ("Title", "Vendor", "Type", "Product Category", "Status", "Published")
_WOOCOMMERCE = ("ID", "Type", "SKU", "Name", "Published", "In stock?", "Regular price")
_FEED = ("id", "title", "availability", "price")


def shopify(rows: pl.DataFrame, name: str) -> Prepared:
    """Read Shopify's export of orders, products or customers; the header tells which.

    Users are known by their email in lower case, items by their SKU or, without one, by the name on the order.
    """
    for found, needed in _SHOPIFY.items():
        if set(needed) <= set(rows.columns):
            return {"orders": _orders, "products": _products, "customers": _customers}[found](rows)
    known = "; ".join(f"{what} need {', '.join(columns)}" for what, columns in _SHOPIFY.items())
    raise SourceError(f"{name} is none of Shopify's exports; found: {', '.join(rows.columns)}; {known}")


def _orders(rows: pl.DataFrame) -> Prepared:
    """One row a line; what belongs to the order stands in its first row only. A line is known by order and place."""
    wide = ("Email", "Financial Status", "Created at", "Cancelled at")
    rows = _with(rows, (*wide, "Lineitem sku"))
    order = pl.col("Name").forward_fill()
    lines = rows.with_columns(_text(column).first().over(order).alias(column) for column in wide)
    item = pl.coalesce(_text("Lineitem sku"), _text("Lineitem name"))
    lines = lines.select(
        user_id=pl.col("Email").str.to_lowercase(),
        item_id=item,
        event=pl.lit("purchase"),
        timestamp="Created at",
        value=_number("Lineitem quantity") * _number("Lineitem price"),
        key=pl.concat_str([pl.lit("shopify"), order, item, pl.int_range(pl.len()).over(order, item)], separator="\x1f"),
        reduced=pl.lit(False),
        in_part=(pl.col("Financial Status").str.to_lowercase() == "partially_refunded").fill_null(False),
        is_sale=pl.col("Cancelled at").is_null() & ~pl.col("Financial Status").str.to_lowercase().is_in(_NO_SALE),
    )
    left_out: dict[str, int] = {}
    for reason, keep in {NO_USER: pl.col("user_id").is_not_null(), NO_PRODUCT: pl.col("item_id").is_not_null()}.items():
        lines = _keep(lines, keep, reason, left_out)
    sold = _keep(lines, pl.col("is_sale").fill_null(True), NO_SALE, left_out)
    gone = lines.filter(~pl.col("is_sale"))["key"].to_list()
    notes = {REFUNDED_IN_PART: in_part} if (in_part := int(sold["in_part"].sum())) else {}
    return Prepared(sold.drop("is_sale", "in_part"), left_out=left_out, notes=notes, gone=gone)


def _products(rows: pl.DataFrame) -> Prepared:
    """One row a variant, with what belongs to the product in its first row, and rows of further images."""
    rows = _with(
        rows, (*_PRODUCT_WIDE, "Image Src", "Variant Image", "Option1 Value", "Option2 Value", "Option3 Value")
    )
    rows = _with(rows, ("Variant Inventory Qty", "Variant Inventory Tracker", "Variant Inventory Policy"))
    handle = pl.col("Handle")
    rows = rows.with_columns(
        _text(column).first().over(handle).alias(column) for column in (*_PRODUCT_WIDE, "Image Src")
    )
    left_out: dict[str, int] = {}
    is_variant = _text("Variant SKU").is_not_null() | _text("Variant Price").is_not_null()
    rows = _keep(rows, is_variant, IMAGE, left_out)
    options = [_text(f"Option{at} Value").replace("Default Title", None) for at in (1, 2, 3)]
    variant = pl.concat_str(options, separator=" / ", ignore_nulls=True)
    titled = pl.when(variant != "").then(pl.concat_str([pl.col("Title"), variant], separator=" - ")).otherwise("Title")
    in_stock = (
        _text("Variant Inventory Tracker").is_null()
        | (_text("Variant Inventory Policy").str.to_lowercase() == "continue").fill_null(False)
        | (_number("Variant Inventory Qty") > 0).fill_null(False)
    )
    is_shown = (_text("Status").str.to_lowercase() == "active").fill_null(True)
    is_shown &= (_text("Published").str.to_lowercase() != "false").fill_null(True)
    items = rows.select(
        item_id=pl.coalesce(_text("Variant SKU"), titled),
        title=titled,
        brand="Vendor",
        category=pl.coalesce(_text("Product Category"), _text("Type")),
        price="Variant Price",
        available=is_shown & in_stock,
        image_url=pl.coalesce(_text("Variant Image"), _text("Image Src")),
        product="Handle",
    )
    return Prepared(items, left_out=left_out, what="items")


def _customers(rows: pl.DataFrame) -> Prepared:
    """Emails and consent; names, addresses and telephone numbers are not taken over."""
    consent = next((column for column in _CONSENT if column in rows.columns), None)
    left_out: dict[str, int] = {}
    users = rows.select(
        user_id=_text("Email").str.to_lowercase(),
        email_consent=_text(consent) if consent else pl.lit(None, pl.String),
    )
    return Prepared(_keep(users, pl.col("user_id").is_not_null(), NO_USER, left_out), left_out=left_out, what="users")


def woocommerce(rows: pl.DataFrame, name: str) -> Prepared:
    """Read WooCommerce's export of products: the item is the ID, as in its tables of orders."""
    require(rows.columns, _WOOCOMMERCE, name)
    rows = _with(rows, ("Sale price", "Categories", "Images", "Brands", "Parent"))
    rows, _ = with_points(rows, ("Regular price", "Sale price"))
    items = rows.select(
        item_id="ID",
        title="Name",
        brand="Brands",
        category=_text("Categories").str.split(", ").list.first(),
        price=pl.coalesce(_text("Sale price"), _text("Regular price")),
        available=(_text("Published") == "1") & (_text("In stock?") != "0"),
        image_url=_text("Images").str.split(", ").list.first(),
        sku="SKU",
        product_type="Type",
        parent="Parent",
    )
    return Prepared(items, what="items")


def merchant_feed(rows: pl.DataFrame, name: str) -> Prepared:
    """Read a product feed for Google Merchant Center, as text; every further attribute is kept."""
    rows = rows.rename({column: column.removeprefix("g:").strip().replace(" ", "_") for column in rows.columns})
    require(rows.columns, _FEED, name)
    rows = _with(rows, ("sale_price", "product_type", "google_product_category"))
    items = rows.with_columns(
        price=pl.coalesce(_text("sale_price"), _text("price")),
        category=pl.coalesce(_text("product_type"), _text("google_product_category")),
    )
    renamed = {"id": "item_id", "availability": "available", "image_link": "image_url"}
    return Prepared(items.drop("sale_price").rename(renamed, strict=False), what="items")


def _with(rows: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """Add the columns that are missing, without values."""
    return rows.with_columns(pl.lit(None, pl.String).alias(name) for name in columns if name not in rows.columns)


def _text(column: str) -> pl.Expr:
    """Text without blanks around it; null where nothing is left."""
    return pl.col(column).cast(pl.String).str.strip_chars().replace("", None)


def _number(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64, strict=False)


def _keep(rows: pl.DataFrame, keep: pl.Expr, reason: str, left_out: dict[str, int]) -> pl.DataFrame:
    """Keep rows; count the others under a reason."""
    kept = rows.filter(keep)
    if kept.height < rows.height:
        left_out[reason] = rows.height - kept.height
    return kept
