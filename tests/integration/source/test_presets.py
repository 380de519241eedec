"""Presets read well-known files, and account for every row of them."""

from pathlib import Path

import pytest
from importing import NOON, put, stored
from tiny import quiet

from recsys.config.settings import Config
from recsys.source import dataset as source
from recsys.source.importer import DUPLICATE
from recsys.source.presets import LONE_RETURN, NO_PRICE, NO_PRODUCT, NO_QUANTITY, NO_USER, RETURN, RETURNED
from recsys.store.database import Store

RETAIL = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def retail(path: Path, *lines: str) -> Path:
    path.write_text(RETAIL + "".join(f"{line},United Kingdom\n" for line in lines))
    return path


def test_online_retail_accounts_for_every_row(store: Store, tmp_path: Path) -> None:
    path = retail(
        tmp_path / "r.csv",
        "1,85123A,HEART HOLDER,6,2011-12-01 08:26:00,2.55,17850.0",
        "2,85123A,HEART HOLDER,4,2011-12-02 08:26:00,2.55,17850.0",
        "3,85123A,heart?,2,2011-12-03 08:26:00,2.95,13047.0",
        "3,85123A,heart?,2,2011-12-03 08:26:00,2.95,13047.0",
        "4,71053,LANTERN,1,2011-12-03 09:00:00,3.39,13047.0",
        "5,71053,LANTERN,2,2011-12-03 09:00:00,3.39,",
        "6,POST,POSTAGE,1,2011-12-03 09:00:00,18.0,13047.0",
        "7,22222,damaged,5,2011-12-03 09:00:00,0.0,13047.0",
        "8,22222,nothing,0,2011-12-03 09:00:00,1.0,13047.0",
        "C9,85123A,HEART HOLDER,-5,2011-12-04 08:26:00,2.55,17850.0",
        "C10,71053,LANTERN,-1,2011-12-05 09:00:00,3.39,13047.0",
        "C11,84029G,BOTTLE,-1,2011-12-05 09:00:00,3.39,13047.0",
    )
    done = put(store, path, preset="online-retail")
    assert done.left_out == {
        NO_USER: 1,
        NO_PRODUCT: 1,
        NO_QUANTITY: 1,
        NO_PRICE: 1,
        RETURN: 2,
        LONE_RETURN: 1,
        RETURNED: 2,
        DUPLICATE: 1,
    }
    # 6 and 4 were bought and 5 went back: of the later purchase nothing is left, of the earlier one 5.
    day = 86_400_000_000
    first = 1_322_727_960_000_000  # 2011-12-01 08:26 UTC
    kept = [(*row[:4], round(row[4], 2)) for row in stored(store)]
    assert kept == [
        ("13047", "85123A", "purchase", first + 2 * day, 5.9),
        ("17850", "85123A", "purchase", first, 12.75),
    ]
    assert put(store, path, preset="online-retail").inserted == 0
    assert len(stored(store)) == 2


MONTHS = [
    "1,11111,A,3,2011-01-03 08:00:00,1,7",
    "2,11111,A,2,2011-01-04 08:00:00,1,7",
    "3,22222,B,1,2011-01-05 08:00:00,1,7",
    "C4,11111,A,-4,2011-02-01 08:00:00,1,7",
    "5,22222,B,1,2011-02-02 08:00:00,1,8",
]


def test_a_return_in_a_longer_file_corrects_what_a_shorter_one_imported(store: Store, tmp_path: Path) -> None:
    assert put(store, retail(tmp_path / "january.csv", *MONTHS[:3]), preset="online-retail").inserted == 3
    both = retail(tmp_path / "both.csv", *MONTHS)
    done = put(store, both, preset="online-retail")
    assert (done.inserted, done.already_there, done.corrected) == (1, 2, 2)
    left = [(*row[:2], row[4]) for row in stored(store)]
    assert left == [("7", "11111", 1.0), ("7", "22222", 1.0), ("8", "22222", 1.0)]
    again = put(store, both, preset="online-retail")
    assert (again.inserted, again.already_there, again.corrected) == (0, 3, 0)
    assert [(*row[:2], row[4]) for row in stored(store)] == left


def test_of_twins_of_which_one_went_back_the_other_stays(sqlite_store: Store, tmp_path: Path) -> None:
    lines = [MONTHS[0], MONTHS[0], "C4,11111,A,-3,2011-02-01 08:00:00,1,7"]
    put(sqlite_store, retail(tmp_path / "r.csv", MONTHS[0]), preset="online-retail")
    assert put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail").corrected == 0
    assert [row[4] for row in stored(sqlite_store)] == [3.0]


def test_both_editions_of_online_retail_are_the_same_events(sqlite_store: Store, tmp_path: Path) -> None:
    path = retail(tmp_path / "one.csv", "1,11111,A,3,2011-01-09 08:05:00,1,7")
    second = tmp_path / "two.csv"
    names = {"InvoiceNo": "Invoice", "UnitPrice": "Price", "CustomerID": "Customer ID"}
    second.write_text(
        ",".join(names.get(name, name) for name in RETAIL.split(",")) + path.read_text().split("\n", 1)[1]
    )
    assert put(sqlite_store, path, preset="online-retail").inserted == 1
    assert put(sqlite_store, second, preset="online-retail").already_there == 1


def test_online_retail_with_the_month_first_is_the_same_file(sqlite_store: Store, tmp_path: Path) -> None:
    """Sorted as text, the return of 10 January would come before the purchase of 9 January."""
    iso = retail(
        tmp_path / "iso.csv",
        "1,11111,A,3,2011-01-09 08:05:00,1,7",
        "2,11111,A,5,2010-12-01 08:26:00,1,7",
        "C3,11111,A,-3,2011-01-10 10:00:00,1,7",
    )
    american = retail(
        tmp_path / "american.csv",
        "1,11111,A,3,1/9/2011 8:05,1,7",
        "2,11111,A,5,12/1/2010 8:26,1,7",
        "C3,11111,A,-3,1/10/2011 10:00,1,7",
    )
    config = Config.model_validate({"source": {"time_format": "%d.%m.%Y"}})  # of the other files: presets know theirs
    assert put(sqlite_store, american, preset="online-retail", config=config).inserted == 1
    assert stored(sqlite_store) == [("7", "11111", "purchase", 1_291_191_960_000_000, 5.0)]
    again = put(sqlite_store, iso, preset="online-retail")
    assert (again.inserted, again.already_there) == (0, 1)


@pytest.mark.parametrize(
    "lines", [[], ["C1,11111,A,-1,2011-01-09 08:00:00,1,7"], ["1,POST,A,1,2011-01-09 08:00:00,1,7"]]
)
def test_online_retail_without_a_sale_is_an_empty_import(sqlite_store: Store, tmp_path: Path, lines: list[str]) -> None:
    done = put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail")
    assert (done.inserted, done.items) == (0, 0)


def test_a_sale_of_no_readable_time_still_has_a_price(sqlite_store: Store, tmp_path: Path) -> None:
    lines = [f"{at},11111,A,1,{'soon' if at == 0 else f'2011-01-09 08:00:{at:02}'},2,7" for at in range(50)]
    config = Config.model_validate({"source": {"max_bad_share": 0.5}})
    done = put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail", config=config)
    assert (done.inserted, done.items, done.left_out) == (49, 1, {"unreadable time": 1})
    assert "soon" in done.findings[0].examples[0]


def test_online_retail_names_and_prices_its_products(sqlite_store: Store, tmp_path: Path) -> None:
    path = retail(
        tmp_path / "r.csv",
        "1,85123A,OLD NAME,1,2011-01-01 08:00:00,9.00,1.0",
        "2,85123A,HEART,1,2011-11-01 08:00:00,2.00,1.0",
        "3,85123A,HEART,1,2011-12-01 08:00:00,3.00,2.0",
        "4,85123A,WRONG,1,2011-12-01 09:00:00,7.00,",
        "5,71053,LANTERN,1,2011-01-01 08:00:00,4.00,2.0",
        "6,71053,,1,2011-01-02 08:00:00,5.00,2.0",
        "7,22222,SMASHED,-5,2011-12-01 08:00:00,0.00,",
    )
    assert put(sqlite_store, path, preset="online-retail").items == 2
    loaded = source.load(Config(), sqlite_store, now=NOON, progress=quiet)
    rows = dict(zip(loaded.catalog.ids, loaded.catalog.columns.select(["title", "price"]).to_pylist(), strict=True))
    assert rows == {"85123A": {"title": "HEART", "price": 3.0}, "71053": {"title": "LANTERN", "price": 4.5}}


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-3,2011-01-01 08:00:00,1,7"], []),
        (["C2,11111,A,-3,2011-01-01 07:00:00,1,7", "1,11111,A,3,2011-01-01 08:00:00,1,7"], [3.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-3,2011-01-02 08:00:00,1,8"], [3.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,22222,A,-3,2011-01-02 08:00:00,1,7"], [3.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-2,2011-01-02 08:00:00,1,7"], [1.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-9,2011-01-02 08:00:00,1,7"], []),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,2,2011-01-02 08:00:00,1,7"], [1.0]),
        (
            [
                "1,11111,A,3,2011-01-01 08:00:00,1,7",
                "C2,11111,A,-3,2011-01-02 08:00:00,1,7",
                "3,11111,A,2,2011-01-03 08:00:00,1,7",
            ],
            [2.0],
        ),
    ],
    ids=[
        "same moment",
        "return first",
        "other customer",
        "other product",
        "a part",
        "too much",
        "no sign",
        "bought again",
    ],
)
def test_a_return_takes_off_earlier_purchases_of_that_customer(
    sqlite_store: Store, tmp_path: Path, lines: list[str], left: list[float]
) -> None:
    put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail")
    assert [row[4] for row in stored(sqlite_store)] == left


@pytest.mark.parametrize(
    "header", ["user_id,item_id,event,timestamp", "timestamp,visitorid,event,itemid,transactionid"]
)
@pytest.mark.parametrize("scale", [1, 1000])
def test_retailrocket_in_both_its_forms(sqlite_store: Store, tmp_path: Path, header: str, scale: int) -> None:
    rows = [
        {"visitorid": "7", "itemid": "9", "event": event, "timestamp": str((1_430_623_510 + at) * scale)}
        for at, event in enumerate(("view", "addtocart", "cart", "transaction", "buy"))
    ]
    names = header.split(",")
    renamed = {"user_id": "visitorid", "item_id": "itemid"}
    lines = [",".join(row.get(renamed.get(name, name), "") for name in names) for row in rows]
    path = tmp_path / "events.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    assert put(sqlite_store, path, preset="retailrocket", config=Config()).inserted == 5
    found = sorted(stored(sqlite_store), key=lambda row: row[3])
    assert [row[2] for row in found] == ["view", "cart", "cart", "purchase", "purchase"]
    assert [row[3] for row in found] == [(1_430_623_510 + at) * 1_000_000 for at in range(5)]
