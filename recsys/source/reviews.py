"""The reviews of items: who wrote what of which item, and how many stars were given."""

from contextlib import closing

import polars as pl

from recsys.config.settings import Config, SourceSettings
from recsys.source.catalog import Entries, read_items
from recsys.source.contract import Select
from recsys.source.events import require
from recsys.source.findings import EXAMPLES, Finding, Severity
from recsys.source.ids import read_ids
from recsys.source.known import convert
from recsys.source.languages import choose_language
from recsys.source.prices import read_prices
from recsys.source.results import open_own, open_shop
from recsys.source.values import read_texts
from recsys.store.database import Store
from recsys.store.reviews import CONTENT
from recsys.store.tables import MAX_ID_LENGTH, own_queries
from recsys.store.users import read_deletions

STARS = 5.0  # of the best rating, whatever the shop's scale


def read_reviews(config: Config, store: Store) -> Entries:
    """Read the query of reviews, and those that were imported: see `normalize_reviews` for the columns.

    What a deleted user wrote before the deletion is left out. Raises SourceError when they cannot be read.
    """
    table = store.tables.reviews
    parts = []
    with closing(open_own(store)) as own:
        columns = ", ".join(column.name for column in table.columns if column.name != "review_id")
        rows = own.table(Select(f"SELECT {columns} FROM {table.name}"), "imported reviews")
        parts.append(normalize_reviews(rows, "imported reviews", config.source, own=True))
    if config.source.reviews is not None:
        with closing(open_shop(config, store)) as shop:
            query = shop.query(config.source.reviews, "reviews")
            require(query.columns, ("item_id",), query.origin)
            rows = shop.table(shop.dialect.select_items(query), "reviews")
            parts.append(normalize_reviews(rows, "reviews", config.source))
    frame = pl.concat([part.frame for part in parts])
    deletions = read_deletions(store)
    gone = pl.DataFrame(
        {"user_id": list(deletions), "until": list(deletions.values())},
        schema={"user_id": pl.String, "until": pl.Int64},
    )
    kept = frame.join(gone, on="user_id", how="left", maintain_order="left")
    kept = kept.filter((pl.col("time") > pl.col("until")).fill_null(pl.col("until").is_null())).drop("until")
    return Entries(kept, tuple(finding for part in parts for finding in part.findings))


def read_titles(config: Config, store: Store) -> dict[str, str]:
    """item_id -> title, where the catalog has one. Raises SourceError when it cannot be read."""
    is_own = config.source.interactions is None
    query = own_queries(store.tables)[1] if is_own else config.source.items
    if query is None:
        return {}
    with closing(open_shop(config, store)) as shop:
        items = read_items(shop, query, "items", config.source, own=is_own).frame
    if "title" not in items.columns:
        return {}
    return dict(items.select("item_id", "title").drop_nulls().iter_rows())


def normalize_reviews(rows: pl.DataFrame, name: str, settings: SourceSettings, *, own: bool = False) -> Entries:
    """Convert reviews to item_id, user_id, stars, text, time and language.

    stars: Float64 from 0 to 5; time: Int64 microseconds UTC; the others are String. Only item_id and text are never
    null.

    rows: item_id and, if there, user_id, rating (of [source] best_rating), title, text, time or timestamp, language.
    A row without a usable item_id, and one with neither a rating nor a text, is left out.
    """
    findings: list[Finding] = []
    if own:
        rows = rows.rename({"stars": "rating"}) if "stars" in rows.columns else rows
    best = STARS if own else settings.best_rating
    ids = read_ids(rows["item_id"], name, exact=own)
    texts = _texts(rows, settings)
    stars, unread = _stars(rows, best)
    times = _times(rows, settings, own)
    nothing = pl.repeat(None, rows.height, dtype=pl.String, eager=True)
    users = read_ids(rows["user_id"], name, exact=own) if "user_id" in rows.columns else nothing
    frame = pl.DataFrame(
        [
            ids.alias("item_id"),
            users.set(users.is_in(settings.guest_ids), None).alias("user_id"),
            stars.alias("stars"),
            texts.alias("text"),
            times.alias("time"),
            (read_texts(rows["language"]) if "language" in rows.columns else nothing).alias("language"),
        ]
    )
    unusable = (
        ids.is_null() | (ids == "") | (ids.str.len_chars() > MAX_ID_LENGTH) | ids.str.contains("\x00", literal=True)
    )
    unusable = unusable.fill_null(True)
    empty = stars.is_null() & (texts == "")
    for reason, lost, advice in (
        (f"{name} without a usable item_id", unusable, "the row is left out"),
        (f"{name} with neither rating nor text", empty & ~unusable, "the row is left out"),
    ):
        if lost.any():
            findings.append(_finding(reason, rows.filter(lost)["item_id"], rows.height, advice, is_left_out=True))
    if unread.any():
        advice = f"allowed are numbers from 0 to {best:g} ([source] best_rating); the review counts as not rated"
        findings.append(
            _finding(f"rating of {name} cannot be read", rows.filter(unread)["rating"], rows.height, advice)
        )
    kept = frame.filter(~unusable & ~empty)
    # Of people without an id several may well write the same.
    again = kept["user_id"].is_not_null() & ~kept.select(pl.struct(CONTENT).is_first_distinct()).to_series()
    if again.any():
        findings.append(_finding("duplicate row", kept.filter(again)["item_id"], rows.height, "", is_left_out=True))
    return Entries(kept.filter(~again), tuple(findings))


def _texts(rows: pl.DataFrame, settings: SourceSettings) -> pl.Series:
    """Title and text of each review in one: [n], empty where there is neither."""
    parts = [
        choose_language(read_texts(rows[column]), settings.language, ", ")
        .texts.fill_null("")
        .str.replace_all("\x00", "")
        for column in ("title", "text")
        if column in rows.columns
    ]
    if not parts:
        return pl.repeat("", rows.height, dtype=pl.String, eager=True)
    return pl.select(pl.concat_str(parts, separator=". ").str.strip_chars(". ") if parts[1:] else parts[0]).to_series()


def _stars(rows: pl.DataFrame, best: float) -> tuple[pl.Series, pl.Series]:
    """Ratings as stars of five, and where there is one that cannot be read: [n] each."""
    if "rating" not in rows.columns:
        nothing = pl.repeat(None, rows.height, dtype=pl.Float64, eager=True)
        return nothing, nothing.is_not_null()
    given = rows["rating"]
    numbers = read_prices(given).numbers
    numbers = numbers.set(~numbers.is_between(0, best).fill_null(True), None)
    return numbers * (STARS / best), given.is_not_null() & numbers.is_null()


def _times(rows: pl.DataFrame, settings: SourceSettings, own: bool) -> pl.Series:
    column = next((name for name in ("time", "timestamp", "created_at") if name in rows.columns), None)
    if column is None:
        return pl.repeat(None, rows.height, dtype=pl.Int64, eager=True)
    return convert(rows[column].alias("created_at"), settings, own=own).values


def _finding(reason: str, lost: pl.Series, of: int, advice: str, *, is_left_out: bool = False) -> Finding:
    severity: Severity = "error" if is_left_out and len(lost) == of else "warning"
    examples = tuple(f"{lost.name}={value!r}" for value in lost.head(EXAMPLES).to_list())
    return Finding(severity, reason, len(lost), of, examples, advice, left_out=is_left_out)
