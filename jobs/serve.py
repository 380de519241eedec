"""`recsys serve` and `recsys key …`: start the service, create and revoke its keys."""

import errno
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn

from jobs.logs import FORMS
from jobs.output import Output, Table
from recsys.config.settings import Config
from recsys.data.folder import check_folder
from recsys.data.times import rfc3339
from recsys.errors import ConfigError, RecsysError
from recsys.progress import Progress
from recsys.store.keys import RENAMED_SCOPES, Key, create_key, current_scopes, list_keys, revoke_key
from recsys.store.migrate import open_store
from recsys.store.shop import check_shop

APP = "api.app:create_app"  # a string: every worker imports it, and jobs do not import api
_STARTUP_FAILURE = 3
WIRE = "api.protocol:HttpProtocol"


def serve(config: Config, *, path: Path) -> None:
    """Serve until a signal stops it. path: the configuration file, which every worker reads for itself.

    Raises ConfigError when it would listen beyond this machine without a key, RecsysError when it cannot listen or
    [storage] path is no folder that can be read.
    """
    settings = config.api
    check_folder(config.storage.path)
    _check_keys(config)
    _check_address(settings.host, settings.port)
    shared = tempfile.mkdtemp(prefix="recsys-metrics-")
    os.environ |= {
        "RECSYS_CONFIG": str(path),
        "PROMETHEUS_MULTIPROC_DIR": shared,
        # Requests run side by side already; threads within one would only wait for each other.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
        # What a search needs for a moment goes back to the system; each thread would else keep some for itself.
        "MALLOC_MMAP_THRESHOLD_": os.environ.get("MALLOC_MMAP_THRESHOLD_", "262144"),
    }
    try:
        uvicorn.run(
            APP,
            factory=True,
            http=WIRE,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            access_log=False,  # it would write down ids and queries
            log_config={**_LOGGING, "formatters": {"plain": {"()": FORMS[config.log.form]}}},
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=10,
            timeout_keep_alive=75,  # longer than proxies keep a connection, so that none is closed while they use it
        )
    except SystemExit as end:
        if end.code == _STARTUP_FAILURE:  # uvicorn's; here 3 means refused
            raise RecsysError("the service did not start; the log above says why") from None
        raise
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def key_create(config: Config, *, name: str, scopes: list[str], progress: Progress) -> Output:
    """Create a key and show it this once. A scope may have its old name; the error stream says so."""
    for scope in scopes:
        if scope in RENAMED_SCOPES:
            sys.stderr.write(f"warning: the scope {scope!r} is called {RENAMED_SCOPES[scope]!r} now\n")
    scopes = list(dict.fromkeys(current_scopes(scopes)))
    progress("key", 0.0)
    store = open_store(config.store.url, config.store.table_prefix)
    key_id, key = create_key(store, name, tuple(scopes))
    store.close()
    progress("key", 1.0)
    message = f"{key}\n\nThis is key {key_id}, {name!r}, for {', '.join(scopes)}. It is shown this once: keep it safe."
    return Output({"key_id": key_id, "name": name, "scopes": scopes, "key": key}, [message])


def key_list(config: Config, *, progress: Progress) -> Output:
    """List all keys, revoked ones too, without their secrets."""
    progress("keys", 0.0)
    store = open_store(config.store.url, config.store.table_prefix)
    keys = [_describe(key) for key in list_keys(store)]
    store.close()
    progress("keys", 1.0)
    columns = ["key_id", "name", "scopes", "created_at", "revoked_at"]
    return Output(keys, [Table("Keys", columns, [[key[column] for column in columns] for key in keys])])


def key_revoke(config: Config, *, key_id: str, progress: Progress) -> Output:
    """Revoke a key. Every worker refuses it within [api] poll_seconds."""
    progress("key", 0.0)
    store = open_store(config.store.url, config.store.table_prefix)
    key = revoke_key(store, key_id)
    store.close()
    progress("key", 1.0)
    message = f"{key.key_id}, {key.name!r}, is revoked; workers refuse it within {config.api.poll_seconds:g} s"
    return Output(_describe(key), [message])


def _describe(key: Key) -> dict[str, Any]:
    moments = {"created_at": key.created_at, "revoked_at": key.revoked_at}
    times = {name: rfc3339(time, whole_seconds=True, utc="+00:00") for name, time in moments.items()}
    values = {"key_id": key.key_id, "name": key.name, "scopes": " ".join(key.scopes)}
    return values | times


def _check_address(host: str, port: int) -> None:
    """Raises RecsysError when the service could not listen there: the port is taken, or the address is not ours."""
    errors = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            errors.append(_bind_error(family, address))
    except OSError as error:  # no such name
        errors.append(error)
    found = next((error for error in errors if error and error.errno == errno.EADDRINUSE), None)
    if found is None and None in errors:
        return  # a name may stand for an address that this machine lacks, as localhost for ::1
    why = "the port is taken" if found else next(str(error.strerror) for error in errors if error)
    raise RecsysError(f"cannot listen on {host}:{port}: {why}; choose another with --host and --port, or in [api]")


def _bind_error(family: int, address: Any) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the service does
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _check_keys(config: Config) -> None:
    """Raises ConfigError when others could reach the service and there is no key."""
    host = config.api.host
    try:
        store = open_store(config.store.url, config.store.table_prefix)
    except ConfigError:
        raise
    except RecsysError:
        if _is_loopback(host):
            return  # answers come from the extract until the database is back
        raise
    try:
        check_shop(store, config.storage.path, config.source.url)
    except RecsysError:
        store.close()
        raise
    usable = any(key.revoked_at is None for key in list_keys(store))
    store.close()
    if not usable and not _is_loopback(host):
        raise ConfigError(
            f"without a key the service listens on loopback only, and [api] host is {host!r}; make a key with "
            "`recsys key create NAME --scope recommend`, or serve on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"}},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "recsys": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}
