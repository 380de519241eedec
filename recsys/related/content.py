"""What the catalog says of items, for telling which are alike: words, category and brand as weighted tokens.

Shapes: I items, N tokens of all items, T distinct tokens, C candidates.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.features import item_tokens
from recsys.data.ragged import Ragged

_READ = ("title", "category", "brand")
_CATEGORY = 2.0  # a level of the category counts as much as two words that are as rare
_ITEMS_OF_A_TOKEN = 300  # that are compared, those with the most events
_LOOKED_AT = 4000  # of them at most, where many may not be answered
_MOST_TASTE, _USUAL_EVENTS = 0.5, 20.0


@dataclass(frozen=True)
class Content:
    """The tokens of I items, rare ones counting more; each item's weights have the length 1."""

    hashes: npt.NDArray[np.uint64]  # [T], ascending
    rarity: Float32  # [T], how much a token counts
    offsets: Int64  # [I + 1]: item i owns tokens[offsets[i]:offsets[i + 1]]
    tokens: Int32  # [N]
    weights: Float32  # [N]
    item_offsets: Int64  # [T + 1]: token t is of items[item_offsets[t]:item_offsets[t + 1]]
    items: Int32  # [N], those with the most events first
    events: Float32  # [I], how many events each item has

    @property
    def matrix(self) -> sparse.csr_array:
        """The weights: sparse float32 [I, T]."""
        return sparse.csr_array((self.weights, self.tokens, self.offsets), shape=(len(self.events), len(self.hashes)))

    def of_row(self, row: int) -> "Profile":
        """The tokens of an item of the catalog."""
        part = slice(self.offsets[row], self.offsets[row + 1])
        return Profile(self.tokens[part], self.weights[part], float(self.events[row]))

    def of_columns(self, columns: pa.Table) -> list["Profile"]:
        """The tokens of catalog rows [n] that came after training; tokens that nobody had say nothing."""
        found = item_tokens(_read(columns))
        at = np.minimum(np.searchsorted(self.hashes, found.hashes), max(0, len(self.hashes) - 1))
        known: Bool = self.hashes[at] == found.hashes if len(self.hashes) else np.zeros(len(at), np.bool_)
        profiles = []
        for start, stop in zip(found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True):
            tokens = np.sort(at[start:stop][known[start:stop]]).astype(np.int32)
            weights = self.rarity[tokens]
            length = max(float(np.linalg.norm(weights)), 1e-9)
            profiles.append(Profile(tokens, np.asarray(weights / length, np.float32), 0.0))
        return profiles

    def candidates(self, profile: "Profile") -> Ragged:
        """The items that share each token of a profile, those with the most events first; 4,000 of each at most."""
        starts = self.item_offsets[profile.tokens]
        sizes = np.minimum(self.item_offsets[profile.tokens + 1] - starts, _LOOKED_AT)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Ragged(offsets, self.items[places])

    def likeness(self, profile: "Profile", rows: Int32) -> Float32:
        """The cosine of a profile and items of the catalog [C]: float32 [C]."""
        sizes = self.offsets[rows + 1] - self.offsets[rows]
        starts = np.cumsum(sizes) - sizes
        at = np.repeat(self.offsets[rows] - starts, sizes) + np.arange(sizes.sum())
        shared = profile.weights_of(self.tokens[at]) * self.weights[at]
        return np.bincount(np.repeat(np.arange(len(rows)), sizes), shared, minlength=len(rows)).astype(np.float32)


@dataclass(frozen=True)
class Profile:
    """The tokens of one item."""

    tokens: Int32  # [n], ascending
    weights: Float32  # [n], of length 1
    events: float  # how many the item has

    @property
    def taste_share(self) -> float:
        """How much the taste of users says of the item beside its content: 0 to 0.5, half of that with 20 events."""
        return _MOST_TASTE * self.events / (self.events + _USUAL_EVENTS) if self.weights.any() else 1.0

    def weights_of(self, tokens: Int32) -> Float32:
        """The weights of tokens [N], 0 for those of other items: float32 [N]."""
        if not len(self.tokens):
            return np.zeros(len(tokens), np.float32)
        at = np.minimum(np.searchsorted(self.tokens, tokens), len(self.tokens) - 1)
        return np.where(self.tokens[at] == tokens, self.weights[at], 0).astype(np.float32)

    def likeness(self, other: "Profile") -> float:
        """The cosine of both."""
        return float(self.weights_of(other.tokens) @ other.weights)


def read_content(columns: pa.Table, events: Int64) -> Content:
    """Read the content of a catalog. events: how many each item has, [I]."""
    found = item_tokens(_read(columns))
    hashes, places = np.unique(found.hashes, return_inverse=True)
    rarity = _rarity(columns, hashes, np.bincount(places, minlength=len(hashes)))
    matrix = sparse.csr_array((rarity[places], places, found.offsets), shape=(len(found), len(hashes)))
    matrix.sort_indices()
    owners = np.repeat(np.arange(len(found)), np.diff(matrix.indptr))
    lengths = np.sqrt(np.bincount(owners, matrix.data**2, minlength=len(found)))
    weights = (matrix.data / np.maximum(lengths, 1e-9)[owners]).astype(np.float32)
    by_events = np.lexsort((owners, -events[owners], matrix.indices))
    sizes = np.bincount(matrix.indices, minlength=len(hashes))
    return Content(
        hashes,
        rarity,
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        weights,
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        owners[by_events].astype(np.int32),
        events.astype(np.float32),
    )


def _rarity(columns: pa.Table, hashes: npt.NDArray[np.uint64], counts: Int64) -> Float32:
    """How much each token counts [T]: the logarithm of how rare it is; nothing where a single item has it."""
    rarity = np.where(counts > 1, np.log(max(1, columns.num_rows) / np.maximum(counts, 1)), 0)
    if "category" in columns.column_names:
        levels = item_tokens(columns.select(["category"])).hashes
        rarity *= np.where(np.isin(hashes, levels), _CATEGORY, 1)
    return np.asarray(rarity, np.float32)


def _read(columns: pa.Table) -> pa.Table:
    return columns.select([name for name in _READ if name in columns.column_names])


def first_of_each(candidates: Ragged, kept: Bool) -> Int32:
    """The first 300 kept candidates of each token, each once: int32 [C], ascending. kept: one for each candidate."""
    count = np.cumsum(kept)
    before = np.concatenate([[0], count])[candidates.offsets[:-1]]
    is_first = kept & (count - before[candidates.owners] <= _ITEMS_OF_A_TOKEN)
    return np.unique(candidates.values[is_first]).astype(np.int32)
