"""The catalog and the users of the shop: known columns brought into their types, ids made unique."""

import json
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from recsys.check import EXAMPLES, Finding
from recsys.data import Catalog, Vocabulary
from recsys.read_drivers import Select, frame
from recsys.read_events import require
from recsys.read_sql import Reader, bare
from recsys.read_values import read_booleans, read_numbers, read_texts, read_times
from recsys.store import MAX_ID_LENGTH

TEXTS = ("title", "category", "brand", "image_url")
KNOWN = (*TEXTS, "price", "available", "created_at")


@dataclass(frozen=True)
class Items:
    """The rows of the catalog: item_id (String, unique) and the other columns in their types."""

    frame: pl.DataFrame
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Users:
    """The users with what they consented to: user_id (String, unique), email_consent (Boolean or null)."""

    frame: pl.DataFrame
    findings: tuple[Finding, ...]


NO_ITEMS = Items(pl.DataFrame(schema={"item_id": pl.String}), ())  # a shop without a query of items


def read_items(reader: Reader, query: str, name: str, zone: str | None, *, own: bool) -> Items:
    """Read a query of items; `own`: it is one of the own tables, with all unknown columns in a JSON object.

    Raises SourceError when the query fails or returns no item_id.
    """
    rows = reader.table(query, name)
    require(rows.columns, ("item_id",), f"the query of {name}")
    if own:
        rows = _unfold(rows)
    return normalize_items(rows, name, zone)


def normalize_items(rows: pl.DataFrame, name: str, zone: str | None) -> Items:
    """Bring a catalog of any types into the known ones; the first row of an id counts."""
    findings: list[Finding] = []
    rows = rows.with_columns(read_texts(rows["item_id"]).alias("item_id"))
    rows = _unique(rows, "item_id", name, findings)
    columns = [rows["item_id"]]
    for column in rows.columns:
        if column == "item_id":
            continue
        values = _normalize(rows[column], zone)
        lost = rows.filter(rows[column].is_not_null() & values.is_null())
        if lost.height and rows[column].dtype != pl.Null:
            advice = "the value counts as unknown"
            findings.append(_finding("warning", f"{column} of {name} cannot be read", lost, rows, column, advice))
        columns.append(values.alias(column))
    return Items(pl.DataFrame(columns), tuple(findings))


def read_users(reader: Reader, query: str, name: str) -> Users:
    """Read a query of users. Raises SourceError when it fails or returns no user_id."""
    found = reader.columns(query, name)
    require(found, ("user_id",), f"the query of {name}")
    wanted = [column for column in ("user_id", "email_consent") if column in found]
    shop = f"FROM ({bare(query)}\n) AS shop"
    if reader.dialect == "sqlite":
        as_text = ", ".join(
            f"CASE WHEN {column} < x'' THEN CAST({column} AS TEXT) END AS {column}" for column in wanted
        )
        select = Select(f"SELECT {as_text} {shop}", dict.fromkeys(wanted, pl.String))
    else:
        select = Select(f"SELECT {', '.join(wanted)} {shop}", {})
    batches = [
        batch.select(
            read_texts(batch["user_id"]).alias("user_id"),
            (read_booleans(batch["email_consent"]) if "email_consent" in wanted else pl.lit(None, pl.Boolean)).alias(
                "email_consent"
            ),
        )
        for batch in reader.batches(select, name)
    ]
    findings: list[Finding] = []
    rows = pl.concat(batches) if batches else pl.DataFrame(schema={"user_id": pl.String, "email_consent": pl.Boolean})
    return Users(_unique(rows, "user_id", name, findings), tuple(findings))


def build_catalog(items: pl.DataFrame, extra: list[str]) -> Catalog:
    """The catalog's rows in their order, then rows of nulls for items that only occur in events."""
    table = items.drop("item_id")
    if "title" not in table.columns:
        table = table.with_columns(pl.Series("title", [None] * items.height, dtype=pl.String))
    if extra:
        table = pl.concat([table, pl.DataFrame(schema=table.schema).clear(len(extra))])
    columns = table.to_arrow()
    texts = [pa.field(f.name, pa.string()) if f.type == pa.large_string() else f for f in columns.schema]
    return Catalog(Vocabulary.from_ids([*items["item_id"].to_list(), *extra]), columns.cast(pa.schema(texts)))


def consent_of(users: pl.DataFrame, ids: pl.Series) -> pa.BooleanArray:
    """Whether each user may be mailed: true, false, or null where nobody knows. ids [U] -> [U]."""
    joined = pl.DataFrame({"user_id": ids}).join(users, on="user_id", how="left", maintain_order="left")
    return pa.array(joined["email_consent"].to_list(), pa.bool_())


def _normalize(values: pl.Series, zone: str | None) -> pl.Series:
    if values.name in TEXTS:
        return read_texts(values)
    if values.name == "price":
        return read_numbers(values)
    if values.name == "available":
        return read_booleans(values)
    if values.name == "created_at":
        return read_times(values, zone).microseconds
    return read_texts(values) if values.dtype in (pl.Binary, pl.Null) else values


def _unique(rows: pl.DataFrame, column: str, name: str, findings: list[Finding]) -> pl.DataFrame:
    """Rows with a usable id, the first of each; what is left out is found."""
    ids = pl.col(column)
    unusable = (
        ids.is_null() | (ids == "") | (ids.str.len_chars() > MAX_ID_LENGTH) | ids.str.contains("\x00", literal=True)
    )
    bad = rows.filter(unusable)
    if bad.height:
        advice = "the row is left out"
        findings.append(_finding("warning", f"{name} without a usable {column}", bad, rows, column, advice))
        rows = rows.filter(~unusable)
    again = rows.filter(~pl.col(column).is_first_distinct())
    if again.height:
        advice = "the first row of an id counts"
        findings.append(_finding("warning", f"{column} of {name} comes twice", again, rows, column, advice))
        rows = rows.unique(column, keep="first", maintain_order=True)
    return rows


def _finding(severity: Any, reason: str, rows: pl.DataFrame, of: pl.DataFrame, column: str, advice: str) -> Finding:
    examples = tuple(f"{column}={value!r}" for value in rows[column].head(EXAMPLES).to_list())
    return Finding(severity, reason, rows.height, of.height, examples, advice)


def _unfold(rows: pl.DataFrame) -> pl.DataFrame:
    """The own tables keep columns that they do not know in one JSON object."""
    if "attributes" not in rows.columns or rows["attributes"].null_count() == rows.height:
        return rows.drop("attributes", strict=False)
    objects = [json.loads(text) if text else {} for text in rows["attributes"].to_list()]
    names = list(dict.fromkeys(name for values in objects for name in values if name not in rows.columns))
    if not names:
        return rows.drop("attributes")
    values = [[_flat(found.get(name)) for name in names] for found in objects]
    return rows.drop("attributes").hstack(frame(names, values, {}))


def _flat(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
