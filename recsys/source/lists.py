"""Lists of people that the shop keeps: who must not be mailed, and whom it mailed when."""

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import polars as pl

from recsys.config.settings import Config
from recsys.errors import SourceError
from recsys.source.contract import Select
from recsys.source.ids import read_ids
from recsys.source.reader import Reader
from recsys.source.results import open_shop
from recsys.source.times import TimeReader
from recsys.source.values import read_texts
from recsys.store.database import Store

Entry = tuple[str, ...]  # what one row says of one person: an id, an address, or both

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$.]*")
KEYS = ("user_id", "email", "e-mail", "email address", "e-mail address")  # names of columns, in any case
CONTACTS = {"user_id": pl.String, "at": pl.Int64}  # whom: an id or an address; when: microseconds UTC


def read_lists(config: Config, store: Store) -> dict[str, list[Entry]]:
    """Read `[audience.lists]`: name -> entries, each once. Raises SourceError when one cannot be read."""
    found: dict[str, list[Entry]] = {}
    if not config.audience.lists:
        return found
    with closing(open_shop(config, store)) as shop:
        for name, query in config.audience.lists.items():
            rows = _read(shop, query, f"the list {name}")
            keys = _keys_of(rows, f"the list {name}")
            entries = zip(*(rows[key].to_list() for key in keys), strict=True)
            found[name] = list(dict.fromkeys(tuple(cell for cell in row if cell) for row in entries))
    return found


def read_contacts(config: Config, store: Store) -> pl.DataFrame:
    """Read `[source] contacts`, the mails that the shop sent: the columns of CONTACTS, none without the query.

    Raises SourceError when they cannot be read.
    """
    if config.source.contacts is None:
        return pl.DataFrame(schema=CONTACTS)
    with closing(open_shop(config, store)) as shop:
        return _contacts_of(_read(shop, config.source.contacts, "contacts"), "[source] contacts", config)


def read_contact_file(path: Path, config: Config) -> pl.DataFrame:
    """Read a CSV file with a header that names user_id or email, and timestamp. Raises SourceError."""
    try:
        head = path.read_text("utf-8-sig").split("\n", 1)[0]
        separator = max(",;\t", key=head.count)
        rows = pl.read_csv(path, infer_schema=False, separator=separator, encoding="utf8")
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"the file of contacts {path} cannot be read: {error}") from None
    return _contacts_of(rows.rename({name: name.strip().lstrip("\ufeff") for name in rows.columns}), str(path), config)


def _read(shop: Reader, query: str, name: str) -> pl.DataFrame:
    text = f"SELECT * FROM {query}" if _TABLE.fullmatch(query.strip()) else query
    return shop.table(Select(shop.query(text, name).text, {}), name)


def _keys_of(rows: pl.DataFrame, name: str) -> list[str]:
    keys = [column for column in rows.columns if column.strip().lower() in KEYS]
    if not keys:
        raise SourceError(f"{name} has the columns {', '.join(rows.columns)}; it needs user_id or email")
    for key in keys:
        as_ids = read_ids(rows[key], name) if key.strip().lower() == KEYS[0] else read_texts(rows[key])
        rows.replace_column(rows.get_column_index(key), as_ids.alias(key))
    return keys


def _contacts_of(rows: pl.DataFrame, name: str, config: Config) -> pl.DataFrame:
    keys = _keys_of(rows, name)
    if "timestamp" not in rows.columns:
        raise SourceError(f"{name} has the columns {', '.join(rows.columns)}; it needs timestamp")
    times = TimeReader(zone=config.source.timezone, form=config.source.time_format).read(rows["timestamp"])
    unread = times.microseconds.null_count()
    if unread:
        raise SourceError(f"{name}: {unread:,} of {rows.height:,} timestamps are missing or cannot be read as times")
    whom = pl.coalesce([pl.col(key) for key in keys])
    return rows.select(user_id=whom, at=times.microseconds).drop_nulls()


def distinct(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries that say anything, each once, in their order."""
    return tuple(entry for entry in dict.fromkeys(entries) if entry)
