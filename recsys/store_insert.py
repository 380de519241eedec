"""Writing rows in bulk on three databases: what may be stored, and the insert that happens once.

A table of values is checked as a whole before any of it is sent, because MariaDB's INSERT IGNORE would cut what does
not fit and SQLite would take it as it is.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.store_tables import MAX_ID_LENGTH

_BLOCK = 20_000  # rows a statement: enough to be fast, little enough for any packet limit

_ARROW: dict[type[Any], pa.DataType] = {
    sa.String: pa.string(),
    sa.Text: pa.string(),
    sa.Double: pa.float64(),
    sa.Boolean: pa.bool_(),
    sa.BigInteger: pa.int64(),
}
_POSTGRESQL = {pa.string(): "text", pa.float64(): "float8", pa.bool_(): "bool", pa.int64(): "int8"}


def bad_ids(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where an id (string column) cannot be stored: empty, over 255 characters, or with a NUL. Null stays null."""
    length = pc.utf8_length(ids)
    wrong = pc.or_(pc.equal(length, 0), pc.greater(length, MAX_ID_LENGTH))
    return pc.or_(wrong, pc.match_substring(ids, "\x00"))


def check_id(what: str, identifier: str) -> str:
    """The id itself. Raises RefusedError that names `what` ("user_id") when it cannot be stored."""
    fault = None
    if not identifier:
        fault = "is empty"
    elif len(identifier) > MAX_ID_LENGTH:
        fault = f"has {len(identifier)} characters"
    elif "\x00" in identifier:
        fault = "holds a NUL character"
    elif any("\ud800" <= character <= "\udfff" for character in identifier):
        fault = "holds half a surrogate pair, which is no text"
    if fault:
        raise RefusedError(f"{what} {fault}; allowed are 1 to {MAX_ID_LENGTH} characters other than NUL")
    return identifier


def conform(rows: pa.Table, table: sa.Table, *, partial: bool = False) -> pa.Table:
    """The rows with the table's columns and types; missing ones are null, or with `partial` left out."""
    unknown = set(rows.column_names) - set(table.columns.keys())
    if unknown:
        allowed = ", ".join(table.columns.keys())
        raise RefusedError(f"{table.name}: unknown columns {sorted(unknown)}; allowed are {allowed}")
    columns: dict[str, pa.ChunkedArray] = {}
    for column in table.columns:
        if column.name in rows.column_names:
            columns[column.name] = _conform_column(rows[column.name], column)
        elif not column.nullable:
            raise RefusedError(f"{table.name}: the column {column.name} is missing; found {rows.column_names}")
        elif not partial:
            columns[column.name] = pa.chunked_array([pa.nulls(rows.num_rows, _arrow_type(column))])
    return pa.table(columns)


def _conform_column(values: pa.ChunkedArray, column: sa.Column[Any]) -> pa.ChunkedArray:
    where = f"{column.table.name}.{column.name}"
    kind = _arrow_type(column)
    try:
        values = values.cast(kind)
    except pa.ArrowException:
        raise RefusedError(f"{where} must be {kind}; found {values.type} that does not convert") from None
    if not column.nullable and values.null_count:
        raise RefusedError(f"{where} is null in {values.null_count} rows; it is required")
    if kind == pa.float64():
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        wrong = pc.is_inf(values)
    elif kind != pa.string():
        return values
    elif isinstance(column.type, sa.Text):
        wrong = pc.match_substring(values, "\x00")
    else:
        wrong = bad_ids(values)
    if count := pc.sum(wrong).as_py():
        allowed = {pa.float64(): "finite numbers"}.get(kind, f"1 to {MAX_ID_LENGTH} characters without NUL")
        allowed = "text without NUL" if isinstance(column.type, sa.Text) else allowed
        raise RefusedError(f"{where} cannot be stored in {count} rows; allowed are {allowed}")
    return values


def _arrow_type(column: sa.Column[Any]) -> pa.DataType:
    return _ARROW[type(column.type)]


def put(
    connection: sa.Connection,
    table: sa.Table,
    rows: pa.Table,
    *,
    replace: bool,
    stamp: str | None = None,
    report: Callable[[str, float], None] | None = None,
) -> int:
    """Write rows whose key is new, with `replace` also over those that are there; returns how many were written.

    stamp: a column that keeps what it was where no other column changes.
    """
    dialect = connection.dialect.name
    sql = _insert_sql(dialect, table, rows.schema, replace, stamp)
    written = 0
    for start in range(0, rows.num_rows, _BLOCK):
        lists = [column.to_pylist() for column in rows.slice(start, _BLOCK).columns]
        parameters: Any = tuple(lists) if dialect == "postgresql" else list(zip(*lists, strict=True))
        written += connection.exec_driver_sql(sql, parameters).rowcount
        if report:
            report(f"write {table.name}", min(1.0, (start + _BLOCK) / rows.num_rows))
    return written


def _insert_sql(dialect: str, table: sa.Table, schema: pa.Schema, replace: bool, stamp: str | None) -> str:
    key = table.primary_key.columns[0].name
    names = ", ".join(schema.names)
    change = _changes(dialect, table, [name for name in schema.names if name != key] or [key], stamp)
    if dialect == "mysql":
        # IGNORE would also swallow values that do not fit, so conform has let none of those through.
        into = f"INSERT{'' if replace else ' IGNORE'} INTO {table.name} ({names})"
        values = f" VALUES ({', '.join(['%s'] * len(schema))})"
        return into + values + (f" ON DUPLICATE KEY UPDATE {change}" if replace else "")
    conflict = f" ON CONFLICT ({key}) DO UPDATE SET {change}" if replace else " ON CONFLICT DO NOTHING"
    if dialect == "postgresql":
        arrays = ", ".join(f"%s::{_POSTGRESQL[field.type]}[]" for field in schema)
        return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}){conflict}"
    return f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(schema))}){conflict}"


def _changes(dialect: str, table: sa.Table, names: list[str], stamp: str | None) -> str:
    """What an update sets, the stamp first: MariaDB works from left to right and compares with what was there."""
    new = "VALUES({})" if dialect == "mysql" else "excluded.{}"
    same = {"mysql": "<=>", "sqlite": "IS", "postgresql": "IS NOT DISTINCT FROM"}[dialect]
    others = [name for name in names if name != stamp]
    sets = [f"{name} = {new.format(name)}" for name in others]
    if stamp in names:
        unchanged = " AND ".join(f"{table.name}.{name} {same} {new.format(name)}" for name in others) or "1 = 1"
        kept = f"CASE WHEN {unchanged} THEN {table.name}.{stamp} ELSE {new.format(stamp)} END"
        sets.insert(0, f"{stamp} = {kept}")
    return ", ".join(sets)
