"""Exports of shop systems and of web analytics come in with their own names of columns; every row is accounted for."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from importing import put, stored
from tiny import quiet

from recsys.config.settings import Config
from recsys.errors import SourceError
from recsys.source import dataset as source
from recsys.source.analytics import NO_ITEMS, OTHER_EVENT, RETURNED_IN_PART
from recsys.source.analytics import NO_USER as NO_PERSON
from recsys.source.exports import IMAGE, NO_PRODUCT, NO_SALE, NO_USER, REFUNDED_IN_PART
from recsys.source.people import consent_of, read_people
from recsys.store.database import Store
from recsys.store.visitors import read_visitors

DAY = 86_400_000_000
MAY = 1_777_636_800_000_000  # 2026-05-01 12:00 UTC


def csv(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8-sig")
    return path


def catalog(store: Store) -> dict[str, dict[str, Any]]:
    loaded = source.load(Config(), store, now=MAY + 9 * DAY, progress=quiet).catalog
    rows = loaded.columns.to_pylist()
    return {found: {k: v for k, v in row.items() if v is not None} for found, row in zip(loaded.ids, rows, strict=True)}


def visits(store: Store) -> list[tuple[Any, ...]]:
    """The stored events without a user."""
    events = store.tables.events.c
    columns = (events.visitor_id, events.item_id, events.kind, events.occurred_at)
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns).where(events.user_id.is_(None)))]


ORDERS = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Currency,Total,Created at,Lineitem quantity,"
    "Lineitem name,Lineitem price,Lineitem sku,Cancelled at,Refunded Amount,Id"
)
SOLD = [
    "#1001,Ann@Example.com,paid,2026-05-01 08:00:00 -0400,fulfilled,EUR,70.00,2026-05-01 08:00:00 -0400,2,Mug - Red,"
    "10.00,MUG-R,,0.00,1",
    "#1001,Ann@Example.com,,,,,,2026-05-01 08:00:00 -0400,1,Poster,50.00,,,,",
    "#1002,,paid,,,EUR,5.00,2026-05-01 14:00:00 +0200,1,Pen,5.00,PEN,,0.00,2",
    "#1003,bob@example.com,paid,,,EUR,5.00,2026-05-02 14:00:00 +0200,1,Pen,5.00,PEN,,0.00,3",
    "#1003,,,,,,,,1,,5.00,,,,",
    "#1004,bob@example.com,pending,,,EUR,5.00,2026-05-03 14:00:00 +0200,1,Pen,5.00,PEN,2026-05-03 15:00:00 +0200,,4",
]


def test_orders_of_shopify(store: Store, tmp_path: Path) -> None:
    done = put(store, csv(tmp_path / "orders_export.csv", ORDERS, *SOLD), preset="shopify")
    assert (done.rows, done.left_out) == (6, {NO_USER: 1, NO_PRODUCT: 1, NO_SALE: 1})
    assert stored(store) == [
        ("ann@example.com", "MUG-R", "purchase", MAY, 20.0),
        ("ann@example.com", "Poster", "purchase", MAY, 50.0),
        ("bob@example.com", "PEN", "purchase", MAY + DAY, 5.0),
    ]


def test_a_refund_in_part_takes_nothing_back_and_is_told(sqlite_store: Store, tmp_path: Path) -> None:
    rows = [row.replace("Ann@Example.com,paid", "Ann@Example.com,partially_refunded") for row in SOLD]
    done = put(sqlite_store, csv(tmp_path / "orders.csv", ORDERS, *rows), preset="shopify")
    assert [(found.severity, found.rows) for found in done.findings if found.reason == REFUNDED_IN_PART] == [
        ("note", 2)
    ]
    assert [row[1] for row in stored(sqlite_store)] == ["MUG-R", "Poster", "PEN"]


def test_an_order_refunded_later_is_taken_back_by_the_next_export(sqlite_store: Store, tmp_path: Path) -> None:
    put(sqlite_store, csv(tmp_path / "may.csv", ORDERS, *SOLD), preset="shopify")
    refunded = [row.replace("bob@example.com,paid", "bob@example.com,refunded") for row in SOLD]
    done = put(sqlite_store, csv(tmp_path / "june.csv", ORDERS, *refunded), preset="shopify")
    assert (done.inserted, done.already_there, done.corrected) == (0, 2, 1)
    assert {row[0] for row in stored(sqlite_store)} == {"ann@example.com"}


PRODUCTS = (
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Published,Option1 Name,Option1 Value,Variant SKU,"
    "Variant Inventory Tracker,Variant Inventory Qty,Variant Inventory Policy,Variant Price,Image Src,Status"
)


def test_products_of_shopify(sqlite_store: Store, tmp_path: Path) -> None:
    path = csv(
        tmp_path / "products_export.csv",
        PRODUCTS,
        'mug,Mug,"<p>Big, ""round""\n\nand red</p>",Potter,Home > Mugs,,true,Color,Red,MUG-R,shopify,3,deny,10.00,'
        "m.jpg,active",
        "mug,,,,,,,,Blue,MUG-B,shopify,0,deny,11.00,,",
        "mug,,,,,,,,,,,,,,m2.jpg,",
        "poster,Poster,,Painter,,Prints,true,Title,Default Title,,,,,50.00,p.jpg,draft",
        "pen,Pen,,Writer,,Pens,true,Title,Default Title,PEN,shopify,0,continue,5.00,,active",
    )
    done = put(sqlite_store, path, preset="shopify")
    assert (done.what, done.rows, done.inserted, done.left_out) == ("items", 5, 4, {IMAGE: 1})
    put(sqlite_store, csv(tmp_path / "orders_export.csv", ORDERS, *SOLD), preset="shopify")
    items = catalog(sqlite_store)
    assert items["MUG-R"] == {
        "title": "Mug - Red",
        "brand": "Potter",
        "category": "Home > Mugs",
        "price": 10.0,
        "available": True,
        "image_url": "m.jpg",
        "product": "mug",
    }
    assert {name: row["available"] for name, row in items.items()} == {
        "MUG-R": True,
        "MUG-B": False,
        "Poster": False,
        "PEN": True,
    }
    assert (items["MUG-B"]["title"], items["MUG-B"]["image_url"]) == ("Mug - Blue", "m.jpg")


@pytest.mark.parametrize("consent", ["Accepts Email Marketing", "Accepts Marketing"])
def test_customers_of_shopify(sqlite_store: Store, tmp_path: Path, consent: str) -> None:
    header = f"Customer ID,First Name,Last Name,Email,{consent},Phone,Total Spent,Total Orders"
    path = csv(
        tmp_path / "c.csv",
        header,
        "1,Ann,A,Ann@example.com,yes,'+49,1,1",
        "2,Bo,B,,no,,,",
        "3,Cy,C,cy@example.com,no,,,",
    )
    done = put(sqlite_store, path, preset="shopify")
    assert (done.what, done.inserted, done.left_out) == ("users", 2, {NO_USER: 1})
    found = consent_of(read_people(Config(), sqlite_store), pl.Series(["ann@example.com", "cy@example.com"]))
    assert found.to_pylist() == [True, False]


def test_what_is_no_export_of_shopify_is_told_of_all_three(sqlite_store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"x\.csv is none of Shopify's exports; found: a, b; orders need Name, Email"):
        put(sqlite_store, csv(tmp_path / "x.csv", "a,b", "1,2"), preset="shopify")


def test_products_of_woocommerce(sqlite_store: Store, tmp_path: Path) -> None:
    header = (
        'ID,Type,SKU,"GTIN, UPC, EAN, or ISBN",Name,Published,"Is featured?","Visibility in catalog","In stock?",Stock,'
        '"Sale price","Regular price",Categories,Images,Parent,Brands'
    )
    path = csv(
        tmp_path / "wc-product-export.csv",
        header,
        '7,variable,TEE,,Tee,1,0,visible,1,,,,"Clothing > Shirts, Sale","a.jpg, b.jpg",,Weaver',
        '8,variation,TEE-S,,Tee - S,1,0,visible,1,4,"9,50","1.012,00",,,id:7,',
        "9,simple,CAP,,Cap,1,0,visible,0,0,,15,Clothing > Hats,,,",
        "10,simple,BAG,,Bag,-1,0,visible,backorder,,,20,,,,",
    )
    assert put(sqlite_store, path, preset="woocommerce").inserted == 4
    put(
        sqlite_store,
        csv(tmp_path / "e.csv", "user_id,item_id,event,timestamp", "a,7,view,2026-05-01", "b,8,view,2026-05-01"),
    )
    items = catalog(sqlite_store)
    assert (items["7"]["category"], items["7"]["image_url"], items["7"]["brand"]) == (
        "Clothing > Shirts",
        "a.jpg",
        "Weaver",
    )
    assert {name: (row.get("price"), row["available"]) for name, row in items.items()} == {
        "7": (None, True),
        "8": (9.5, True),
        "9": (15.0, False),
        "10": (20.0, False),
    }


def test_a_merchant_feed(sqlite_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "feed.txt"
    path.write_text(
        "id\ttitle\tdescription\tlink\timage_link\tavailability\tprice\tsale_price\tproduct_type\tbrand\titem_group_id\n"
        'MUG-R\tMug 12" tall\tred, "round"\thttps://shop.example/mug\thttps://shop.example/m.jpg\tin_stock\t15.00\t12.00'
        "\tHome > Mugs\tPotter\tMUG\n"
    )
    done = put(sqlite_store, path, preset="merchant-feed")
    assert (done.what, done.inserted) == ("items", 1)
    put(
        sqlite_store,
        csv(tmp_path / "e.csv", "user_id,item_id,event,timestamp", "a,MUG-R,view,2026-05-01", "b,X,view,2026-05-01"),
    )
    found = catalog(sqlite_store)["MUG-R"]
    assert {name: found[name] for name in ("title", "price", "category", "image_url", "item_group_id")} == {
        "title": 'Mug 12" tall',
        "price": 12.0,
        "category": "Home > Mugs",
        "image_url": "https://shop.example/m.jpg",
        "item_group_id": "MUG",
    }


MUG = {
    "item_id": "MUG-R",
    "item_name": "Mug",
    "item_brand": "(not set)",
    "item_category": "Home",
    "item_category2": "Mugs",
    "price": 10.0,
    "quantity": "2",
}
PEN = {"item_id": "PEN", "item_name": "Pen", "price": 5.0}


def ga4_event(name: str, items: Any, day: int = 0, user: str | None = "ann", **more: Any) -> dict[str, Any]:
    return {
        "event_date": "20260501",
        "event_timestamp": str(MAY + day * DAY),
        "event_name": name,
        "user_id": user,
        "user_pseudo_id": "123.456",
        "ecommerce": more or None,
        "items": items,
    }


GA4 = [
    ga4_event("page_view", []),
    ga4_event("view_item", [MUG]),
    ga4_event("view_item", [PEN], user=None) | {"user_pseudo_id": "77.8"},
    ga4_event("view_item", [MUG], user="(not set)") | {"user_pseudo_id": None},
    ga4_event("add_to_cart", [MUG]),
    ga4_event("purchase", [MUG, PEN], transaction_id="T1"),
    ga4_event("purchase", []),
    ga4_event("refund", [MUG | {"quantity": "1"}], 1, transaction_id="T1"),
    ga4_event("refund", [], 1, transaction_id="T1"),
]


@pytest.mark.parametrize("form", [".jsonl", ".parquet"])
def test_events_of_google_analytics(sqlite_store: Store, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"events_20260501{form}"
    if form == ".jsonl":
        path.write_text("".join(json.dumps(event) + "\n" for event in GA4))
    else:
        pl.DataFrame(GA4, infer_schema_length=None).write_parquet(path)
    done = put(sqlite_store, path, preset="ga4")
    reasons = {OTHER_EVENT: 1, NO_PERSON: 1, NO_ITEMS: 1, RETURNED_IN_PART: 1}
    assert (done.rows, done.inserted, done.left_out, done.items) == (11, 7, reasons, 2)
    assert visits(sqlite_store) == [("77.8", "PEN", "view", MAY)]
    assert read_visitors(sqlite_store).merged == {"123.456": "ann"}
    assert [row[1:] for row in stored(sqlite_store) if row[0]] == [
        ("MUG-R", "cart", MAY, 20.0),
        ("MUG-R", "purchase", MAY, 20.0),
        ("MUG-R", "return", MAY + DAY, None),
        ("MUG-R", "view", MAY, None),
        ("PEN", "purchase", MAY, 5.0),
        ("PEN", "return", MAY + DAY, None),
    ]


def test_visits_of_matomo(sqlite_store: Store, tmp_path: Path) -> None:
    order = {
        "type": "ecommerceOrder",
        "orderId": "7",
        "revenue": 25,
        "timestamp": MAY // 1_000_000,
        "itemDetails": [
            {"itemSKU": "MUG-R", "itemName": "Mug", "categories": ["Home", "Mugs"], "price": 10, "quantity": 2},
            {"itemSKU": "PEN", "itemName": "Pen", "categories": [], "price": 5, "quantity": 1},
        ],
    }
    view = {
        "type": "action",
        "timestamp": MAY // 1_000_000,
        "productViewSku": "PEN",
        "productViewName": "Pen",
        "productViewPrice": 5,
        "productViewCategories": ["Pens"],
    }
    page = {"type": "action", "timestamp": MAY // 1_000_000, "url": "https://shop.example"}
    given = [
        {"idVisit": 1, "visitorId": "1f", "userId": "ann", "actionDetails": [page, view, order]},
        {"idVisit": 2, "visitorId": "2f", "userId": None, "actionDetails": [view]},
        {"idVisit": 3, "visitorId": "3f", "userId": "bob", "actionDetails": []},
        {"idVisit": 4, "visitorId": "", "userId": None, "actionDetails": [view]},
    ]
    (tmp_path / "visits.json").write_text(json.dumps(given))
    done = put(sqlite_store, tmp_path / "visits.json", preset="matomo")
    assert (done.rows, done.inserted, done.left_out) == (7, 4, {OTHER_EVENT: 1, NO_PERSON: 1, NO_ITEMS: 1})
    assert visits(sqlite_store) == [("2f", "PEN", "view", MAY)]
    assert [row for row in stored(sqlite_store) if row[0]] == [
        ("ann", "MUG-R", "purchase", MAY, 20.0),
        ("ann", "PEN", "purchase", MAY, 5.0),
        ("ann", "PEN", "view", MAY, None),
    ]
    # Somebody known at the device later: what was looked at before belongs to the same person.
    assert read_visitors(sqlite_store).merged == {"1f": "ann"}


def test_analytics_without_any_column_of_people_are_refused(sqlite_store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"actionDetails": []}]))
    with pytest.raises(SourceError, match="lacks userId"):
        put(sqlite_store, tmp_path / "a.json", preset="matomo")
