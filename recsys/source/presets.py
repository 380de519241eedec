"""Presets for files of well-known form: each turns one into events and items. Adding one: a function and a line."""

from collections import Counter, defaultdict
from collections.abc import Callable

import polars as pl

from recsys.source.analytics import ga4, matomo
from recsys.source.events import require
from recsys.source.exports import merchant_feed, shopify, woocommerce
from recsys.source.prepared import Prepared
from recsys.source.times import read_times

RETURN = "return, taken off an earlier purchase"
LONE_RETURN = "return without an earlier purchase"
RETURNED = "purchase that was returned whole"
NO_USER = "no user"
NO_PRODUCT = "stock code that is no product"
NO_QUANTITY = "quantity of 0 or unreadable"
NO_PRICE = "price of 0, below or unreadable"

_RETAIL = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
_SECOND_EDITION = {"Invoice": "InvoiceNo", "Price": "UnitPrice", "Customer ID": "CustomerID"}
_IDENTITY = ("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
_PRICE_DAYS, _DAY = 90, 86_400_000_000


def online_retail(rows: pl.DataFrame, name: str) -> Prepared:
    """Turn invoice lines, as in UCI's Online Retail (I and II), into purchases (quantity x price) and a catalog.

    A return (an invoice C…, or a quantity below 0) reduces the quantity of the customer's latest earlier purchase of
    the item, then of the one before, and so on; a purchase that is left with nothing goes. An item's title is its most
    frequent description, its price the median of the file's last 90 days, or of all days when it was not sold in those.
    """
    rows = rows.rename(
        {theirs: ours for theirs, ours in _SECOND_EDITION.items() if ours not in rows.columns}, strict=False
    )
    require(rows.columns, _RETAIL, name)
    every = lines = _lines(rows)
    reasons = Counter[str]()
    for reason, bad in _FAULTS.items():
        kept = lines.filter(~bad)
        reasons[reason] = lines.height - kept.height
        lines = kept
    is_return = pl.col("quantity") < 0
    purchases = _take_returns_off(lines.filter(~is_return), lines.filter(is_return), reasons)
    is_left = pl.col("quantity") > 0
    events = purchases.filter(is_left).select(
        "user_id",
        "item_id",
        "key",
        "reduced",
        event=pl.lit("purchase"),
        timestamp="date",
        value=pl.col("quantity") * pl.col("price"),
    )
    gone = purchases.filter(~is_left)["key"].to_list()
    reasons[RETURNED] = len(gone)
    left_out = {reason: n for reason, n in reasons.items() if n}
    return Prepared(events, _catalog(every), left_out, gone=gone)


def retailrocket(rows: pl.DataFrame, name: str) -> Prepared:
    """Read events as in RetailRocket's file (visitorid, itemid, milliseconds) or with this project's column names."""
    rows = rows.rename({"visitorid": "user_id", "itemid": "item_id"}, strict=False)
    require(rows.columns, ("user_id", "item_id", "event", "timestamp"), name)
    return Prepared(rows, kinds={"buy": "purchase", "transaction": "purchase", "addtocart": "cart"})


PRESETS: dict[str, Callable[[pl.DataFrame, str], Prepared]] = {
    "online-retail": online_retail,
    "retailrocket": retailrocket,
    "shopify": shopify,
    "woocommerce": woocommerce,
    "merchant-feed": merchant_feed,
    "ga4": ga4,
    "matomo": matomo,
}


def _lines(rows: pl.DataFrame) -> pl.DataFrame:
    def text(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.String).str.strip_chars()

    date = _iso_dates(rows["InvoiceDate"])
    rows = rows.with_columns(date.alias("InvoiceDate"))
    quantity = pl.col("Quantity").cast(pl.Float64, strict=False)
    cancels = text("InvoiceNo").str.starts_with("C").fill_null(False)
    return rows.select(
        date="InvoiceDate",
        time=read_times(date, None).microseconds,
        user_id=text("CustomerID").str.replace(r"\.0$", ""),
        item_id=text("StockCode"),
        title=text("Description"),
        quantity=pl.when(cancels).then(-quantity.abs()).otherwise(quantity),
        price=pl.col("UnitPrice").cast(pl.Float64, strict=False),
        key=pl.concat_str([pl.col(column).cast(pl.String).fill_null("") for column in _IDENTITY], separator="\x1f"),
    )


def _iso_dates(given: pl.Series) -> pl.Series:
    """Convert dates to ISO 8601 text; `12/1/2010 8:26`, the file's other form, is the first of December."""
    if given.dtype != pl.String:
        return given
    other = given.str.strip_chars().str.to_datetime("%m/%d/%Y %H:%M", time_unit="us", strict=False)
    return pl.select(pl.coalesce(other.dt.strftime("%Y-%m-%d %H:%M:%S"), given)).to_series()


# A row is counted under the first fault that it has.
_FAULTS: dict[str, pl.Expr] = {
    NO_USER: (pl.col("user_id").is_null() | (pl.col("user_id") == "")),
    NO_PRODUCT: ~pl.col("item_id").str.contains(r"^\d{5}").fill_null(False),
    NO_QUANTITY: (pl.col("quantity").is_null() | pl.col("quantity").is_nan() | (pl.col("quantity") == 0)),
    NO_PRICE: (pl.col("price").is_null() | pl.col("price").is_nan() | (pl.col("price") <= 0)),
}


def _take_returns_off(purchases: pl.DataFrame, returns: pl.DataFrame, reasons: Counter[str]) -> pl.DataFrame:
    """Take each return off the customer's latest earlier purchases of the item; these are `reduced`, some to 0."""
    purchases = purchases.with_row_index("row")
    pairs = ["user_id", "item_id"]
    columns = [*pairs, "time", "quantity"]
    touched = purchases.join(returns.select(pairs).unique(), on=pairs, how="semi").select(*columns, "row")
    moves = pl.concat([touched, returns.select(*columns, pl.lit(None, pl.UInt32).alias("row"))])
    # At equal times purchases come first: the row number of a return is null, which sorts last.
    stacks: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    left: dict[int, float] = {}
    for user, item, _, quantity, row in moves.sort("time", "row", nulls_last=True).iter_rows():
        stack = stacks[user, item]
        if row is not None:
            stack.append(row)
            left[row] = quantity
            continue
        reasons[RETURN if stack else LONE_RETURN] += 1
        owed = -quantity
        while owed > 0 and stack:
            taken = min(owed, left[stack[-1]])
            left[stack[-1]] -= taken
            owed -= taken
            if left[stack[-1]] <= 0:
                stack.pop()
    changed = pl.DataFrame(
        {"row": list(left), "left": list(left.values())}, schema={"row": pl.UInt32, "left": pl.Float64}
    )
    purchases = purchases.join(changed, on="row", how="left", maintain_order="left")
    reduced = (pl.col("left") < pl.col("quantity")).fill_null(False)
    return purchases.with_columns(reduced=reduced, quantity=pl.coalesce("left", "quantity")).drop("left", "row")


def _catalog(lines: pl.DataFrame) -> pl.DataFrame:
    """List every product that was sold, also to buyers without a customer number."""
    product = pl.col("item_id").str.contains(r"^\d{5}")
    sales = lines.filter(product & (pl.col("quantity") > 0) & (pl.col("price") > 0))
    titles = (
        sales.filter(pl.col("title").is_not_null() & (pl.col("title") != ""))
        .group_by("item_id", "title")
        .len()
        .sort(["item_id", "len", "title"], descending=[False, True, False])
        .unique("item_id", keep="first", maintain_order=True)
    )
    recent = sales.filter(pl.col("time") > pl.col("time").max() - _PRICE_DAYS * _DAY)
    prices = [part.group_by("item_id").agg(pl.col("price").median()) for part in (recent, sales)]
    items = prices[1].join(prices[0], on="item_id", how="left", suffix="_recent").join(titles, on="item_id", how="left")
    return items.select("item_id", "title", price=pl.coalesce("price_recent", "price")).sort("item_id")
