"""Write a list into a table of a database, for programs that read their recipients there."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from recsys.errors import ConfigError, RefusedError
from recsys.store.database import connect, database_url
from recsys.store.tables import MAX_ID_LENGTH

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


def replace_rows(url: str, name: str, chunks: Iterator[Sequence[Mapping[str, Any]]]) -> int:
    """Replace the rows of a table by those of a list, in one transaction; return how many there are now.

    The table is created when it does not exist: user_id is its key, numbers are numbers, lists are JSON. Readers see
    the former rows until all new ones are there. Raises ConfigError for a name that is none, RefusedError for a table
    with other columns.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--table {name!r}: expected a name of letters, digits and _, which begins with a letter")
    engine = connect(database_url(url))
    try:
        first = next(chunks, [])
        table = _table(name, first)
        if sa.inspect(engine).has_table(name):
            _check(engine, table)
        table.create(engine, checkfirst=True)
        with engine.connect().execution_options(recsys_writes=True) as connection, connection.begin():
            connection.execute(table.delete())
            written = 0
            while first:
                connection.execute(table.insert(), [_values(table, row) for row in first])
                written, first = written + len(first), next(chunks, [])
        return written
    finally:
        engine.dispose()


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> sa.Table:
    key = sa.String(MAX_ID_LENGTH).with_variant(postgresql.VARCHAR(MAX_ID_LENGTH, collation="C"), "postgresql")
    key = key.with_variant(mysql.VARCHAR(MAX_ID_LENGTH, collation="utf8mb4_nopad_bin"), "mysql")
    columns = dict.fromkeys(column for row in rows for column in row if column != "user_id")
    kinds = [(column, _kind([row.get(column) for row in rows])) for column in columns]
    own = [sa.Column(column, kind) for column, kind in kinds]
    return sa.Table(name, sa.MetaData(), sa.Column("user_id", key, primary_key=True), *own)


def _kind(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int) and not isinstance(value, bool) for value in known):
        return sa.BigInteger()
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return sa.Double()
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def _values(table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        column.name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value
        for column in table.columns
        for value in [row.get(column.name)]
    }


def _check(engine: sa.Engine, table: sa.Table) -> None:
    found = {column["name"] for column in sa.inspect(engine).get_columns(table.name)}
    wanted = {column.name for column in table.columns}
    if found != wanted:
        raise RefusedError(
            f"the table {table.name} has the columns {', '.join(sorted(found))}; the list has "
            f"{', '.join(sorted(wanted))}. Name another table, or drop this one"
        )
