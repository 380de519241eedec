"""The life of bundles on disk: list, publish, roll back, pin, prune.

The bundles of a folder lie in its `bundles/`, beside CURRENT (the live one), PUBLISHED (those that were live, newest
last) and PINNED (set by a rollback).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle, bundles_folder, read_manifest
from recsys.bundle.files import open_items
from recsys.data import folder as folders
from recsys.data.arrays import Bool
from recsys.data.folder import failpoint
from recsys.errors import BundleError, NotFoundError

_PINNED, _PUBLISHED = "PINNED", "PUBLISHED"


@dataclass(frozen=True)
class Version:
    """A bundle on disk, as its manifest describes it."""

    version: str
    created_at: int  # microseconds, UTC
    model: str
    live: bool
    pinned: bool
    metrics: dict[str, Any]
    size: int  # bytes


def check(folder: Path, version: str) -> None:
    """Open a version as a server does: verify its files, load it, search once. Raises BundleError when that fails."""
    bundles.search_once(bundles.load(folder, version))


def publish(folder: Path, version: str, *, unless_pinned: bool = False, is_checked: bool = False) -> bool:
    """Make a version the live one and lift a pin. Returns whether it is live now.

    unless_pinned: change nothing while a bundle is pinned, as a nightly run must. is_checked: `check` has just passed.
    Raises NotFoundError when the version does not exist, BundleError when a server could not open it; the live bundle
    then stays.
    """
    parent = bundles_folder(folder)
    _check_known(parent, version)
    if not is_checked:
        check(folder, version)  # takes seconds: everything read before has to be read again after it
    with folders.exclusive_lock(parent):
        if unless_pinned and pinned(folder) is not None:
            return False
        _check_known(parent, version)
        lives = _lives(parent)
        if folders.current(parent) != version:
            folders.replace_text(parent / _PUBLISHED, "".join(f"{name}\n" for name in [*lives, version]))
            failpoint("in publish")
            folders.set_current(parent, version)
        if not unless_pinned:
            (parent / _PINNED).unlink(missing_ok=True)
    return True


def rollback(folder: Path, version: str | None = None) -> str:
    """Go back to a version that was live before, by default the last one, and pin it. Returns that version.

    While a bundle is pinned, training saves bundles but does not publish them. Raises NotFoundError when there is no
    earlier version, BundleError when a server could not open it; the live bundle then stays.
    """
    parent = bundles_folder(folder)
    while True:
        target = _earlier(parent, version)
        check(folder, target)
        with folders.exclusive_lock(parent):
            if _earlier(parent, version) != target:
                continue  # another version went live meanwhile
            folders.replace_text(parent / _PINNED, target + "\n")
            folders.set_current(parent, target)
            return target


def pinned(folder: Path) -> str | None:
    """The version that a rollback has pinned, or None."""
    return folders.read_text(bundles_folder(folder) / _PINNED).strip() or None


def list_versions(folder: Path) -> list[Version]:
    """List the complete bundles of a folder, newest first. Those of another format are left out."""
    parent = bundles_folder(folder)
    live, held = folders.current(parent), pinned(folder)
    found = []
    for name in _names(parent):
        try:
            manifest = read_manifest(parent / name)
        except BundleError:
            continue
        found.append(
            Version(
                version=name,
                created_at=manifest["created_at"],
                model=manifest["vectors"]["model"],
                live=name == live,
                pinned=name == held,
                metrics=manifest.get("metrics", {}),
                size=sum(file["size"] for file in manifest["files"].values()),
            )
        )
    return sorted(found, key=lambda version: (version.created_at, version.version), reverse=True)


def earlier_availability(folder: Path, bundle: Bundle, since: int) -> list[Bool]:
    """What was available when the bundles before this one were made, from `since` on (microseconds UTC): [I] each.

    In the rows of `bundle`; an item that an earlier bundle does not know, or says nothing of, counts as available.
    """
    parent, found = bundles_folder(folder), list[Bool]()
    for one in list_versions(folder):
        if not since <= one.created_at < bundle.manifest["created_at"]:
            continue
        try:
            catalog = open_items(parent / one.version)
        except (OSError, BundleError):
            continue  # it was removed meanwhile
        if "available" not in catalog.columns.column_names:
            continue
        said = np.array([each is not False for each in catalog.columns.column("available").to_pylist()], np.bool_)
        rows = bundle.catalog.ids.rows_in(catalog.ids)
        found.append(np.where(rows >= 0, said[rows], True))
    return found


def prune(folder: Path, keep: int, *, failed: Collection[str] = ()) -> list[str]:
    """Remove all but the newest `keep` bundles and return the removed versions.

    A bundle that was never published does not count: it is removed when a newer one was published, or when it is among
    `failed`, those of runs that failed. The live bundle, the pinned one, and the one that a rollback would go back to
    always stay.
    """
    parent = bundles_folder(folder)
    if not parent.is_dir():
        return []
    with folders.exclusive_lock(parent):
        live = folders.current(parent)
        earlier = [name for name in _lives(parent) if name != live]
        safe = {live, pinned(folder), *earlier[-1:]}
        found = list_versions(folder)
        remains = _remains(found, set(folders.read_text(parent / _PUBLISHED).split()), failed)
        kept = [v.version for v in found if v.version not in remains][:keep]
        gone = [v.version for v in found if v.version not in safe.union(kept)]
        for name in gone:
            folders.remove_folder(parent / name)
    return gone


def _remains(found: list[Version], published: set[str], failed: Collection[str]) -> set[str]:
    """The bundles that were never published and never will be. found: newest first."""
    newest = max((v.created_at for v in found if v.version in published), default=0)
    waiting = [v for v in found if v.version not in published]
    return {v.version for v in waiting if v.created_at < newest or v.version in failed}


def _names(parent: Path) -> list[str]:
    return sorted(path.parent.name for path in parent.glob(f"[!.]*/{folders.MANIFEST}"))


def _lives(parent: Path) -> list[str]:
    """The versions that were live and still exist, oldest first, up to the one that is live now.

    PUBLISHED is written before CURRENT moves, and a rollback leaves it alone. Names in it after the live version were
    never live, or were rolled back.
    """
    names = folders.read_text(parent / _PUBLISHED).split()
    live = folders.current(parent)
    if live in names:
        names = names[: len(names) - names[::-1].index(live)]
    existing = set(_names(parent))
    return [name for name in names if name in existing]


def _earlier(parent: Path, version: str | None) -> str:
    """The version to go back to: the given one, or the last that was live. Raises NotFoundError when there is none."""
    live = folders.current(parent)
    earlier = [name for name in _lives(parent) if name != live]
    if not earlier or (version is not None and version not in earlier):
        asked = "there is no earlier bundle" if version is None else f"{version!r} was not live before {live}"
        raise NotFoundError(f"{asked}; earlier ones: {', '.join(dict.fromkeys(earlier)) or 'none'}")
    return version or earlier[-1]


def _check_known(parent: Path, version: str) -> None:
    if version not in _names(parent):
        raise NotFoundError(f"no bundle {version!r} in {parent}; there are: {', '.join(_names(parent)) or 'none'}")
