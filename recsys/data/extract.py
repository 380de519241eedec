"""The extract: all events on disk, as of a watermark.

An extract is a folder `extract/<number>` beside the bundles, complete or absent; `extract/CURRENT` names the one that
counts. Its arrays are memory-mapped. Histories are read from it by recsys.serving.history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

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
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError, NotFoundError

FORMAT = 1
KEPT = 2  # versions: the current one and the one that a process may still be opening

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
class Extract:
    """The events of all users, memory-mapped. Its rows of users and items are its own, no bundle's."""

    users: Vocabulary  # U
    items: Vocabulary  # I
    events: Interactions
    kinds: tuple[str, ...]
    watermark: int  # own events received later are not in it; microseconds UTC
    as_of: int  # just after the newest event in it (0: there is none); microseconds UTC

    def codes_of(self, kinds: Sequence[str]) -> list[int]:
        """Return the codes of those of the kinds that it knows."""
        return [self.kinds.index(kind) for kind in kinds if kind in self.kinds]


def write(folder: Path, loaded: Readings) -> str:
    """Write a new version into `folder`/extract and return its name; it counts only when it is published.

    Raises RecsysError when it cannot be written; nothing is left then.
    """
    parent = folder / "extract"

    def fill(target: Path) -> dict[str, Any]:
        save_vocabulary(target, "users", loaded.users)
        save_vocabulary(target, "items", loaded.catalog.ids)
        for name in _ARRAYS:
            np.save(target / f"{name}.npy", getattr(loaded.events, name), allow_pickle=False)
        return {
            "format": FORMAT,
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
    arrays = {array: open_array(parent / name / f"{array}.npy") for array in _ARRAYS}
    extract = Extract(
        users=open_vocabulary(parent / name, "users"),
        items=open_vocabulary(parent / name, "items"),
        events=Interactions(item_count=manifest["items"], **arrays),
        kinds=tuple(manifest["kinds"]),
        watermark=manifest["watermark"],
        as_of=manifest["as_of"],
    )
    found = {"users": extract.events.user_count, "items": len(extract.items), "events": len(extract.events)}
    if found != {key: manifest[key] for key in found} or len(extract.users) != found["users"]:
        raise BundleError(f"{parent / name}: its manifest and its arrays do not agree; found {found}")
    return extract


def _versions(parent: Path) -> list[str]:
    """The names of all complete versions, oldest first."""
    return sorted(path.parent.name for path in parent.glob("[0-9]*/manifest.json"))
