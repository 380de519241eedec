"""Product-quantized shards in norm order: codes of 4 bits find candidates, full vectors decide between them.

The scan keeps its tables in registers, so it reads a million items of 512 dimensions in some milliseconds. Every score
of an answer comes from the full vectors; only which items are looked at is approximate.
Source: F. André, A.-M. Kermarrec, N. Le Scouarnec, "Cache locality is not enough: high-performance nearest neighbor
search with product quantization fast scan", VLDB 9(4), 2015, as FAISS implements it.
Shapes: I items, D dim, N candidates.
"""

import ctypes
import weakref
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Bool, Float32, Int32
from recsys.data.ragged import Ragged
from recsys.data.resident import bring_in
from recsys.errors import BundleError
from recsys.index.array_file import open_arrays, write_arrays
from recsys.index.exact import Items, check_finite, norms_of
from recsys.index.norm_order import BLOCK, Asked, NormOrder, search_in_order
from recsys.index.registry import IndexKind

_BITS = 4
_TRAINED_ON = 20_000  # items that the centroids are learned from
_ENCODED_AT_ONCE = 2**14
_GATHER = 100  # scoring one item by its vector takes as long as scanning the codes of so many
_SHRINKING = 0.75
_PER_K = 8  # candidates of a shard for each item asked for, at least

_ALIGNMENT = 32  # of the bytes that FAISS reads

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FastScanSettings:
    """How fine the codes are, and how many candidates of each shard are scored in full."""

    dims_per_code: int = 2
    candidates: int = 500
    bound: float = 1.0  # largest cosine of a user and an item vector, by which shards are left out


@dataclass(frozen=True)
class _Codes:
    """The quantizer and what it made of the items, in norm order."""

    settings: FastScanSettings
    centroids: Float32  # of the quantizer, as FAISS orders them
    blocks: _Bytes  # the codes, shard after shard, packed as FAISS scans them


def build(item_vectors: Float32) -> "FastScanIndex":
    """Build the index over item vectors [I, D]. Raises RecsysError when a vector is not finite."""
    check_finite(item_vectors)
    return build_from(Items(item_vectors, norms=norms_of(item_vectors)), FastScanSettings())


def build_from(items: Items, settings: FastScanSettings) -> "FastScanIndex":
    """Build the index over items, whose scores may be cosines."""
    norms = norms_of(items.vectors)
    order = NormOrder.of(norms if items.scales is None else (norms > 0).astype(np.float32))
    scanner = _scanner(items.dim, settings)
    if len(items):
        random = np.random.default_rng(0)
        sample = np.sort(random.choice(len(items), min(_TRAINED_ON, len(items)), replace=False))
        # FAISS asks for as many points as a code has values.
        scanner.train(_padded(items.take(np.resize(sample, max(len(sample), 2**_BITS))), scanner.d))
    blocks = [np.zeros(0, np.uint8)]
    for start, stop in zip(order.edges[:-1].tolist(), order.edges[1:].tolist(), strict=True):
        scanner.reset()
        for at in range(start, stop, _ENCODED_AT_ONCE):
            scanner.add(_padded(items.take(order.rows[at : min(stop, at + _ENCODED_AT_ONCE)]), scanner.d))
        blocks.append(faiss.AlignedTable_to_array(scanner.codes)[: _size(scanner, stop - start)])
    centroids = faiss.vector_to_array(scanner.pq.centroids)
    return FastScanIndex(order, _Codes(settings, centroids, np.concatenate(blocks)), items)


def load(path: Path, item_vectors: Float32) -> "FastScanIndex":
    """Open a saved index, memory-mapped. Raises BundleError when the file is not one."""
    *arrays, numbers, scales, centroids, blocks = open_arrays(path, 8)
    order = NormOrder(*arrays)
    dims_per_code, candidates, bound = numbers.tolist()
    settings = FastScanSettings(int(dims_per_code), int(candidates), bound)
    items = Items(item_vectors, norms=order.norms[:1], scales=scales if len(scales) else None)
    return FastScanIndex(order, _Codes(settings, centroids, blocks), items)


class FastScanIndex:
    """Approximate search in norm order; exact for shards of which few items are eligible."""

    def __init__(self, order: NormOrder, codes: _Codes, items: Items) -> None:
        """See `build` and `load`."""
        self._order, self._codes, self._items = order, codes, items
        if len(items) != len(order.rows):
            raise BundleError(f"an index of {len(order.rows)} items does not fit {len(items)} item vectors")
        bring_in([codes.blocks, order.rows, order.positions])
        self._shards, at = list[_Shard](), 0
        for size in np.diff(order.edges).tolist():
            shard = _Shard(items.dim, size, codes, at)
            self._shards.append(shard)
            at += shard.bytes
        if at != len(codes.blocks):
            raise BundleError(f"expected {at} bytes of codes for {len(order.rows)} items, found {len(codes.blocks)}")

    def __len__(self) -> int:
        return len(self._order.rows)

    @property
    def dim(self) -> int:
        """Length of a vector, D."""
        return self._items.dim

    @property
    def settings(self) -> FastScanSettings:
        """What the index was built with."""
        return self._codes.settings

    @property
    def size(self) -> int:
        """Bytes beside the item vectors."""
        return sum(array.nbytes for array in self._arrays())

    def tuned(self, settings: FastScanSettings) -> "FastScanIndex":
        """The same codes, searched with other settings."""
        return FastScanIndex(self._order, replace(self._codes, settings=settings), self._items)

    def write(self, path: Path) -> None:
        """See Index."""
        write_arrays(path, self._arrays())

    def _arrays(self) -> list[Any]:
        scales = self._items.scales if self._items.scales is not None else np.zeros(0, np.float32)
        numbers = np.array(astuple(self.settings), np.float64)
        return [*self._order.arrays, numbers, scales, self._codes.centroids, self._codes.blocks]

    def search(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
    ) -> tuple[Float32, Int32]:
        """See Index."""
        candidates = max(self.settings.candidates, _PER_K * k)
        return search_in_order(
            self._order,
            self._items,
            self,
            queries,
            k,
            allowed=allowed,
            excluded=excluded,
            candidates=candidates,
            bound=self.settings.bound,
        )

    def candidates(self, asked: Asked, shard: int, positions: slice) -> tuple[Int32, Float32]:
        """See Scan."""
        size, eligible = positions.stop - positions.start, asked.eligible
        share = 1.0 if eligible is None else eligible.share
        if share * size <= asked.count + size / _GATHER:
            rows = self._order.rows[positions] if eligible is None else eligible.within(positions)
            return rows, self._items.scores(asked.query, rows)
        # Of fewer items fewer are near, so not as many have to be left as without a filter.
        count = min(size, int(asked.count / share**_SHRINKING) + 1)
        rows = self._order.rows[positions.start + self._shards[shard].nearest(asked.query, count)]
        if eligible is not None:
            rows = rows[eligible.allowed[rows]]
        return rows, self._items.scores(asked.query, rows)


class _Shard:
    """The codes of a run of items, scanned by FAISS where they lie in memory."""

    def __init__(self, dim: int, size: int, codes: _Codes, at: int) -> None:
        self._scanner = _scanner(dim, codes.settings)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes.centroids), self._scanner.pq.centroids)
        self._scanner.is_trained = True
        self._scanner.ntotal, self._scanner.ntotal2 = size, -(-size // BLOCK) * BLOCK
        self.bytes = _size(self._scanner, size)
        self._lend(codes.blocks[at : at + self.bytes])

    def nearest(self, query: Float32, count: int) -> npt.NDArray[np.int64]:
        """The positions in the shard [N] of `count` items that the codes think nearest, or of a few fewer."""
        _, found = self._scanner.search(_padded(query[None], self._scanner.d), count)
        return np.asarray(found[0][found[0] >= 0], np.int64)

    def _lend(self, blocks: _Bytes) -> None:
        """Let FAISS read codes that belong to somebody else; it can only copy them, into every process.

        Its table of codes begins with the address of the bytes. Should another version differ, the codes are copied.
        """
        table = self._scanner.codes
        table.resize(BLOCK)
        address = ctypes.c_size_t.from_address(int(table.this))
        if address.value != int(table.data()) or blocks.ctypes.data % _ALIGNMENT:
            faiss.copy_array_to_AlignedTable(np.ascontiguousarray(blocks), table)
            return
        weakref.finalize(self, _take_back, self._scanner, address, address.value, blocks)
        address.value = blocks.ctypes.data


def _take_back(_scanner: Any, address: ctypes.c_size_t, own: int, _blocks: _Bytes) -> None:
    """Give a scanner its own bytes back before it goes: it frees them."""
    address.value = own


def _scanner(dim: int, settings: FastScanSettings) -> Any:
    """An empty scanner for vectors of `dim`, filled up to whole codes."""
    codes = -(-dim // settings.dims_per_code)
    return faiss.IndexPQFastScan(codes * settings.dims_per_code, codes, _BITS, faiss.METRIC_INNER_PRODUCT, BLOCK)


def _size(scanner: Any, count: int) -> int:
    """Bytes of the codes of `count` items."""
    return int(-(-count // BLOCK) * BLOCK * scanner.M2 // 2)


def _padded(vectors: Float32, dim: int) -> Float32:
    """Vectors [N, D] with zeros up to `dim`, as FAISS takes them."""
    if vectors.shape[1] == dim:
        return np.ascontiguousarray(vectors, np.float32)
    return np.pad(vectors, ((0, 0), (0, dim - vectors.shape[1])))


FASTSCAN = IndexKind(build, load)
