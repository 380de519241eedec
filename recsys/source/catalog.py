"""The shop's items and users: known columns converted to their types, ids made unique."""

import json
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from recsys.data.catalog import Catalog
from recsys.data.vocabulary import Vocabulary
from recsys.source.contract import USER_COLUMNS
from recsys.source.events import require
from recsys.source.findings import EXAMPLES, Finding
from recsys.source.reader import Reader
from recsys.source.values import frame_of_objects, read_booleans, read_numbers, read_texts, read_times
from recsys.store.tables import MAX_ID_LENGTH

TEXTS = ("title", "category", "brand", "image_url")
KNOWN = (*TEXTS, "price", "available", "created_at")


@dataclass(frozen=True)
class Entries:
    """Items or users: item_id or user_id (String, unique) and the other columns in their types."""

    frame: pl.DataFrame
    findings: tuple[Finding, ...]


NO_ITEMS = Entries(pl.DataFrame(schema={"item_id": pl.String}), ())  # a shop without a query of items


def read_items(
    reader: Reader, query: str, name: str, zone: str | None, form: str | None = None, *, own: bool
) -> Entries:
    """Read a query of items.

    own: the query reads the own tables, where unknown columns lie in one JSON object. zone, form: as in `read_times`.
    Raises SourceError when the query fails or returns no item_id.
    """
    shop = reader.query(query, name)
    require(shop.columns, ("item_id",), shop.origin)
    rows = reader.table(reader.dialect.select_items(shop), name)
    if own:
        rows = _unfold(rows)
    return normalize_items(rows, name, zone, form)


def normalize_items(rows: pl.DataFrame, name: str, zone: str | None, form: str | None = None) -> Entries:
    """Convert the known columns to their types; of several rows with one id the first counts.

    zone, form: as in `read_times`; created_at may also be ISO 8601, the form in which drivers' dates arrive.
    """
    return _normalize(rows, "item_id", name, zone, form)


def normalize_users(rows: pl.DataFrame, name: str) -> Entries:
    """Convert the known columns to their types; of several rows with one id the first counts."""
    return _normalize(rows, "user_id", name, None, None)


def read_users(reader: Reader, query: str, name: str) -> Entries:
    """Read user_id and, if present, email_consent. Raises SourceError when the query fails or has no user_id."""
    shop = reader.query(query, name)
    require(shop.columns, ("user_id",), shop.origin)
    wanted = shop.present(USER_COLUMNS)
    rows = pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    batches = reader.batches(reader.dialect.select_users(shop), name)
    if texts := [batch.select(read_texts(batch[column]) for column in wanted) for batch in batches]:
        rows = pl.concat(texts)
    if "email_consent" not in wanted:
        rows = rows.with_columns(email_consent=pl.lit(None, pl.Boolean))
    return normalize_users(rows, name)


def build_catalog(items: pl.DataFrame, extra: list[str]) -> Catalog:
    """Build the catalog: the rows in their order, then rows of nulls for `extra` items, known from events only.

    Without a row there is no catalog to be listed in, and the extra items count as the shop's.
    """
    table = items.drop("item_id")
    if "title" not in table.columns:
        table = table.with_columns(pl.Series("title", [None] * items.height, dtype=pl.String))
    if extra:
        table = pl.concat([table, pl.DataFrame(schema=table.schema).clear(len(extra))])
    columns = table.to_arrow()
    texts = [pa.field(f.name, pa.string()) if f.type == pa.large_string() else f for f in columns.schema]
    return Catalog(
        Vocabulary.from_ids([*items["item_id"].to_list(), *extra]), columns.cast(pa.schema(texts)), items.height or None
    )


def consent_of(users: pl.DataFrame, ids: pl.Series) -> pa.BooleanArray:
    """Look up whether each user may be mailed: true, false, or null where unknown. ids [U] -> [U]."""
    joined = pl.DataFrame({"user_id": ids}).join(users, on="user_id", how="left", maintain_order="left")
    return pa.array(joined["email_consent"].to_list(), pa.bool_())


def _normalize(rows: pl.DataFrame, key: str, name: str, zone: str | None, form: str | None) -> Entries:
    findings: list[Finding] = []
    rows = _unique(rows.with_columns(read_texts(rows[key])), key, name, findings)
    columns = []
    for given in rows.get_columns():
        values = _convert(given, zone, form)
        lost = rows.filter(given.is_not_null() & values.is_null())
        if lost.height:
            advice = "the value counts as unknown"
            findings.append(_finding(f"{given.name} of {name} cannot be read", lost, rows.height, given.name, advice))
        columns.append(values.alias(given.name))
    return Entries(pl.DataFrame(columns), tuple(findings))


def _convert(values: pl.Series, zone: str | None, form: str | None) -> pl.Series:
    if values.name == "price":
        return read_numbers(values)
    if values.name in ("available", "email_consent"):
        return read_booleans(values)
    if values.name == "created_at":
        read = [read_times(values, zone, each).microseconds for each in ((form, None) if form else (None,))]
        return pl.select(pl.coalesce(read)).to_series()
    if values.name not in TEXTS and (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        return values
    return read_texts(values)


def _unique(rows: pl.DataFrame, key: str, name: str, findings: list[Finding]) -> pl.DataFrame:
    """Keep rows with a usable id, the first of each id; add a finding for the others."""
    ids, read = pl.col(key), rows.height
    too_long = ids.str.len_chars() > MAX_ID_LENGTH
    unusable = ids.is_null() | (ids == "") | too_long | ids.str.contains("\x00", literal=True)
    bad = rows.filter(unusable)
    if bad.height:
        advice = "the row is left out"
        findings.append(_finding(f"{name} without a usable {key}", bad, read, key, advice, left_out=True))
        rows = rows.filter(~unusable)
    again = rows.filter(~ids.is_first_distinct())
    if again.height:
        advice = "the first row of an id counts"
        findings.append(_finding(f"{key} of {name} comes twice", again, read, key, advice, left_out=True))
        rows = rows.unique(key, keep="first", maintain_order=True)
    return rows


def _finding(reason: str, rows: pl.DataFrame, of: int, column: str, advice: str, *, left_out: bool = False) -> Finding:
    examples = tuple(f"{column}={value!r}" for value in rows[column].head(EXAMPLES).to_list())
    return Finding("warning", reason, rows.height, of, examples, advice, left_out)


def _unfold(rows: pl.DataFrame) -> pl.DataFrame:
    """Split the JSON object in which the own tables keep unknown columns."""
    if "attributes" not in rows.columns or rows["attributes"].null_count() == rows.height:
        return rows.drop("attributes", strict=False)
    objects = [json.loads(text) if text else {} for text in rows["attributes"].to_list()]
    names = list(dict.fromkeys(name for values in objects for name in values if name not in rows.columns))
    if not names:
        return rows.drop("attributes")
    return rows.drop("attributes").hstack(frame_of_objects(names, objects))
