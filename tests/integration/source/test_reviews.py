"""Reviews come in from files and from the shop's query, each once, and go with their writer."""

from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from importing import CONFIG
from tiny import quiet

from jobs.reviews import report
from recsys.config.settings import Config, SourceSettings, StoreSettings
from recsys.errors import ConfigError, RefusedError
from recsys.source.importer import import_files
from recsys.source.reviews import read_reviews
from recsys.store.database import Store
from recsys.store.users import delete_user

FILE = """item_id,user_id,rating,title,text,time
1,a,5,Good,It works,2026-01-02T10:00:00Z
1,a,5,Good,It works,2026-01-02T10:00:00Z
1,,2,,Broken,2026-01-03
1,,2,,Broken,2026-01-03
2,b,,,Schön ☕,2026-01-04
,b,1,,No item,2026-01-04
2,b,,,,2026-01-04
2,c,seven,,Fine,
"""


def imported(store: Store, path: Path) -> tuple[int, int, dict[str, int]]:
    path.write_text(FILE, encoding="utf-8")
    done = import_files(CONFIG, store, [path], what="reviews", progress=quiet)
    assert done.rows == done.inserted + done.already_there + sum(done.left_out.values())
    return done.inserted, done.already_there, done.left_out


def test_an_import_keeps_each_review_once_and_says_what_it_left_out(store: Store, tmp_path: Path) -> None:
    inserted, _, left_out = imported(store, tmp_path / "r.csv")
    assert inserted == 5
    assert sum(left_out.values()) == 3
    assert imported(store, tmp_path / "r.csv")[:2] == (0, 5)
    found = read_reviews(CONFIG, store).frame.sort("item_id", "time", "text", nulls_last=True)
    assert found.select("item_id", "user_id", "stars", "text").rows() == [
        ("1", "a", 5.0, "Good. It works"),
        ("1", None, 2.0, "Broken"),
        ("1", None, 2.0, "Broken"),
        ("2", "b", None, "Schön ☕"),
        ("2", "c", None, "Fine"),
    ]


def test_reviews_go_with_the_user_who_is_deleted(store: Store, tmp_path: Path) -> None:
    imported(store, tmp_path / "r.csv")
    delete_user(store, "a", now=store.now())
    assert "a" not in read_reviews(CONFIG, store).frame["user_id"].to_list()
    with store.reading() as connection:
        assert connection.scalar(sa.text(f"SELECT COUNT(*) FROM {store.tables.reviews.name}")) == 4
    inserted, _, left_out = imported(store, tmp_path / "r.csv")
    assert inserted == 0
    assert left_out["review of a deleted user"] == 1


def test_the_shops_query_counts_beside_what_was_imported(sqlite_store: Store, tmp_path: Path) -> None:
    shop = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    with shop.begin() as connection:
        connection.execute(sa.text("CREATE TABLE opinions (sku INTEGER, who TEXT, points INTEGER, words TEXT)"))
        connection.execute(sa.text("INSERT INTO opinions VALUES (7, 'd', 10, 'Very good'), (7, 'e', 2, 'It leaks')"))
    query = "SELECT sku AS item_id, who AS user_id, points AS rating, words AS text FROM opinions"
    source = SourceSettings(
        url=f"sqlite:///{tmp_path}/shop.db", interactions="SELECT 1", reviews=query, best_rating=10.0
    )
    config = Config(store=StoreSettings(url=str(sqlite_store.engine.url)), source=source)
    delete_user(sqlite_store, "e", now=sqlite_store.now())  # when it was written is not known
    found = read_reviews(config, sqlite_store).frame
    assert found.select("item_id", "user_id", "stars").rows() == [("7", "d", 5.0)]


def test_the_report_is_written_whole_and_guards_a_spreadsheet(sqlite_store: Store, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"store": StoreSettings(url=str(sqlite_store.engine.url))})
    with pytest.raises(RefusedError, match="there are no reviews"):
        report(config, out=None, progress=quiet)
    with pytest.raises(ConfigError, match=r"ends with \.html, \.csv"):
        report(config, out=tmp_path / "r.xls", progress=quiet)
    (tmp_path / "r.csv").write_text('item_id,rating,text\n=1+1,1,It broke\n"=1+1",,Bad and ugly\n', encoding="utf-8")
    import_files(config, sqlite_store, [tmp_path / "r.csv"], what="reviews", progress=quiet)
    done = report(config, out=tmp_path / "out.csv", progress=quiet)
    assert pl.read_csv(tmp_path / "out.csv")["item_id"].to_list() == ["'=1+1"]
    assert "English words" in done.data["judged"]
    report(config, out=tmp_path / "out.html", progress=quiet)
    assert "Most complaints" in (tmp_path / "out.html").read_text(encoding="utf-8")
