"""Bulk inserts that work alike on three databases, and the check of values before them.

All values are checked before any is sent: MariaDB's INSERT IGNORE would truncate what does not fit, and SQLite would
store it.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.progress import Progress
from recsys.store.database import Store, read_clock
from recsys.store.tables import MAX_ID_LENGTH, NO_STAYS

MANY_IDS = 1000  # above, reading the rows of all users is faster than naming the users
MANY_ROWS = 2_000  # events that one transaction changes where there may be very many
_PAUSE_SECONDS = 0.05  # between two such transactions, so that others get their turn in SQLite too
_REVISION = "own_revision"
_BLOCK = 20_000  # rows a statement: fast, and below the packet limit of every database

_ARROW: dict[type[Any], pa.DataType] = {
    sa.String: pa.string(),
    sa.Text: pa.string(),
    sa.Double: pa.float64(),
    sa.Boolean: pa.bool_(),
    sa.BigInteger: pa.int64(),
}
_POSTGRESQL = {pa.string(): "text", pa.float64(): "float8", pa.bool_(): "bool", pa.int64(): "int8"}


def find_invalid_ids(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mark ids [n] that cannot be stored: empty, over 255 characters, or with a NUL. Null stays null."""
    length = pc.utf8_length(ids)
    wrong = pc.or_(pc.equal(length, 0), pc.greater(length, MAX_ID_LENGTH))
    return pc.or_(wrong, pc.match_substring(ids, "\x00"))


def check_id(what: str, identifier: str) -> str:
    """Return the id. Raises RefusedError, which calls it `what` ("user_id"), when it cannot be stored."""
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
    """Cast rows to the table's columns and types; missing columns are null or, with `partial`, left out.

    Raises RefusedError for an unknown column, a missing required one, and a value that cannot be stored.
    """
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
        wrong = find_invalid_ids(values)
    if count := pc.sum(wrong).as_py():
        allowed = {pa.float64(): "finite numbers"}.get(kind, f"1 to {MAX_ID_LENGTH} characters without NUL")
        allowed = "text without NUL" if isinstance(column.type, sa.Text) else allowed
        raise RefusedError(f"{where} cannot be stored in {count} rows; allowed are {allowed}")
    return values


def _arrow_type(column: sa.Column[Any]) -> pa.DataType:
    return _ARROW[type(column.type)]


def bulk_insert(
    connection: sa.Connection,
    table: sa.Table,
    rows: pa.Table,
    *,
    replace: bool,
    stamp: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Insert rows with a new key and, with `replace`, update the others; return how many rows were written.

    stamp: a column that keeps its value where no other column changes.
    """
    dialect = connection.dialect.name
    sql = _insert_sql(dialect, table, rows.schema, replace, stamp)
    written = 0
    for start in range(0, rows.num_rows, _BLOCK):
        lists = [column.to_pylist() for column in rows.slice(start, _BLOCK).columns]
        parameters: Any = tuple(lists) if dialect == "postgresql" else list(zip(*lists, strict=True))
        written += connection.exec_driver_sql(sql, parameters).rowcount
        if progress:
            progress(f"write {table.name}", min(1.0, (start + _BLOCK) / rows.num_rows))
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
    """The assignments of an update, the stamp first: MariaDB assigns from left to right, so it sees the old values."""
    new = "VALUES({})" if dialect == "mysql" else "excluded.{}"
    same = {"mysql": "<=>", "sqlite": "IS", "postgresql": "IS NOT DISTINCT FROM"}[dialect]
    others = [name for name in names if name != stamp]
    sets = [f"{name} = {_new_value(table.columns[name], new.format(name))}" for name in others]
    if stamp in names:
        unchanged = " AND ".join(f"{table.name}.{name} {same} {new.format(name)}" for name in others) or "1 = 1"
        kept = f"CASE WHEN {unchanged} THEN {table.name}.{stamp} ELSE {new.format(stamp)} END"
        sets.insert(0, f"{stamp} = {kept}")
    return ", ".join(sets)


def _new_value(column: sa.Column[Any], new: str) -> str:
    """What an update sets: the new value, but where a no stays, it stays when the new value is unknown."""
    if not column.info.get(NO_STAYS):
        return new
    old = f"{column.table.name}.{column.name}"
    return f"CASE WHEN {new} IS NULL AND NOT {old} THEN {old} ELSE {new} END"


def delete_some(store: Store, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
    """Delete rows that meet a condition, at most MANY_ROWS of them, in one transaction; return how many were met.

    table: one with a key of one column. Fewer than MANY_ROWS: none is left. However many there are, others wait for a
    short transaction only.
    """
    key = table.primary_key.columns[0]

    def delete(connection: sa.Connection) -> int:
        # Once they are locked, the rows are named by their key alone: a planner that has another choice may err.
        query = sa.select(key).where(condition).limit(MANY_ROWS).with_for_update()
        ids = sorted(connection.scalars(query))
        for start in range(0, len(ids), MANY_IDS):
            connection.execute(table.delete().where(key.in_(ids[start : start + MANY_IDS])))
        return len(ids)

    return store.transact(delete)


def in_full(step: Callable[[], int]) -> int:
    """Repeat a step that takes at most MANY_ROWS rows until none is left; return how many it took."""
    total = taken = step()
    while taken >= MANY_ROWS:
        time.sleep(_PAUSE_SECONDS)
        taken = step()
        total += taken
    return total


def upsert(store: Store, table: sa.Table, parts: Sequence[pa.Table], progress: Progress | None) -> int:
    """Insert or update rows by the table's key, unknown columns as `attributes`; return how many.

    parts: rows of different columns, written in one transaction.
    """
    conformed = [_conform_once(part, table) for part in parts]
    return store.transact(
        lambda connection: sum(_upsert(store, connection, table, part, progress) for part in conformed)
    )


def _conform_once(rows: pa.Table, table: sa.Table) -> pa.Table:
    """The rows as they are stored, in the order of their keys; of several with one key the last."""
    key = table.primary_key.columns[0].name
    if _REVISION in rows.column_names:
        rows = rows.drop_columns([_REVISION])  # the name is reserved
    conformed = conform(_with_attributes(rows, table), table, partial=True)
    last = {identifier: at for at, identifier in enumerate(conformed[key].to_pylist())}
    if len(last) < conformed.num_rows:
        conformed = conformed.take(pa.array(last.values(), pa.int64()))
    return conformed.sort_by(key)


def _upsert(store: Store, connection: sa.Connection, table: sa.Table, rows: pa.Table, progress: Progress | None) -> int:
    stamp = None
    if table is store.tables.items:
        stamp, revisions = _REVISION, _next_revisions(connection, store.tables.counters, rows.num_rows)
        rows = rows.append_column(stamp, revisions)
    bulk_insert(connection, table, rows, replace=True, stamp=stamp, progress=progress)
    return int(rows.num_rows)


def among(column: sa.ColumnElement[Any], ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """Build a condition: the column holds one of the ids or, for more than MANY_IDS of them, any id at all."""
    return column.in_(ids) if len(ids) <= MANY_IDS else column.is_not(None)


def _next_revisions(connection: sa.Connection, counters: sa.Table, count: int) -> pa.Array:
    """Draw `count` numbers above all earlier ones, near the database's clock in microseconds UTC.

    The counter's row stays locked until the transaction ends, so whoever sees a number has seen all smaller ones.
    """
    mine = counters.c.name == "items"
    last = connection.execute(sa.select(counters.c.value).where(mine).with_for_update()).scalar()
    if last is None:
        bulk_insert(connection, counters, pa.table({"name": ["items"], "value": [0]}), replace=False)
        last = connection.execute(sa.select(counters.c.value).where(mine).with_for_update()).scalar_one()
    first = max(int(last) + 1, read_clock(connection))
    connection.execute(counters.update().where(mine).values(value=first + count))
    return pa.array(range(first, first + count), pa.int64())


def _with_attributes(rows: pa.Table, table: sa.Table) -> pa.Table:
    """Turn columns that the table does not have into one JSON object a row, without nulls."""
    others = [name for name in rows.column_names if name not in table.columns]
    if not others:
        return rows
    objects = [
        json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False, default=str)
        for row in rows.select(others).to_pylist()
    ]
    return rows.drop_columns(others).append_column("attributes", pa.array(objects, pa.string()))
