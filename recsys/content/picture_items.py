"""Pictures of a catalog by a picture network: read from files or the shop's URLs, each encoded once."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from recsys.content.encoders import Encoded, Items
from recsys.content.networks import picture_network
from recsys.content.picture_network import PictureNetwork, open_picture_network
from recsys.content.picture_sources import Pictures
from recsys.content.pictures import PictureError
from recsys.content.vector_cache import cached
from recsys.data.arrays import Float32
from recsys.data.folder import read_manifest

_TRIALS = 20
_READERS = 8  # pictures that are read or downloaded at once


def encode_pictures(items: Items) -> Encoded:
    """Encode the pictures that image_url names. One that cannot be read has no vector, and is counted by its reason.

    Raises ConfigError as `picture_network`.
    """
    prepared = picture_network(items.settings.picture_network, items.folder)
    network = open_picture_network(prepared)
    column = items.columns.column("image_url") if "image_url" in items.columns.column_names else None
    names = [value or "" for value in column.to_pylist()] if column is not None else [""] * items.columns.num_rows
    pictures = Pictures(
        items.settings.pictures, items.folder / "pictures", items.settings.picture_hosts, now=time.time()
    )
    work = _Work(items, network, pictures)
    versions = [pictures.version(name) for name in names]
    vectors, new = cached(items.folder / "vectors" / prepared.name, versions, lambda at: work.encode(at, names))
    pictures.remove_old()
    weights = read_manifest(prepared)["weights"]
    return Encoded(vectors, new, dict(work.problems), work.examples, weights)


def measure(items: Items) -> tuple[float, dict[str, Any]]:
    """Milliseconds for a decoded picture on one thread, and what the weights are. Raises as `picture_network`."""
    prepared = picture_network(items.settings.picture_network, items.folder)
    network = open_picture_network(prepared)
    picture = np.zeros((1, 3, network.settings.size, network.settings.size), np.float32)
    network.run(picture)
    began = time.perf_counter()
    for _ in range(_TRIALS):
        network.run(picture)
    return (time.perf_counter() - began) / _TRIALS * 1e3, read_manifest(prepared)["weights"]


class _Work:
    """Encodes pictures and counts those that cannot be read."""

    def __init__(self, items: Items, network: PictureNetwork, pictures: Pictures) -> None:
        self.items, self.network, self.pictures = items, network, pictures
        self.problems: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.same: dict[bytes, Float32] = {}  # by what a picture contains: shops show one picture under many names

    def encode(self, block: list[int], names: list[str]) -> list[Float32 | None]:
        found = []
        for done, (name, content) in enumerate(self._contents([names[at] for at in block]), 1):
            found.append(self._vector(name, content))
            self.items.progress("pictures", done / len(block))
        return found

    def _contents(self, names: list[str]) -> Iterator[tuple[str, bytes | PictureError]]:
        """The pictures in the order of their names; while one is encoded, the next are read."""
        with ThreadPoolExecutor(_READERS) as readers:
            for start in range(0, len(names), 4 * _READERS):  # few are held in memory
                some = names[start : start + 4 * _READERS]
                yield from zip(some, readers.map(self._read, some), strict=True)

    def _read(self, name: str) -> bytes | PictureError:
        try:
            return self.pictures.read(name)
        except PictureError as error:
            return error

    def _vector(self, name: str, content: bytes | PictureError) -> Float32 | None:
        try:
            if isinstance(content, PictureError):
                raise content
            key = hashlib.sha256(content).digest()
            if key not in self.same:
                self.same[key] = self.network.encode(content)
            return self.same[key]
        except PictureError as error:
            reason = error.cause or "unreadable"
            self.problems[reason] += 1
            self.examples.setdefault(reason, f"{name[:200]}: {error}" if name else str(error))
            return None
