"""The result of every model: item vectors, and encoders that turn a history into a user vector. No torch.

Score of an item for a user = inner product of the user vector and the item vector.
Shapes: I items, D dim = sum of the parts' Dp, B users in a batch, N events in a batch, F feature tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from recsys.data.arrays import Float32
from recsys.data.features import Tokens, item_tokens
from recsys.data.interactions import Histories
from recsys.models.onnx_encoder import OnnxEncoder


class UserEncoder(Protocol):
    """Turns histories into one part's share of the user vectors."""

    name: ClassVar[str]  # the key in ENCODERS, under which a manifest stores it

    def encode(self, history_vectors: Float32, histories: Histories) -> Float32:
        """history_vectors [I, Dp] and B histories -> float32 [B, Dp]; an empty history may give zeros."""
        ...


@dataclass(frozen=True)
class WeightedSum:
    """Sum of the history's vectors, weighted by event kind and age; a repeated item counts up to `clip` once.

    The weight of an item is min(clip, sum over its events of kind_weights[kind] * 0.5 ** (age / half_life_days)).
    `scaling`: "degree" divides by the root of the summed weights, "unit" makes the vector's length 1.
    """

    name: ClassVar[str] = "weighted_sum"
    kind_weights: tuple[float, ...]
    half_life_days: float
    clip: float = 1.0
    scaling: str = "degree"

    def weights(self, histories: Histories, item_count: int) -> sparse.csr_array:
        """The weight of every item in every history: sparse [B, I], each (user, item) once."""
        per_event = np.asarray(self.kind_weights, np.float32)[histories.kinds]
        per_event = per_event * np.exp2(-histories.ages_days / np.float32(self.half_life_days))
        # Copies: adding repeated items up works in place.
        matrix = sparse.csr_array(
            (per_event, histories.items.copy(), histories.offsets.copy()), shape=(len(histories), item_count)
        )
        matrix.sum_duplicates()
        np.minimum(matrix.data, np.float32(self.clip), out=matrix.data)
        return matrix

    def encode(self, history_vectors: Float32, histories: Histories) -> Float32:
        """See UserEncoder; a user without history gets zeros."""
        weights = self.weights(histories, len(history_vectors))
        if len(histories) == 1:
            # Added up one by one, as a sparse product does, and faster: a user is the same alone as among others.
            vectors = (weights.data[:, None] * history_vectors[weights.indices]).sum(axis=0, keepdims=True)
            return np.asarray(vectors / self._lengths(weights, vectors), np.float32)
        # Gather only the rows in use: the table may be memory-mapped.
        used, columns = np.unique(weights.indices, return_inverse=True)
        small = sparse.csr_array((weights.data, columns, weights.indptr), shape=(len(histories), len(used)))
        vectors = np.asarray(small @ history_vectors[used], np.float32)
        return np.asarray(vectors / self._lengths(weights, vectors), np.float32)

    def terms(self, history_vectors: Float32, histories: Histories) -> Float32:
        """What each item adds to the vector of the only history: float32 [I, Dp]; the sum is what `encode` returns."""
        weights = self.weights(histories, len(history_vectors))
        terms = weights.toarray().T.astype(np.float32) * history_vectors
        return np.asarray(terms / self._lengths(weights, terms.sum(axis=0)[None]), np.float32)

    def _lengths(self, weights: sparse.csr_array, vectors: Float32) -> Float32:
        """What the weighted sums [B, Dp] are divided by: [B, 1]."""
        if self.scaling == "unit":
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        else:
            lengths = np.sqrt(weights.sum(axis=1, dtype=np.float32))[:, None]
        return np.asarray(np.maximum(lengths, np.float32(1e-12)), np.float32)


@dataclass(frozen=True)
class Constant:
    """The same user vector, [1.0], for everybody: a ranking that is not personal."""

    name: ClassVar[str] = "constant"

    def encode(self, history_vectors: Float32, histories: Histories) -> Float32:
        """See UserEncoder: ones [B, 1]."""
        return np.ones((len(histories), history_vectors.shape[1]), np.float32)


ENCODERS: dict[str, Callable[..., UserEncoder]] = {e.name: e for e in (WeightedSum, Constant, OnnxEncoder)}


def encoder_to_dict(encoder: UserEncoder) -> dict[str, Any]:
    """Describe an encoder in plain values for a manifest; its graph is a file of its own."""
    values = {f.name: getattr(encoder, f.name) for f in fields(encoder) if f.name != "graph"}  # type: ignore[arg-type]
    return {"encoder": encoder.name, **values}


def encoder_from_dict(values: dict[str, Any]) -> UserEncoder:
    """Make the encoder that a manifest describes. Raises ValueError for a name that is not in ENCODERS."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "encoder"}
    if values["encoder"] not in ENCODERS:
        raise ValueError(f"unknown user encoder {values['encoder']!r}; known: {', '.join(ENCODERS)}")
    return ENCODERS[values["encoder"]](**fields)


@dataclass(frozen=True)
class Part:
    """One model's share of the vectors."""

    history_vectors: Float32  # [I, Dp]
    encoder: UserEncoder


@dataclass(frozen=True)
class ItemEncoder:
    """Catalog features -> vectors, for items that came after training: a sum over the item's feature tokens.

    Each token's row is weighted by 1 / sqrt(tokens of the item); unknown tokens count as nothing.
    """

    token_hashes: npt.NDArray[np.uint64]  # [F], sorted
    item_weights: Float32  # [F, D]
    history_weights: tuple[Float32, ...]  # a part each: [F, Dp]

    def design(self, tokens: Tokens) -> sparse.csr_array:
        """The feature matrix of n items: sparse [n, F]."""
        return token_matrix(tokens, self.token_hashes)

    def encode(self, columns: pa.Table) -> tuple[Float32, tuple[Float32, ...]]:
        """n catalog rows -> item vectors [n, D] and, a part each, history vectors [n, Dp]."""
        design = self.design(item_tokens(columns))
        item_vectors = np.asarray(design @ self.item_weights, np.float32)
        return item_vectors, tuple(np.asarray(design @ w, np.float32) for w in self.history_weights)


def token_matrix(tokens: Tokens, token_hashes: npt.NDArray[np.uint64]) -> sparse.csr_array:
    """Sparse [n, F]: 1 / sqrt(number of the item's tokens) where an item has a token of `token_hashes` (sorted)."""
    at = np.searchsorted(token_hashes, tokens.hashes)
    known = at < len(token_hashes)
    known[known] = token_hashes[at[known]] == tokens.hashes[known]
    counts = np.diff(tokens.offsets)
    owner = np.repeat(np.arange(len(tokens)), counts)
    values = (1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)[owner]
    return sparse.csr_array(
        (values[known], (owner[known], at[known])), shape=(len(tokens), len(token_hashes)), dtype=np.float32
    )


@dataclass(frozen=True)
class Vectors:
    """The result of training a model, which bundles and serving work with."""

    model: str  # its name in MODELS
    item_vectors: Float32  # [I, D]
    parts: tuple[Part, ...]
    item_encoder: ItemEncoder | None
    settings: dict[str, Any]  # the params, in plain values: fitting with them again needs no choice

    @property
    def dim(self) -> int:
        """D."""
        return int(self.item_vectors.shape[1])

    def personal_columns(self, vectors: Float32) -> Float32:
        """The columns of user or item vectors [N, D] that depend on the user; all where none does: [N, <= D].

        Columns that are the same for everybody say nothing about a user, nor about which items are alike.
        """
        personal = np.repeat(
            [not isinstance(p.encoder, Constant) for p in self.parts], [p.history_vectors.shape[1] for p in self.parts]
        )
        if personal.all() or not personal.any():
            return vectors
        columns = np.flatnonzero(personal)
        if columns[-1] - columns[0] + 1 == len(columns):  # one run of columns needs no copy of a large table
            return vectors[:, columns[0] : columns[-1] + 1]
        return np.ascontiguousarray(vectors[:, personal])

    def encode(self, histories: Histories) -> Float32:
        """B histories -> user vectors float32 [B, D], the parts side by side."""
        return np.concatenate([p.encoder.encode(p.history_vectors, histories) for p in self.parts], axis=1)
