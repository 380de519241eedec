"""Check the service's own database."""

import time
from pathlib import Path

from jobs.doctor.answer import Answer
from recsys.config.loading import load_config
from recsys.errors import RecsysError
from recsys.store.database import database_url
from recsys.store.migrate import open_store, read_revisions
from recsys.store.shop import check_shop

MAX_CLOCK_SECONDS = 60


def check_store(config: str) -> Answer:
    """Whether the database answers, its tables are up to date, and its clock agrees with this machine's."""
    settings = load_config(Path(config)).store
    parsed = database_url(settings.url)
    if parsed.drivername == "sqlite" and not Path(str(parsed.database)).exists():  # opening it would make the file
        return False, f"there is no file {parsed.database}", "`recsys init` makes it"
    try:
        store = open_store(settings.url, settings.table_prefix, migrated=False)
    except RecsysError as error:
        return False, str(error), "a database that answers: url in [store]"
    try:
        found, newest = read_revisions(store)
        apart = abs(store.now() - time.time_ns() // 1000) / 1e6
        where = store.describe()
    finally:
        store.close()
    if found is not None and newest is not None and found > newest:
        mend = "a program that knows it: install the version that wrote it, or a newer one"
        return False, f"{where}: at migration {found}; this program knows {newest} and is too old", mend
    if found != newest:
        state = "the service's own tables are not there yet" if found is None else f"at migration {found}"
        return False, f"{where}: {state}", f"migration {newest}: `recsys init` brings the tables there"
    if apart > MAX_CLOCK_SECONDS:
        return False, f"{where}: its clock is {apart:.0f} s from ours", f"at most {MAX_CLOCK_SECONDS} s"
    return True, f"{where}: at migration {found}", "reachable and at the newest migration"


def check_owner(config: str) -> Answer:
    """Whether the data folder is this shop's, and not one that another configuration uses."""
    settings = load_config(Path(config))
    store = open_store(settings.store.url, settings.store.table_prefix, migrated=False)
    try:
        check_shop(store, settings.storage.path, settings.source.url)
    except RecsysError as error:
        return (
            False,
            str(error),
            "a folder and tables for each shop; `recsys bundles claim` for one whose database is new",
        )
    finally:
        store.close()
    return True, f"{settings.storage.path} is of this shop, or of none yet", "a folder for each shop"
