"""The shop's items and users: known columns converted to their types, ids made unique."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl
import pyarrow as pa

from recsys.config.settings import SourceSettings
from recsys.data.catalog import Catalog
from recsys.data.vocabulary import Vocabulary
from recsys.source.contract import USER_COLUMNS, Select
from recsys.source.events import require
from recsys.source.findings import EXAMPLES, GUESTS, Finding, Severity
from recsys.source.ids import read_ids
from recsys.source.known import convert, marked
from recsys.source.reader import Reader
from recsys.source.values import frame_of_objects, read_texts
from recsys.store.tables import MAX_ID_LENGTH, UNREADABLE


@dataclass(frozen=True)
class Entries:
    """Items or users: item_id or user_id (String, unique) and the other columns in their types."""

    frame: pl.DataFrame
    findings: tuple[Finding, ...]
    unread: pl.DataFrame | None = None  # the rows with values that could not be read: the id, and those values as text


NO_ITEMS = Entries(pl.DataFrame(schema={"item_id": pl.String}), ())  # a shop without a query of items


def read_items(reader: Reader, query: str, name: str, settings: SourceSettings, *, own: bool) -> Entries:
    """Read a query of items.

    own: the query reads the own tables, where unknown columns lie in one JSON object and nothing has to be guessed.
    Raises SourceError when the query fails or returns no item_id, or one of bytes or of floats that hold no id.
    """
    shop = reader.query(query, name)
    require(shop.columns, ("item_id",), shop.origin)
    rows = reader.table(reader.dialect.select_items(shop), name)
    if not own:
        return normalize_items(rows, name, settings)
    rows = _unfold(rows)
    marks = marked(rows, name)
    entries = normalize_items(rows, name, settings, own=True)
    return replace(entries, findings=(*entries.findings, *marks))


def normalize_items(rows: pl.DataFrame, name: str, settings: SourceSettings, *, own: bool = False) -> Entries:
    """Convert the known columns to their types; of several rows with one id the first counts.

    created_at may be ISO 8601 too where `time_format` is set: the form in which drivers' dates arrive. own: as in
    `read_items`. A currency beside the prices becomes the column `currency`.
    """
    return _normalize(rows, "item_id", name, settings, own)


def normalize_users(rows: pl.DataFrame, name: str, settings: SourceSettings, *, own: bool = False) -> Entries:
    """Convert the known columns to their types; of several rows with one id a no to mail counts, else the first.

    A consent that cannot be read is a no. own: as in `read_items`.
    """
    return _normalize(rows, "user_id", name, settings, own)


def read_users(reader: Reader, query: str, name: str, settings: SourceSettings, *, own: bool) -> Entries:
    """Read user_id and, if present, email_consent. own: as in `read_items`.

    Raises SourceError when the query fails or has no user_id, or one of bytes or of floats that hold no id.
    """
    shop = reader.query(query, name)
    require(shop.columns, ("user_id",), shop.origin)
    wanted = shop.present(USER_COLUMNS)
    rows = pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    batches = reader.batches(reader.dialect.select_users(shop), name)
    if texts := [_as_texts(batch, wanted, shop.origin, own) for batch in batches]:
        rows = pl.concat(texts)
    if "email_consent" not in wanted:
        rows = rows.with_columns(email_consent=pl.lit(None, pl.Boolean))
    entries = normalize_users(rows, name, settings, own=own)
    if not own:
        return entries
    select = f"SELECT user_id, attributes FROM {shop.table} WHERE attributes LIKE '%\"{UNREADABLE}\"%'"
    marks = marked(_unfold(reader.table(Select(select, {"user_id": pl.String}), name)), name)
    return replace(entries, findings=(*entries.findings, *marks))


def read_user_columns(
    reader: Reader, query: str, name: str, settings: SourceSettings, *, own: bool
) -> pl.DataFrame | None:
    """Read all columns of a query of users, in their types; None when it has only those that `read_users` reads."""
    shop = reader.query(query, name)
    if set(shop.columns) <= set(USER_COLUMNS):
        return None
    rows = reader.table(Select(shop.text, {"user_id": pl.String}), name)
    return normalize_users(_unfold(rows) if own else rows, name, settings, own=own).frame


def _as_texts(batch: pl.DataFrame, wanted: Sequence[str], origin: str, own: bool) -> pl.DataFrame:
    ids = read_ids(batch["user_id"], origin, exact=own)
    return batch.select(ids, *(read_texts(batch[column]) for column in wanted if column != "user_id"))


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


def _normalize(rows: pl.DataFrame, key: str, name: str, settings: SourceSettings, own: bool) -> Entries:
    findings: list[Finding] = []
    rows = rows.drop(UNREADABLE, strict=False)  # the name is reserved
    rows = _unique(rows.with_columns(read_ids(rows[key], name, exact=own)), key, name, settings, findings)
    columns, unread = [], [rows[key]]
    for given in rows.get_columns():
        read = convert(given, settings, own=own)
        columns.append(read.values)
        if read.currencies is not None and "currency" not in rows.columns:
            columns.append(read.currencies)
        findings += read.findings(name, rows.height, settings.max_bad_share)
        if read.unread.any():
            unread.append(read_texts(given).set(~read.unread, None))
    marks = pl.DataFrame(unread).filter(pl.any_horizontal(pl.exclude(key).is_not_null())) if unread[1:] else None
    return Entries(pl.DataFrame(columns), tuple(findings), marks)


def _unique(rows: pl.DataFrame, key: str, name: str, settings: SourceSettings, findings: list[Finding]) -> pl.DataFrame:
    """Keep rows with a usable id, the first of each id; add a finding for the others."""
    ids, read = pl.col(key), rows.height
    too_long = ids.str.len_chars() > MAX_ID_LENGTH
    unusable = ids.is_null() | (ids == "") | too_long | ids.str.contains("\x00", literal=True)
    bad = rows.filter(unusable)
    if bad.height:
        severity: Severity = "error" if bad.height == read else "warning"
        advice = "the row is left out"
        findings.append(_finding(severity, f"{name} without a usable {key}", bad, read, key, advice))
        rows = rows.filter(~unusable)
    guests = rows.filter(ids.is_in(settings.guest_ids)) if key == "user_id" and settings.guest_ids else rows.clear()
    if guests.height:
        findings.append(_finding("note", f"guest among {name}", guests, read, key, GUESTS))
        rows = rows.filter(~ids.is_in(settings.guest_ids))
    again = rows.filter(~ids.is_first_distinct())
    if again.height:
        advice = "the first row of an id counts"
        if "email_consent" in rows.columns:
            advice = "a row without consent counts before others, then the first"
            rows = _refusals_first(rows, settings)
        findings.append(_finding("warning", f"{key} of {name} comes twice", again, read, key, advice))
        rows = rows.unique(key, keep="first", maintain_order=True)
    return rows


def _refusals_first(rows: pl.DataFrame, settings: SourceSettings) -> pl.DataFrame:
    """The rows, those of a consent that is a no first: who refused in one row is not mailed because of another."""
    is_no = (~convert(rows["email_consent"], settings, own=False).values).fill_null(False)
    return pl.concat([rows.filter(is_no), rows.filter(~is_no)])


def _finding(severity: Severity, reason: str, rows: pl.DataFrame, of: int, column: str, advice: str) -> Finding:
    examples = tuple(f"{column}={value!r}" for value in rows[column].head(EXAMPLES).to_list())
    return Finding(severity, reason, rows.height, of, examples, advice, left_out=True)


def _unfold(rows: pl.DataFrame) -> pl.DataFrame:
    """Split the JSON object in which the own tables keep unknown columns."""
    if "attributes" not in rows.columns or rows["attributes"].null_count() == rows.height:
        return rows.drop("attributes", strict=False)
    objects = [json.loads(text) if text else {} for text in rows["attributes"].to_list()]
    names = list(dict.fromkeys(name for values in objects for name in values if name not in rows.columns))
    if not names:
        return rows.drop("attributes")
    return rows.drop("attributes").hstack(frame_of_objects(names, objects))
