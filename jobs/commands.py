"""What the short commands do: each takes the configuration and returns what is to be printed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.show import Output, Report, Table
from recsys import bundle as bundles_on_disk
from recsys.check import Report as SourceReport
from recsys.config import Config
from recsys.errors import RefusedError
from recsys.importer import import_file as import_into
from recsys.source import check
from recsys.store import Store, open_store


def init(config: Config, *, report: Report) -> Output:
    """Create or migrate the service's own tables."""
    report("tables", 0.0)
    store = _store(config)
    report("tables", 1.0)
    where = store.describe()
    return Output({"store": where}, [f"the service's tables are ready in {where}"])


def _store(config: Config) -> Store:
    return open_store(config.store.url, config.store.table_prefix)


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)


def time_text(microseconds: int | None) -> str | None:
    """A time as people read it, in UTC to the second."""
    if microseconds is None:
        return None
    return f"{datetime.fromtimestamp(microseconds / 1_000_000, UTC):%Y-%m-%d %H:%M:%S}"
