"""The short commands: each takes the configuration and returns what is printed. None loads what reads a source."""

import logging
from contextlib import closing
from pathlib import Path

from jobs.output import Output, Table
from recsys.bundle import versions
from recsys.config.settings import Config
from recsys.data.times import readable
from recsys.errors import RecsysError, RefusedError
from recsys.progress import Progress
from recsys.store.database import Store
from recsys.store.migrate import open_store
from recsys.store.runs import failed_bundles
from recsys.store.shop import check_shop, claim_folder

_log = logging.getLogger(__name__)


def open_configured(config: Config) -> Store:
    """Open the store that the configuration names."""
    return open_store(config.store.url, config.store.table_prefix)


def open_shop(config: Config) -> Store:
    """Open the store, and check that the data folder is this shop's. Raises RefusedError when it is another's."""
    store = open_configured(config)
    try:
        check_shop(store, config.storage.path, config.source.url)
    except RecsysError:
        store.close()
        raise
    return store


def init(config: Config, *, path: Path, is_new: bool, shop: str | None = None, progress: Progress) -> Output:
    """Create the service's own tables, or migrate them to this version.

    path: the configuration file. is_new: whether it has just been written. shop: the system whose queries are in it.
    """
    progress("tables", 0.0)
    with closing(open_configured(config)) as store:
        where = store.engine.url.render_as_string(hide_password=True)
    progress("tables", 1.0)
    note = f"{path} was written: every key with its default" if is_new else f"{path} exists and was not changed"
    notes = [note, f"the service's tables are ready in {where}"]
    if shop is not None:
        notes.append(f"the first lines of {path} say what to fill in; `recsys source check --config {path}` comes next")
    return Output({"configuration": str(path), "written": is_new, "store": where}, notes)


def bundles(config: Config, *, progress: Progress) -> Output:
    """List the bundles on disk."""
    progress("bundles", 1.0)
    found = versions.list_versions(config.storage.path)
    data = [{**vars(version), "created_at": readable(version.created_at)} for version in found]
    rows = [
        [
            version.version,
            "live, pinned" if version.pinned and version.live else "live" if version.live else "",
            version.model,
            version.metrics.get("gate", {}).get("candidate"),
            f"{version.size / 1e6:.1f} MB",
        ]
        for version in found
    ]
    return Output(data, [Table("Bundles, newest first", ["version", "state", "model", "ndcg@20", "size"], rows)])


def publish(config: Config, *, version: str, progress: Progress) -> Output:
    """Make a version live and remove a pin."""
    progress("publish", 0.0)
    _check_own_folder(config)
    versions.publish(config.storage.path, version)
    progress("publish", 1.0)
    return Output({"live": version, "pinned": False}, [f"{version} is live"])


def rollback(config: Config, *, progress: Progress) -> Output:
    """Go back to the previously live bundle and pin it."""
    progress("rollback", 0.0)
    _check_own_folder(config)
    version = versions.rollback(config.storage.path)
    progress("rollback", 1.0)
    note = f"{version} is live and pinned; `recsys publish VERSION` lets the nights publish again"
    return Output({"live": version, "pinned": True}, [note])


def claim(config: Config, *, progress: Progress) -> Output:
    """Make the data folder this configuration's, whoever had it before."""
    progress("claim", 0.0)
    folder = config.storage.path
    with closing(open_configured(config)) as store:
        claim_folder(store, folder, config.source.url, taken_over=True)
    progress("claim", 1.0)
    return Output({"folder": str(folder)}, [f"{folder} belongs to this configuration now"])


def prune(config: Config, *, progress: Progress) -> Output:
    """Delete bundles: those beyond [storage] keep_bundles, and those of runs that failed before they published."""
    progress("prune", 0.0)
    with closing(open_shop(config)) as store:
        failed = failed_bundles(store)
    gone = versions.prune(config.storage.path, config.storage.keep_bundles, failed=failed)
    progress("prune", 1.0)
    return Output({"deleted": gone}, [f"deleted: {', '.join(gone) or 'none'}"])


def _check_own_folder(config: Config) -> None:
    """Raises RefusedError when the data folder is another shop's. Bundles can be changed while the database is away."""
    try:
        open_shop(config).close()
    except RefusedError:
        raise
    except RecsysError as error:
        _log.warning("not checked whose folder it is: %s", error)
