"""Ridge regression from item features to trained vectors, for items without events and for those that come later."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.data.arrays import Bool, Float32
from recsys.data.catalog import Catalog
from recsys.data.features import Tokens, item_tokens
from recsys.models.mf.sparse_rows import SparseRows
from recsys.models.vectors import ItemEncoder, token_matrix

_RIDGE = 1.0  # a token's vector shrinks towards zero as if it had been seen once more, on an item of zeros
_FEWEST_ITEMS = 2  # a token of a single item says nothing about others
_LONGEST_STRETCH = 5.0  # features that say next to nothing must not be made to shout
_MOST_STEPS = 50  # of conjugate gradients
_TOLERANCE = 1e-3  # of a column's residual against where it started


def fill_in(
    catalog: Catalog, item_vectors: Float32, history_vectors: Float32, trained: Bool, *, device: torch.device
) -> ItemEncoder | None:
    """Fit the encoder on the trained items and write its vectors, in place, into the rows of the others.

    item_vectors [I, D], history_vectors [I, Dp], trained: bool [I], the items that learned from events. Returns None
    when no feature is shared by two trained items; the others then keep zeros.

    Targets longer than the median item's vector are cut to that length, so that an item without events ranks like an
    ordinary item and not like a best seller. Regression also makes vectors short, which would rank it behind all
    others: item vectors are stretched until the median trained item is as long as before.
    """
    tokens = item_tokens(catalog.columns)
    known = shared_tokens(tokens, trained)
    if len(known) == 0:
        return None
    design = token_matrix(tokens, known)
    targets = np.concatenate([_capped(item_vectors, trained), history_vectors], axis=1)[trained]
    rows, transposed = (SparseRows.from_scipy(m.tocsr(), device) for m in (design[trained], design[trained].T))
    weights = _ridge(rows, transposed, torch.from_numpy(targets).to(device)).cpu().numpy()
    split = item_vectors.shape[1]
    item_weights = weights[:, :split] * _stretch(targets[:, :split], design[trained] @ weights[:, :split])
    encoder = ItemEncoder(known, item_weights, (weights[:, split:].copy(),))
    untrained = design[~trained]
    item_vectors[~trained] = untrained @ encoder.item_weights
    history_vectors[~trained] = untrained @ encoder.history_weights[0]
    return encoder


def shared_tokens(tokens: Tokens, trained: Bool) -> npt.NDArray[np.uint64]:
    """The sorted hashes of the tokens that at least two trained items have: uint64 [F]."""
    owners = np.repeat(np.arange(len(tokens)), np.diff(tokens.offsets))
    known, counts = np.unique(tokens.hashes[trained[owners]], return_counts=True)
    return known[counts >= _FEWEST_ITEMS]


def _capped(vectors: Float32, trained: Bool) -> Float32:
    """The vectors, none longer than the median of the trained."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    longest = np.median(lengths[trained])
    shrink = np.minimum(1, longest / np.maximum(lengths, np.float32(1e-30)))
    return np.asarray(vectors * shrink, np.float32)


def _stretch(vectors: Float32, regressed: Float32) -> np.float32:
    """The median length of vectors [N, D] over that of their regressed selves."""
    lengths = np.linalg.norm(regressed, axis=1)
    shortened = np.median(lengths[lengths > 0]) if lengths.any() else 1.0
    return np.float32(np.clip(np.median(np.linalg.norm(vectors, axis=1)) / shortened, 1, _LONGEST_STRETCH))


def _ridge(rows: SparseRows, transposed: SparseRows, targets: Tensor) -> Tensor:
    """argmin |X W - Y|² + ridge |W|² by conjugate gradients, all columns at once: targets [N, D] -> [F, D]."""
    residual = transposed @ targets
    weights = torch.zeros_like(residual)
    direction = residual
    squares = residual.square().sum(0)
    enough = squares * _TOLERANCE**2
    for _ in range(_MOST_STEPS):
        if bool((squares <= enough).all()):
            break
        image = transposed @ (rows @ direction) + _RIDGE * direction
        step = squares / (direction * image).sum(0).clamp_min(1e-30)
        weights = weights + step * direction
        residual = residual - step * image
        before, squares = squares, residual.square().sum(0)
        direction = residual + squares / before.clamp_min(1e-30) * direction
    return weights
