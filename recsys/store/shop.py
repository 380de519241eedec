"""Which shop a data folder belongs to: the file SHOP in it, compared with the own tables and the source.

The own tables hold a random number, drawn when it is first asked for. The folder remembers that number and where the
source was, so that a second configuration cannot replace the bundles of the first one.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.data.folder import check_folder, exclusive_lock, read_text, replace_text
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.store.bulk import bulk_insert
from recsys.store.database import Store, parse_url

SHOP = "SHOP"
_COUNTER = "shop"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_shop(store: Store, folder: Path, source: str | None) -> None:
    """Check that the data folder belongs to the shop of these tables and this source, or to nobody yet.

    source: the URL of the shop's database, or None. Raises RefusedError with both shops and what to do, and RecsysError
    when the folder cannot be read.
    """
    check_folder(folder)
    found = _read(folder)
    if found is not None:
        _compare(found, _describe(store, folder, source), folder)


def claim_folder(store: Store, folder: Path, source: str | None, *, taken_over: bool = False) -> None:
    """Write into the data folder which shop it belongs to.

    taken_over: whoever it belonged to before. Raises RefusedError as `check_shop` does, and RecsysError when the folder
    cannot be written to.
    """
    mine = _describe(store, folder, source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecsysError(f"{folder} cannot be made: {error.strerror}; [storage] path names it") from None
    with exclusive_lock(folder):
        found = _read(folder)
        if found is not None and not taken_over:
            _compare(found, mine, folder)
            mine["source"] = mine["source"] or found.get("source")
        if mine != found:
            replace_text(folder / SHOP, json.dumps(mine, indent=1) + "\n")


def _compare(found: dict[str, Any], mine: dict[str, Any], folder: Path) -> None:
    sources = (found.get("source"), mine["source"])
    is_same_source = None in sources or sources[0] == sources[1]
    if found.get("shop") == mine["shop"] and is_same_source:
        return
    raise RefusedError(
        f"{folder} belongs to another shop: to {_words(found)}; this configuration has {_words(mine)}. Give each shop "
        "a folder of its own, as path in [storage], and tables of its own, as table_prefix in [store]. If it is the "
        "same shop, whose database or tables are new: `recsys bundles claim`"
    )


def _words(shop: dict[str, Any]) -> str:
    return (
        f"tables {shop.get('tables')}… (number {shop.get('shop')}) in {shop.get('store')} and the source "
        f"{shop.get('source') or 'in these tables'}"
    )


def _read(folder: Path) -> dict[str, Any] | None:
    """What the folder says of its shop; None: nothing yet. Raises RecsysError when the file cannot be read."""
    text = read_text(folder / SHOP)
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RecsysError(f"{folder / SHOP} is damaged; `recsys bundles claim` writes it anew for this configuration")
    return found


def _describe(store: Store, folder: Path, source: str | None) -> dict[str, Any]:
    where = store.engine.url.render_as_string(hide_password=False)
    return {
        "shop": f"{_number(store):x}",
        "tables": store.prefix,
        "store": _place(where, folder),
        "source": None if source is None else _place(source, folder),
    }


def _number(store: Store) -> int:
    """The random number of these tables; the first to ask draws it."""
    counters = store.tables.counters
    query = sa.select(counters.c.value).where(counters.c.name == _COUNTER)
    with store.reading() as connection:
        found = connection.execute(query).scalar()
    if found is None:
        with store.writing() as connection:
            fresh = pa.table({"name": [_COUNTER], "value": [secrets.randbits(48)]})
            bulk_insert(connection, counters, fresh, replace=False)
            found = connection.execute(query).scalar_one()
    return int(found)


def _place(url: str, folder: Path) -> str:
    """Where a database is, without account and options. A file is named as seen from the data folder."""
    try:
        parsed = parse_url(url)
    except ConfigError:
        return "an address that cannot be read"
    family = parsed.drivername.split("+")[0]
    several = parsed.query.get("host", ())  # for failover, as PostgreSQL's driver reads them
    if several:
        return f"{family}://{','.join([several] if isinstance(several, str) else several)}/{parsed.database or ''}"
    if parsed.host is None and parsed.database:
        return f"{family}:{os.path.relpath(parsed.database, folder)}"
    host = "localhost" if parsed.host in _LOOPBACK else parsed.host
    port = f":{parsed.port}" if parsed.port else ""
    return f"{family}://{host}{port}/{parsed.database or ''}"
