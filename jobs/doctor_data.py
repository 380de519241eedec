"""The doctor's checks of the databases and the live bundle. Each returns (ok, found, what is allowed)."""

import time
from pathlib import Path

from jobs.doctor_libraries import Answer
from recsys import bundle as bundles
from recsys.artifact import current
from recsys.config import load_config
from recsys.errors import RecsysError
from recsys.store import database_url, open_store, revisions

MAX_CLOCK_SECONDS = 60


def check_store(config: str) -> Answer:
    """Whether the service's database answers, its tables are up to date and its clock agrees with ours."""
    settings = load_config(Path(config)).store
    parsed = database_url(settings.url)
    if parsed.drivername == "sqlite" and not Path(str(parsed.database)).exists():  # opening it would make the file
        return False, f"there is no file {parsed.database}", "`recsys init` makes it"
    try:
        store = open_store(settings.url, settings.table_prefix, migrated=False)
    except RecsysError as error:
        return False, str(error), "a database that answers: url in [store]"
    try:
        found, newest = revisions(store)
        apart = abs(store.now() - time.time_ns() // 1000) / 1e6
        where = store.describe()
    finally:
        store.close()
    if found != newest:
        return False, f"{where}: at migration {found}", f"migration {newest}: `recsys init` brings the tables there"
    if apart > MAX_CLOCK_SECONDS:
        return False, f"{where}: its clock is {apart:.0f} s from ours", f"at most {MAX_CLOCK_SECONDS} s"
    return True, f"{where}: at migration {found}", "reachable and at the newest migration"


def check_bundle(config: str) -> Answer:
    """Whether the live bundle is complete, undamaged and loadable."""
    folder = load_config(Path(config)).folder.path
    try:
        live = bundles.load(folder)
    except RecsysError as error:
        if current(folder / "bundles") is None:
            return True, "none published yet", "none, or one that verifies"
        return False, str(error), "one that verifies: `recsys rollback` goes back to the one before, or `recsys train`"
    found = f"{live.version}, {len(live.catalog)} items" + (", pinned" if bundles.pinned(folder) else "")
    return True, found, "none, or one that verifies"
