"""The own tables as a service needs them: nobody waits for a database that is away, and it is used again when back.

A job may fail when its database does; a service goes on without. So every use is bounded in time, the first failure
marks the database as away, and from then on uses fail at once until `revive`, called again and again by somebody who
may wait, has reached it.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from recsys.config.settings import StoreSettings
from recsys.errors import AwayError, RecsysError
from recsys.store.database import Store, connect, database_url
from recsys.store.migrate import migrate
from recsys.store.tables import own_tables

_T = TypeVar("_T")
_FAULTS = (sa.exc.DataError, sa.exc.IntegrityError, sa.exc.NotSupportedError)  # of a statement, not of the database


class ResilientStore:
    """Two pools of connections to the own tables, one that only reads; connected when first used."""

    def __init__(self, settings: StoreSettings, *, patience_seconds: float, size: int) -> None:
        """settings: where the tables are; size: how many uses at a time. Raises ConfigError for a URL of no use."""
        url = database_url(settings.url)
        self._patience, self._size = patience_seconds, size
        self._readers = Store(
            connect(url, patience_seconds=patience_seconds, only_reads=True, size=size),
            settings.table_prefix,
            own_tables(settings.table_prefix),
        )
        self._writers = Store(
            connect(url, patience_seconds=patience_seconds, size=size), settings.table_prefix, self._readers.tables
        )
        # A file cannot vanish silently in the middle of a statement; a server behind a network can.
        self._threads = None if url.drivername == "sqlite" else ThreadPoolExecutor(size, "database")
        self._lock = threading.Lock()
        self._is_away = True  # until it has been reached
        self._is_migrated = False

    @property
    def is_away(self) -> bool:
        """Whether uses fail at once."""
        return self._is_away

    def read(self, use: Callable[[Store], _T]) -> _T:
        """What `use` returns; it must only read. Raises AwayError when the database does not answer in time."""
        return self._use(use, self._readers)

    def write(self, use: Callable[[Store], _T]) -> _T:
        """What `use` returns; it has to be harmless twice.

        Raises AwayError when the database does not answer in time; whether it was done is then unknown.
        """
        return self._use(use, self._writers)

    def revive(self) -> bool:
        """Try to reach the database and bring its tables up to date; whether it is there now."""
        try:
            self._bounded(_reach if self._is_migrated else _migrate, self._writers)
        except (sa.exc.SQLAlchemyError, RecsysError, TimeoutError):
            self._is_away = True
            return False
        self._is_migrated = True
        self._is_away = False
        return True

    def close(self) -> None:
        """Close every connection."""
        self._is_away = True
        self._readers.close()
        self._writers.close()
        if self._threads:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _use(self, use: Callable[[Store], _T], store: Store) -> _T:
        started = time.monotonic()
        for attempt in (1, 2):
            if self._is_away:
                break
            try:
                return self._bounded(use, store)
            except _FAULTS:
                raise
            except (sa.exc.DBAPIError, sa.exc.TimeoutError, TimeoutError) as error:
                # What fails at once may be one connection that the server has closed; the pool drops all such.
                if attempt == 1 and not _is_busy(error) and time.monotonic() - started < self._patience / 2:
                    continue
                # A database that is merely busy is still there.
                self._is_away = not _is_busy(error)
                raise AwayError(f"the database of the service does not answer: {type(error).__name__}") from None
        raise AwayError("the database of the service does not answer")

    def _bounded(self, use: Callable[[Store], _T], store: Store) -> _T:
        threads = self._threads
        if threads is None:
            return use(store)
        try:
            return threads.submit(use, store).result(self._patience * 2)
        except TimeoutError:
            self._replace(threads)
            raise
        except RuntimeError as error:  # somebody has just given up on those threads
            raise TimeoutError from error

    def _replace(self, hanging: ThreadPoolExecutor) -> None:
        """Leave threads and connections that hang to themselves."""
        with self._lock:
            if self._threads is hanging:
                hanging.shutdown(wait=False, cancel_futures=True)
                self._threads = ThreadPoolExecutor(self._size, "database")
                self._readers.close()
                self._writers.close()


def _is_busy(error: Exception) -> bool:
    return isinstance(getattr(error, "orig", None), sqlite3.OperationalError) and "locked" in str(error)


def _reach(store: Store) -> None:
    with store.reading() as connection:
        connection.execute(sa.text("SELECT 1"))


def _migrate(store: Store) -> None:
    migrate(store)
