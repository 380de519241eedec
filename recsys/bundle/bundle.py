"""The versioned artifact: everything an answer needs, on disk, memory-mapped.

Nothing in a bundle is about a person. Shapes: I items, D dim, B queries.
"""

import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.bundle import files as bundle_files
from recsys.bundle.record_files import open_demand, open_prices, write_demand, write_prices
from recsys.bundle.search_files import open_search, write_search
from recsys.config.settings import IndexSettings
from recsys.content.search import CatalogSearch, build_search
from recsys.data import folder as folders
from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.catalog import Catalog
from recsys.data.demand import Demand
from recsys.data.folder import failpoint
from recsys.data.interactions import Histories
from recsys.data.prices import PriceChanges
from recsys.data.ragged import Ragged
from recsys.data.times import MICROSECONDS_PER_DAY, to_datetime
from recsys.errors import BundleError, RecsysError
from recsys.index import choice, flat
from recsys.index import registry as indexes
from recsys.index.exact import Items, search_exactly
from recsys.index.registry import EXACT, BuiltIndex, Index
from recsys.models.vectors import Vectors
from recsys.propensity.files import Propensity, open_propensity, write_propensity
from recsys.propensity.inputs import categories_of
from recsys.related import tables
from recsys.related.tables import Related

FORMAT = 1
_DIRECTIONS, _WITH_VECTOR, _LOOKS = "directions.faiss", "with_vector.npy", "looks.npy"
_LIBRARIES = ("recsys", "numpy", "scipy", "pyarrow", "faiss-cpu", "onnxruntime", "torch", "torchrec")


@dataclass(frozen=True)
class Bundle:
    """Everything that answers come from, over I items. Arrays may be memory-mapped and are read-only."""

    version: str  # empty before it is saved
    manifest: dict[str, Any]
    kinds: tuple[str, ...]  # by kind code
    catalog: Catalog
    vectors: Vectors
    popularity: Float32  # [I], higher is more popular
    index: Index
    evaluation: Vectors | None  # before the refit; only the gate uses them
    with_vector: Bool  # [I]: whether an item's vector is not zero, so that a personal score can rank it
    most_popular: Int32  # [I]: rows by popularity, highest first, ties by row
    directions_index: Index | None = None  # by cosine, over the personal columns; None: exact search finds them
    demand: Demand | None = None  # events by day, over the I items; None: a bundle of before version 0.2 has none
    prices: PriceChanges | None = None  # how prices changed from one training to the next; None: as demand
    related: Related | None = None  # what belongs together, over the I items; None: as of demand
    propensity: Propensity | None = None  # who buys again; None: as of demand
    looks: Float32 | None = None  # [I, D] of the items' pictures, of length 1 or zeros; None: none were encoded
    words: CatalogSearch | None = None  # of the catalog as they were saved; None: read them with `search`

    def codes_of(self, kinds: Sequence[str]) -> list[int]:
        """The codes of the kinds of events that the bundle knows; others are left out."""
        return [self.kinds.index(kind) for kind in kinds if kind in self.kinds]

    @cached_property
    def directions(self) -> Items:
        """The personal part of the item vectors, for search by cosine. Computed on first use."""
        return Items(self.vectors.personal_columns(self.vectors.item_vectors), cosine=True)

    def search_directions(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
    ) -> tuple[Float32, Int32]:
        """Find the k eligible items of the directions nearest to queries [B, D] of length 1; see Index.search."""
        if self.directions_index is None:
            return search_exactly(self.directions, queries, k, allowed=allowed, excluded=excluded)
        return self.directions_index.search(queries, k, allowed=allowed, excluded=excluded)

    @cached_property
    def search(self) -> CatalogSearch:
        """The words of the catalog. Those that were not saved are read on first use."""
        return self.words or build_search(list(self.catalog.ids), self.catalog.columns)

    @cached_property
    def arrived(self) -> Int64:
        """When each item came to the shop: int64 [I], microseconds UTC; -1 where nobody knows. Computed on first use.

        That is its created_at or, where the catalog says none, the end of the day of its first event.
        """
        first = np.full(len(self.catalog), -1, np.int64)
        if self.demand is not None:
            days = self.demand.first_days(len(self.catalog))
            ends = np.minimum((days + 1) * MICROSECONDS_PER_DAY, self.demand.until) - 1
            first = np.where(days < 0, -1, ends)
        return np.where(self.catalog.created_at < 0, first, self.catalog.created_at)

    @cached_property
    def category_of(self) -> Int64:
        """The number of each item's category [I], -1 where the catalog says none. Computed on first use."""
        return categories_of(self.catalog)[0]

    @cached_property
    def newest(self) -> Int32:
        """The rows whose `arrived` is known, the newest first, ties by row. Computed on first use."""
        order = np.argsort(-self.arrived, kind="stable")
        return order[: np.count_nonzero(self.arrived >= 0)].astype(np.int32)


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
    """Put a bundle together in memory.

    popularity: float32 [I]. queries: user vectors [B, D] that measure the recall of the configured index. Without them
    the index is the exact one and is not measured, as evaluation needs it. evaluation: the same model before its refit.
    Raises RecsysError when counts differ or a vector is not finite.
    """
    popularity = np.ascontiguousarray(popularity, np.float32)
    for which in (vectors, evaluation):
        if which is not None and (fault := bundle_files.count_fault(which, len(catalog))):
            raise RecsysError(f"the vectors of {which.model} and a catalog of {len(catalog)} items do not fit: {fault}")
    if popularity.shape != (len(catalog),):
        raise RecsysError(f"popularity is {popularity.shape}, the catalog has {len(catalog)} items")
    directions = None
    if queries is None:
        built = BuiltIndex(flat.build(vectors.item_vectors), EXACT, recall={})
    else:
        least = index_settings.min_recall
        built = choice.build(index_settings.kind, vectors.item_vectors, queries, min_recall=least)
        if index_settings.kind == choice.AUTO:
            personal = Items(vectors.personal_columns(vectors.item_vectors), cosine=True)
            directions = choice.build_directions(personal, min_recall=least)
    manifest = {"index": _index_facts(built) | {"asked": index_settings.kind}}
    if directions is not None:
        manifest["directions"] = _index_facts(directions)
    return Bundle(
        version="",
        manifest=manifest,
        kinds=kinds,
        catalog=catalog,
        vectors=vectors,
        popularity=popularity,
        index=built.index,
        evaluation=evaluation,
        with_vector=_rows_with_vector(vectors.item_vectors),
        most_popular=_by_popularity(popularity),
        directions_index=directions.index if directions is not None else None,
    )


def save(bundle: Bundle, folder: Path, *, facts: dict[str, Any]) -> str:
    """Write a bundle, complete or not at all, and return its version, `<utc time>-<model>-<config hash>`.

    facts: further values of the manifest: "configuration", "config_hash", "data", "metrics", …
    Raises RecsysError when it cannot be written, and leaves nothing behind.
    """
    created_at = time.time_ns() // 1000
    stamp = to_datetime(created_at).strftime("%Y%m%dT%H%M%S.%fZ")
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
        if bundle.directions_index is not None:
            bundle.directions_index.write(temporary / _DIRECTIONS)
        write_search(temporary, bundle.search)
        if bundle.looks is not None:
            np.save(temporary / _LOOKS, bundle.looks, allow_pickle=False)
        np.save(temporary / _WITH_VECTOR, bundle.with_vector, allow_pickle=False)
        records = {} if bundle.demand is None else {"demand": write_demand(temporary, bundle.demand)}
        if bundle.prices is not None:
            records["prices"] = write_prices(temporary, bundle.prices)
        if bundle.related is not None:
            tables.write(temporary, bundle.related)
            records["related"] = bundle.related.facts
        if bundle.propensity is not None:
            records["propensity"] = write_propensity(temporary, bundle.propensity)
        return manifest | records

    folders.write_folder(bundles_folder(folder), version, fill)
    return version


def load(folder: Path, version: str | None = None) -> Bundle:
    """Open a version, by default the live one, memory-mapped and verified.

    Raises BundleError when there is none, or when its format, a file, a checksum or a count is wrong. The message
    names the file, what was expected and what was found.
    """
    parent = bundles_folder(folder)
    name = version or folders.current(parent)
    if name is None:
        raise BundleError(f"no bundle has been published in {folder}; `recsys train` makes one")
    place = parent / name
    manifest = read_manifest(place)
    folders.verify(place)
    try:
        return _open(name, place, manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise BundleError(f"{place} cannot be read: {type(error).__name__}: {error}") from error


def bundles_folder(folder: Path) -> Path:
    """Where the bundles of a storage folder lie. Raises RecsysError when the folder cannot be read."""
    folders.check_folder(folder)
    return folder / "bundles"


def read_manifest(place: Path) -> dict[str, Any]:
    """The manifest of a bundle. Raises BundleError when there is none or its format is another."""
    manifest = folders.read_manifest(place)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{place}: format {manifest.get('format')!r}; this version of recsys reads format {FORMAT}")
    return manifest


def search_once(bundle: Bundle) -> None:
    """Encode one history and search with it, to prove that the bundle answers.

    Raises BundleError when it does not.
    """
    if not len(bundle.catalog):
        return
    history = Histories(
        np.array([0, 1], np.int64), bundle.most_popular[:1], np.zeros(1, np.int8), np.zeros(1, np.float32)
    )
    try:
        _, rows = bundle.index.search(bundle.vectors.encode(history), 1)
    except Exception as error:  # an encoder or index that is damaged or foreign may raise anything
        raise BundleError(f"{bundle.version} does not answer: {type(error).__name__}: {error}") from error
    if rows.shape != (1, 1) or not 0 <= rows[0, 0] < len(bundle.catalog):
        raise BundleError(f"{bundle.version} does not answer: a search for 1 of {len(bundle.catalog)} items finds none")


def _open(name: str, place: Path, manifest: dict[str, Any]) -> Bundle:
    count = manifest["items"]
    catalog = bundle_files.open_items(place)
    vectors = bundle_files.open_vectors(place, manifest["vectors"], count)
    earlier = manifest["evaluation"]
    popularity = folders.open_array(place / "popularity.npy")
    index = indexes.load(place / "index.faiss", manifest["index"]["kind"], vectors.item_vectors)
    directions = None
    if "directions" in manifest:
        personal = vectors.personal_columns(vectors.item_vectors)
        directions = indexes.load(place / _DIRECTIONS, manifest["directions"]["kind"], personal)
    known = place / _WITH_VECTOR  # a bundle of before version 0.2 has none
    with_vector = folders.open_array(known) if known.exists() else _rows_with_vector(vectors.item_vectors)
    for what, size, expected in (
        ("items.arrow", (len(catalog),), (count,)),
        ("popularity.npy", popularity.shape, (count,)),
        ("index.faiss", (len(index), index.dim), (count, vectors.dim)),
        (_WITH_VECTOR, with_vector.shape, (count,)),
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
        with_vector=with_vector,
        most_popular=_by_popularity(popularity),
        directions_index=directions,
        demand=open_demand(place, manifest["demand"]) if "demand" in manifest else None,
        prices=open_prices(place, manifest["prices"]) if "prices" in manifest else None,
        related=tables.open_related(place, manifest["related"], count) if "related" in manifest else None,
        propensity=open_propensity(place, manifest["propensity"], count) if "propensity" in manifest else None,
        words=open_search(place, count),
        looks=folders.open_array(place / _LOOKS) if (place / _LOOKS).exists() else None,
    )


def _index_facts(built: BuiltIndex) -> dict[str, Any]:
    return {"kind": built.kind, "recall@20": built.recall, **built.facts}


def _rows_with_vector(item_vectors: Float32) -> Bool:
    step = 2**16  # bounds what is copied of a memory-mapped table
    parts = [item_vectors[start : start + step].any(axis=1) for start in range(0, len(item_vectors), step)]
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


def _by_popularity(popularity: Float32) -> Int32:
    return np.argsort(-popularity, kind="stable").astype(np.int32)


def _library_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
