"""Presets for exports of web analytics: one row holds several items, and each item becomes an event."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from recsys.source.events import require
from recsys.source.prepared import Prepared

NO_USER = "neither user nor visitor"
OTHER_EVENT = "event that is no view, cart, purchase or refund"
RETURNED_IN_PART = "refund of fewer pieces than were bought"
NO_ITEMS = "event without items"

_GA4 = {"view_item": "view", "add_to_cart": "cart", "purchase": "purchase", "refund": "return"}
_MATOMO = {"ecommerceOrder": "purchase", "ecommerceAbandonedCart": "cart"}
_EVENT = {
    "user_id": pl.String,
    "visitor_id": pl.String,
    "item_id": pl.String,
    "event": pl.String,
    "timestamp": pl.Int64,
    "value": pl.Float64,
}
_ITEM = {"item_id": pl.String, "title": pl.String, "brand": pl.String, "category": pl.String, "price": pl.Float64}
_SECOND = 1_000_000

_MATOMO_VISITORS = ("visitorId", "idvisitor")  # of its API and of its table of visits

Row = tuple[str | None, str | None, str | None, str, int | None, float | None]


def ga4(rows: pl.DataFrame, name: str) -> Prepared:
    """Read events of Google Analytics 4 as BigQuery exports them: JSON lines or Parquet.

    The device (`user_pseudo_id`) is the visitor. A refund without items takes back every item of its transaction that
    the files hold; one of fewer pieces than were bought takes nothing back.
    """
    require(rows.columns, ("event_name", "event_timestamp", "items"), name)
    _require_one(rows, ("user_id", "user_pseudo_id"), name)
    reasons, items, events = Counter[str](), dict[str, dict[str, Any]](), list[Row]()
    ecommerce = _nested(rows["ecommerce"]) if "ecommerce" in rows.columns else [None] * rows.height
    owners = (_ids(rows, ("user_id",)), _ids(rows, ("user_pseudo_id",)))
    columns = (rows["event_name"], rows["event_timestamp"], *owners, _nested(rows["items"]), ecommerce)
    sold = _Sold(rows["event_name"], columns[-2], ecommerce)
    for event, moment, user, visitor, found, order in zip(*columns, strict=True):
        kind = _GA4.get(event)
        listed = found or (sold.items.get(_transaction(order), []) if kind == "return" else [])
        reason = OTHER_EVENT if kind is None else NO_ITEMS if not listed else None if user or visitor else NO_USER
        if reason or kind is None:
            reasons[str(reason)] += max(len(found or []), 1)
            continue
        for item in listed:
            identifier = _ga4_id(item)
            if kind == "return" and not sold.take_back(order, item):
                reasons[RETURNED_IN_PART] += 1
                continue
            value = _product(item.get("price"), item.get("quantity")) if kind in ("cart", "purchase") else None
            events.append((user, visitor, identifier, kind, _whole(moment), value))
            if identifier:
                items[identifier] = _ga4_item(identifier, item)
    return _prepared(events, items, reasons)


def matomo(rows: pl.DataFrame, name: str) -> Prepared:
    """Read visits of Matomo as its API `Live.getLastVisitsDetails` returns them in JSON.

    Views of products, carts that were left and orders count. Without a userId they are those of a visitor.
    """
    require(rows.columns, ("actionDetails",), name)
    _require_one(rows, ("userId", *_MATOMO_VISITORS), name)
    reasons, items, events = Counter[str](), dict[str, dict[str, Any]](), list[Row]()
    owners = (_ids(rows, ("userId",)), _ids(rows, _MATOMO_VISITORS))
    for user, visitor, actions in zip(*owners, _nested(rows["actionDetails"]), strict=True):
        if not actions:
            reasons[NO_ITEMS] += 1
        for action in actions or []:
            kind, listed = _matomo_items(action)
            reason = OTHER_EVENT if kind is None else NO_ITEMS if not listed else None if user or visitor else NO_USER
            if reason or kind is None:
                reasons[str(reason)] += max(len(listed), 1)
                continue
            moment = _whole(action.get("timestamp"))
            for item in listed:
                value = _product(item["price"], item["quantity"]) if kind != "view" else None
                time = None if moment is None else moment * _SECOND
                events.append((user, visitor, item["item_id"], kind, time, value))
                items[str(item["item_id"])] = {key: item[key] for key in _ITEM}
    return _prepared(events, items, reasons)


def _prepared(events: Sequence[Row], items: Mapping[str, Mapping[str, Any]], reasons: Counter[str]) -> Prepared:
    rows = pl.DataFrame(events, schema=_EVENT, orient="row")
    rows = rows.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    catalog = pl.DataFrame(list(items.values()), schema=_ITEM) if items else None
    return Prepared(rows, catalog, dict(reasons), of=rows.height + reasons.total())


def _require_one(rows: pl.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise SourceError when none of the columns is there."""
    if not set(columns) & set(rows.columns):
        require(rows.columns, columns[:1], name)


def _ids(rows: pl.DataFrame, columns: Sequence[str]) -> list[str | None]:
    """The ids in the first of the columns that is there; None where there is no id."""
    column = next((column for column in columns if column in rows.columns), None)
    given = [None] * rows.height if column is None else rows[column].to_list()
    return [_id(value) for value in given]


class _Sold:
    """The purchases of the files: their items by transaction, and how many pieces nobody has sent back."""

    def __init__(self, names: pl.Series, items: Sequence[Any], orders: Sequence[Any]) -> None:
        self.items: dict[str | None, list[dict[str, Any]]] = {}
        self._left = Counter[tuple[str, str | None]]()
        for event, found, order in zip(names, items, orders, strict=True):
            if event == "purchase" and (number := _transaction(order)):
                self.items[number] = found or []
                for item in found or []:
                    self._left[number, _ga4_id(item)] += _pieces(item)

    def take_back(self, order: Any, item: Mapping[str, Any]) -> bool:
        """Send pieces back; whether none is left, or nothing is known of the purchase."""
        line = (_transaction(order) or "", _ga4_id(item))
        if line not in self._left:
            return True
        self._left[line] -= _pieces(item)
        return self._left[line] <= 0


def _pieces(item: Mapping[str, Any]) -> int:
    return int(_float(item.get("quantity")) or 1)


def _ga4_id(item: Mapping[str, Any]) -> str | None:
    return _id(item.get("item_id")) or _id(item.get("item_name"))


def _transaction(order: Any) -> str | None:
    return _id(order.get("transaction_id")) if isinstance(order, dict) else None


def _ga4_item(identifier: str, item: Mapping[str, Any]) -> dict[str, Any]:
    levels = [_id(item.get(f"item_category{at}")) for at in ("", 2, 3, 4, 5)]
    return {
        "item_id": identifier,
        "title": item.get("item_name"),
        "brand": _id(item.get("item_brand")),
        "category": " > ".join(filter(None, levels)) or None,
        "price": _float(item.get("price")),
    }


def _matomo_items(action: Mapping[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
    """The kind of an action, None when it is none that counts, and its items."""
    if sku := _id(action.get("productViewSku")):
        view = {
            "itemSKU": sku,
            "itemName": action.get("productViewName"),
            "categories": action.get("productViewCategories"),
            "price": action.get("productViewPrice"),
        }
        return "view", list(_matomo_catalog([view]))
    return _MATOMO.get(str(action.get("type"))), list(_matomo_catalog(action.get("itemDetails") or []))


def _matomo_catalog(details: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in details:
        yield {
            "item_id": _id(item.get("itemSKU")),
            "title": item.get("itemName"),
            "brand": None,
            "category": " > ".join(item.get("categories") or []) or None,
            "price": _float(item.get("price")),
            "quantity": item.get("quantity"),
        }


def _nested(values: pl.Series) -> list[Any]:
    """Nested values as Python objects: columns of Parquet have them, those of JSON lines hold them as text."""
    return [json.loads(value) if isinstance(value, str) else value for value in values.to_list()]


def _id(value: Any) -> str | None:
    """Text that says something; Google Analytics writes (not set) where there is nothing."""
    text = "" if value is None else str(value).strip()
    return text if text and text != "(not set)" else None


def _whole(value: Any) -> int | None:
    """A whole number; BigQuery writes those of 64 bits as text."""
    text = str(value)
    return int(text) if text.isdecimal() else None


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _product(price: Any, quantity: Any) -> float | None:
    amount = _float(price)
    return None if amount is None else amount * (_float(quantity) or 1.0)
