"""The extract: all events on disk, as of a watermark.

An extract is a folder `extract/<number>` beside the bundles, complete or absent; `extract/CURRENT` names the one that
counts. Its arrays are memory-mapped. Histories are read from it by recsys.serving.history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recsys.data.arrays import UInt64
from recsys.data.catalog import Catalog
from recsys.data.folder import (
    current,
    open_array,
    open_vocabulary,
    read_manifest,
    remove_folder,
    save_vocabulary,
    set_current,
    verify,
    write_folder,
)
from recsys.data.interactions import Interactions
from recsys.data.vocabulary import Vocabulary, hash_id
from recsys.errors import BundleError, NotFoundError

FORMAT = 1
KEPT = 2  # versions: the current one and the one that a process may still be opening

_RECENT = "recent.npy"
_ARRAYS = ("offsets", "items", "kinds", "times", "values")


class Readings(Protocol):
    """What a source has read, as far as an extract needs it."""

    @property
    def users(self) -> Vocabulary:
        """U users."""
        ...

    @property
    def catalog(self) -> Catalog:
        """I items."""
        ...

    @property
    def events(self) -> Interactions:
        """E events over those users and items."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each code in the events."""
        ...

    @property
    def watermark(self) -> int:
        """Own events received up to then (microseconds UTC) are among the events."""
        ...


@dataclass(frozen=True)
class Recent:
    """The own events that came shortly before the watermark and are in the extract.

    Another one of that time was stamped before the watermark and committed after the reading: the extract lacks it.
    """

    since: int  # microseconds UTC
    hashes: UInt64  # of their ids, sorted

    @classmethod
    def of(cls, event_ids: Sequence[str], since: int) -> "Recent":
        """The recent events with these ids."""
        return cls(since, np.sort(np.array([hash_id(identifier) for identifier in event_ids], np.uint64)))

    def __contains__(self, event_id: object) -> bool:
        wanted = np.uint64(hash_id(str(event_id)))
        at = int(np.searchsorted(self.hashes, wanted))
        return at < len(self.hashes) and bool(self.hashes[at] == wanted)


@dataclass(frozen=True)
class Extract:
    """The events of all users, memory-mapped. Its rows of users and items are its own, no bundle's."""

    users: Vocabulary  # U
    items: Vocabulary  # I
    events: Interactions
    kinds: tuple[str, ...]
    watermark: int  # own events received later are not in it; microseconds UTC
    as_of: int  # just after the newest event in it (0: there is none); microseconds UTC
    recent: Recent | None = None  # None: nobody looked which ones it has

    @property
    def complete_until(self) -> int:
        """Of the own events received until then none is missing; microseconds UTC."""
        return self.watermark if self.recent is None else self.recent.since

    def codes_of(self, kinds: Sequence[str]) -> list[int]:
        """Return the codes of those of the kinds that it knows."""
        return [self.kinds.index(kind) for kind in kinds if kind in self.kinds]


def write(folder: Path, loaded: Readings, recent: Recent | None = None) -> str:
    """Write a new version into `folder`/extract and return its name; it counts only when it is published.

    recent: the own events that came shortly before the watermark, as the database held them before they were read.
    Raises RecsysError when it cannot be written; nothing is left then.
    """
    parent = folder / "extract"

    def fill(target: Path) -> dict[str, Any]:
        save_vocabulary(target, "users", loaded.users)
        save_vocabulary(target, "items", loaded.catalog.ids)
        for name in _ARRAYS:
            np.save(target / f"{name}.npy", getattr(loaded.events, name), allow_pickle=False)
        if recent is not None:
            np.save(target / _RECENT, recent.hashes, allow_pickle=False)
        return {
            "format": FORMAT,
            "recent_since": None if recent is None else recent.since,
            "kinds": list(loaded.kinds),
            "watermark": loaded.watermark,
            "as_of": int(loaded.events.times.max()) + 1 if len(loaded.events) else 0,
            "users": len(loaded.users),
            "items": len(loaded.catalog.ids),
            "events": len(loaded.events),
        }

    name = f"{max((int(version) for version in _versions(parent)), default=0) + 1:08d}"
    write_folder(parent, name, fill)
    return name


def publish(folder: Path, name: str) -> None:
    """Make a written version the one that counts, and remove all but the newest two."""
    parent = folder / "extract"
    set_current(parent, name)
    for old in _versions(parent)[:-KEPT]:
        if old != name:
            remove_folder(parent / old)


def open_extract(folder: Path) -> Extract:
    """The current extract of `folder`, memory-mapped.

    Raises NotFoundError when there is none, BundleError when it is damaged or of another format.
    """
    parent = folder / "extract"
    name = current(parent)
    if name is None:
        raise NotFoundError(f"there is no extract in {parent}; `recsys train` writes one")
    manifest = read_manifest(parent / name)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{parent / name} has format {manifest.get('format')!r}; this version reads {FORMAT}")
    verify(parent / name)
    since = manifest.get("recent_since")
    arrays = {array: open_array(parent / name / f"{array}.npy") for array in _ARRAYS}
    extract = Extract(
        users=open_vocabulary(parent / name, "users"),
        items=open_vocabulary(parent / name, "items"),
        events=Interactions(item_count=manifest["items"], **arrays),
        kinds=tuple(manifest["kinds"]),
        watermark=manifest["watermark"],
        as_of=manifest["as_of"],
        recent=None if since is None else Recent(since, open_array(parent / name / _RECENT)),
    )
    found = {"users": extract.events.user_count, "items": len(extract.items), "events": len(extract.events)}
    if found != {key: manifest[key] for key in found} or len(extract.users) != found["users"]:
        raise BundleError(f"{parent / name}: its manifest and its arrays do not agree; found {found}")
    return extract


def _versions(parent: Path) -> list[str]:
    """The names of all complete versions, oldest first."""
    return sorted(path.parent.name for path in parent.glob("[0-9]*/manifest.json"))
