"""The versioned artifact: everything an answer needs, on disk, memory-mapped; publish, roll back, prune.

The bundles of a folder lie in its `bundles/`, beside CURRENT (the live one), PUBLISHED (those that were live, newest
last) and PINNED (set by a rollback). Nothing in a bundle is about a person. Shapes: I items, D dim, B queries.
"""

import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.bundle import files as bundle_files
from recsys.config.settings import IndexSettings
from recsys.data import folder as artifact
from recsys.data.arrays import Bool, Float32, Int32
from recsys.data.catalog import Catalog
from recsys.data.folder import failpoint
from recsys.errors import BundleError, NotFoundError, RecsysError
from recsys.index import flat
from recsys.index import registry as indexes
from recsys.index.exact import Items
from recsys.index.registry import EXACT, BuiltIndex, Index
from recsys.models.vectors import Vectors

FORMAT = 1
_PINNED, _PUBLISHED = "PINNED", "PUBLISHED"
_LIBRARIES = ("recsys", "numpy", "scipy", "pyarrow", "faiss-cpu", "onnxruntime", "torch", "torchrec")


@dataclass(frozen=True)
class Bundle:
    """What answers come from. Of I items; arrays may be memory-mapped and are never written."""

    version: str  # "" before it is saved
    manifest: dict[str, Any]
    kinds: tuple[str, ...]  # by kind code
    catalog: Catalog
    vectors: Vectors
    popularity: Float32  # [I], higher is more popular
    index: Index
    evaluation: Vectors | None  # from before the refit, for the gate alone
    with_vector: Bool  # [I]: items that a personal score can rank; a vector of zeros says nothing
    most_popular: Int32  # [I]: rows by popularity, highest first, ties by row

    def codes_of(self, kinds: Sequence[str]) -> list[int]:
        """The codes of those of the kinds that it knows."""
        return [self.kinds.index(kind) for kind in kinds if kind in self.kinds]

    @cached_property
    def directions(self) -> Items:
        """The items' tastes for search by cosine; made when first asked for, which reads them all once."""
        return Items(self.vectors.personal_columns(self.vectors.item_vectors), cosine=True)


@dataclass(frozen=True)
class Version:
    """A bundle on disk, as its manifest tells."""

    version: str
    created_at: int  # microseconds, UTC
    model: str
    live: bool
    pinned: bool
    metrics: dict[str, Any]
    size: int  # bytes


def assemble(
    vectors: Vectors,
    catalog: Catalog,
    popularity: Float32,
    *,
    kinds: tuple[str, ...],
    index_settings: IndexSettings,
    queries: Float32 | None = None,
    evaluation: Vectors | None = None,
) -> Bundle:
    """A bundle in memory, not saved.

    popularity: float32 [I]. queries: user vectors [B, D] with which the configured index is measured; without them the
    index is the exact one and its recall is not measured, as judging and validation want it.
    evaluation: the same model before its refit. Raises RecsysError when counts differ or a vector is not finite.
    """
    popularity = np.ascontiguousarray(popularity, np.float32)
    for which in (vectors, evaluation):
        if which is not None and (fault := bundle_files.count_fault(which, len(catalog))):
            raise RecsysError(f"the vectors of {which.model} and a catalog of {len(catalog)} items do not fit: {fault}")
    if popularity.shape != (len(catalog),):
        raise RecsysError(f"popularity is {popularity.shape}, the catalog has {len(catalog)} items")
    if queries is None:
        built = BuiltIndex(flat.build(vectors.item_vectors), EXACT, recall={})
    else:
        built = indexes.build(index_settings.kind, vectors.item_vectors, queries, min_recall=index_settings.min_recall)
    return Bundle(
        version="",
        manifest={"index": {"kind": built.kind, "asked": index_settings.kind, "recall@20": built.recall}},
        kinds=kinds,
        catalog=catalog,
        vectors=vectors,
        popularity=popularity,
        index=built.index,
        evaluation=evaluation,
        with_vector=_rows_with_vector(vectors.item_vectors),
        most_popular=_by_popularity(popularity),
    )


def save(bundle: Bundle, folder: Path, *, facts: dict[str, Any]) -> str:
    """Write a bundle, complete or not at all, and return its version, `<utc time>-<model>-<config hash>`.

    facts: what the manifest shall say beyond the bundle itself: "configuration", "config_hash", "data", "metrics", …
    Raises RecsysError when it cannot be written; nothing is left then.
    """
    created_at = time.time_ns() // 1000
    stamp = datetime.fromtimestamp(created_at / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    model = re.sub(r"[^a-z0-9_]+", "_", bundle.vectors.model.lower())
    version = f"{stamp}-{model}-{facts['config_hash']}"
    manifest = {
        **facts,
        "format": FORMAT,
        "version": version,
        "created_at": created_at,
        "versions": _library_versions(),
        "items": len(bundle.catalog),
        "kinds": list(bundle.kinds),
        **bundle.manifest,
        "vectors": bundle_files.describe(bundle.vectors),
        "evaluation": None if bundle.evaluation is None else bundle_files.describe(bundle.evaluation),
    }

    def fill(temporary: Path) -> dict[str, Any]:
        bundle_files.write_items(temporary, bundle.catalog)
        bundle_files.write_vectors(temporary, bundle.vectors)
        failpoint("in save")
        np.save(temporary / "popularity.npy", bundle.popularity, allow_pickle=False)
        if bundle.evaluation is not None:
            bundle_files.write_vectors(temporary / "evaluation", bundle.evaluation)
        bundle.index.write(temporary / "index.faiss")
        return manifest

    artifact.write_folder(_room(folder), version, fill)
    return version


def load(folder: Path, version: str | None = None) -> Bundle:
    """Open a version (None: the live one), memory-mapped and verified.

    Raises BundleError when there is none, its format is not ours, a file is missing or damaged or counts differ; the
    message names the file, what was expected and what was found.
    """
    room = _room(folder)
    name = version or artifact.current(room)
    if name is None:
        raise BundleError(f"no bundle has been published in {folder}; `recsys train` makes one")
    place = room / name
    manifest = _read_manifest(place)
    artifact.verify(place)
    try:
        return _open(name, place, manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise BundleError(f"{place} cannot be read: {type(error).__name__}: {error}") from error


def publish(folder: Path, version: str, *, unless_pinned: bool = False) -> bool:
    """Make a version the live one and lift a pin; whether it was done.

    unless_pinned: leave everything as it is when a rollback has pinned a bundle, as a nightly run must.
    Raises BundleError when it is damaged, NotFoundError when it is not there.
    """
    room = _room(folder)
    _check_known(room, version)
    _verify(room / version)  # takes seconds: nothing that was read before it is believed after it
    with artifact.exclusive_lock(room):
        if unless_pinned and pinned(folder) is not None:
            return False
        _check_known(room, version)
        lives = _lives(room)
        if artifact.current(room) != version:
            artifact.replace_text(room / _PUBLISHED, "".join(f"{name}\n" for name in [*lives, version]))
            failpoint("in publish")
            artifact.set_current(room, version)
        if not unless_pinned:
            (room / _PINNED).unlink(missing_ok=True)
    return True


def rollback(folder: Path, version: str | None = None) -> str:
    """Go back to a version that was live before (None: the last one) and pin it; returns the version that is live now.

    While it is pinned, training saves bundles but does not publish them. Raises NotFoundError when there is none to go
    back to, BundleError when it is damaged.
    """
    room = _room(folder)
    while True:
        target = _earlier(room, version)
        _verify(room / target)
        with artifact.exclusive_lock(room):
            if _earlier(room, version) != target:
                continue  # another one went live meanwhile
            artifact.replace_text(room / _PINNED, target + "\n")
            artifact.set_current(room, target)
            return target


def pinned(folder: Path) -> str | None:
    """The version that a rollback has pinned, or None."""
    return artifact.read_text(_room(folder) / _PINNED).strip() or None


def versions(folder: Path) -> list[Version]:
    """All complete bundles of a folder, newest first. Those of another format are left out."""
    room = _room(folder)
    live, held = artifact.current(room), pinned(folder)
    found = []
    for name in _names(room):
        try:
            manifest = _read_manifest(room / name)
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


def prune(folder: Path, keep: int) -> list[str]:
    """Remove all but the newest `keep` bundles, and return what was removed.

    The live bundle, the one a rollback would go back to, and a pinned one always stay.
    """
    room = _room(folder)
    if not room.is_dir():
        return []
    with artifact.exclusive_lock(room):
        live = artifact.current(room)
        earlier = [name for name in _lives(room) if name != live]
        safe = {live, pinned(folder), *earlier[-1:]}
        gone = [v.version for v in versions(folder)[keep:] if v.version not in safe]
        for name in gone:
            artifact.remove_folder(room / name)
    return gone


def _open(name: str, place: Path, manifest: dict[str, Any]) -> Bundle:
    count = manifest["items"]
    catalog = bundle_files.open_items(place)
    vectors = bundle_files.open_vectors(place, manifest["vectors"], count)
    earlier = manifest["evaluation"]
    popularity = artifact.open_array(place / "popularity.npy")
    index = indexes.load(place / "index.faiss", manifest["index"]["kind"], vectors.item_vectors)
    for what, size, expected in (
        ("items.arrow", (len(catalog),), (count,)),
        ("popularity.npy", popularity.shape, (count,)),
        ("index.faiss", (len(index), index.dim), (count, vectors.dim)),
    ):
        if size != expected:
            raise BundleError(f"{place}: {what}: expected {expected}, found {size}")
    return Bundle(
        version=name,
        manifest=manifest,
        kinds=tuple(manifest["kinds"]),
        catalog=catalog,
        vectors=vectors,
        popularity=popularity,
        index=index,
        evaluation=None if earlier is None else bundle_files.open_vectors(place / "evaluation", earlier, count),
        with_vector=_rows_with_vector(vectors.item_vectors),
        most_popular=_by_popularity(popularity),
    )


def _rows_with_vector(item_vectors: Float32) -> Bool:
    step = 2**16  # bounds what is copied of a memory-mapped table
    parts = [item_vectors[start : start + step].any(axis=1) for start in range(0, len(item_vectors), step)]
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


def _by_popularity(popularity: Float32) -> Int32:
    return np.argsort(-popularity, kind="stable").astype(np.int32)


def _room(folder: Path) -> Path:
    artifact.check_folder(folder)
    return folder / "bundles"


def _names(room: Path) -> list[str]:
    return sorted(path.parent.name for path in room.glob(f"[!.]*/{artifact.MANIFEST}"))


def _lives(room: Path) -> list[str]:
    """The versions that were live and still exist, oldest first, up to the one that is live now.

    PUBLISHED is written before CURRENT moves, and a rollback leaves it alone: what stands in it behind the live version
    was never live, or was rolled back from.
    """
    names = artifact.read_text(room / _PUBLISHED).split()
    live = artifact.current(room)
    if live in names:
        names = names[: len(names) - names[::-1].index(live)]
    existing = set(_names(room))
    return [name for name in names if name in existing]


def _earlier(room: Path, version: str | None) -> str:
    """The version to go back to: the given one, if it was live before, or else the last one. Raises NotFoundError."""
    live = artifact.current(room)
    earlier = [name for name in _lives(room) if name != live]
    if not earlier or (version is not None and version not in earlier):
        asked = "there is no earlier bundle" if version is None else f"{version!r} was not live before {live}"
        raise NotFoundError(f"{asked}; earlier ones: {', '.join(dict.fromkeys(earlier)) or 'none'}")
    return version or earlier[-1]


def _verify(place: Path) -> None:
    _read_manifest(place)
    artifact.verify(place)


def _check_known(room: Path, version: str) -> None:
    if version not in _names(room):
        raise NotFoundError(f"no bundle {version!r} in {room}; there are: {', '.join(_names(room)) or 'none'}")


def _read_manifest(place: Path) -> dict[str, Any]:
    manifest = artifact.read_manifest(place)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{place}: format {manifest.get('format')!r}; this version of recsys reads format {FORMAT}")
    return manifest


def _library_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
