"""Vectors of pictures, shortened so that every worker can hold those of all items, for what looks alike.

Shapes: I items, F dimensions of the encoder, D of what is kept.
"""

import numpy as np

from recsys.data.arrays import Float32

_DIMENSIONS = 128
_READ = 20_000  # pictures that the directions are found from


def shorten(vectors: Float32) -> Float32:
    """The principal components of vectors [I, F], as vectors of length 1: float32 [I, D], D at most 128.

    The mean of all pictures says nothing about any and is taken out. Rows of zeros, of items without a picture, stay.
    """
    says = vectors.any(axis=1)
    known = vectors[says]
    if not len(known):
        return np.zeros((len(vectors), 0), np.float32)
    mean = known.mean(axis=0)
    read = known[:: max(1, len(known) // _READ)] - mean
    _, directions = np.linalg.eigh(read.T @ read)
    kept = directions[:, ::-1][:, :_DIMENSIONS].astype(np.float32)
    found = np.zeros((len(vectors), kept.shape[1]), np.float32)
    found[says] = (known - mean) @ kept
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(lengths, 1e-12), np.float32)
