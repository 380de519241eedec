"""The store for a service, which goes on while its database is down.

Every use has a time limit. The first failure marks the database as away, and further uses fail at once. A background
thread calls `revive` until the database answers again.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from recsys.config.settings import StoreSettings
from recsys.errors import AwayError, RecsysError
from recsys.store.database import Store, connect, database_url, is_busy
from recsys.store.migrate import migrate
from recsys.store.tables import own_tables

_T = TypeVar("_T")
_FAULTS = (
    sa.exc.DataError,
    sa.exc.IntegrityError,
    sa.exc.NotSupportedError,
)  # the statement is wrong, the database is there


class ResilientStore:
    """A store with a circuit breaker. It has a pool for reads and one for writes, which connect when first used."""

    def __init__(self, settings: StoreSettings, *, patience_seconds: float, size: int) -> None:
        """Prepare both pools.

        patience_seconds: the time limit of a use; size: concurrent uses. Raises ConfigError for a wrong URL.
        """
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
        # A server behind a network can hang in the middle of a statement; a file cannot.
        self._threads = None if url.drivername == "sqlite" else ThreadPoolExecutor(size, "database")
        self._lock = threading.Lock()
        self._is_away = True  # until it has been reached
        self._is_migrated = False

    @property
    def is_away(self) -> bool:
        """Whether uses fail at once."""
        return self._is_away

    def read(self, use: Callable[[Store], _T]) -> _T:
        """Call `use`, which must only read, and return its result.

        Raises AwayError when the database does not answer in time.
        """
        return self._use(use, self._readers)

    def write(self, use: Callable[[Store], _T]) -> _T:
        """Call `use`, which must be idempotent, and return its result.

        Raises AwayError when the database does not answer in time; it is then unknown whether `use` took effect.
        """
        return self._use(use, self._writers)

    def revive(self) -> bool:
        """Try to reach the database and migrate its tables; return whether it answered."""
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
                # A failure at once may be a connection that the server closed. The pool has dropped it, so retry.
                if attempt == 1 and not is_busy(error) and time.monotonic() - started < self._patience / 2:
                    continue
                # A database that is only busy is not away.
                self._is_away = not is_busy(error)
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
        except RuntimeError as error:  # another thread has just replaced the pool
            raise TimeoutError from error

    def _replace(self, hanging: ThreadPoolExecutor) -> None:
        """Replace threads and connections that hang; they end by themselves."""
        with self._lock:
            if self._threads is hanging:
                hanging.shutdown(wait=False, cancel_futures=True)
                self._threads = ThreadPoolExecutor(self._size, "database")
                self._readers.close()
                self._writers.close()


def _reach(store: Store) -> None:
    with store.reading() as connection:
        connection.execute(sa.text("SELECT 1"))


def _migrate(store: Store) -> None:
    migrate(store)
