"""How well vectors of pictures tell categories apart, and how long they take.

    python -m benchmarks.pictures --data DIR --network WEIGHTS [--folds 5] [--seed 0] [--items 0]

DIR has items.tsv with item_id, category and picture, the path of a file below DIR. WEIGHTS is what [content]
picture_network names. Prints the accuracy of the five nearest neighbors (cosine, majority) and of a linear head
(logistic regression, its strength chosen within the training folds), and milliseconds for a picture on one thread.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import optimize, special

from recsys.content.export import prepare_picture
from recsys.content.picture_network import PictureNetwork, open_picture_network
from recsys.content.pictures import decode
from recsys.data.arrays import Float32, Int64

NEIGHBORS = 5
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of the head's ridge


def main() -> None:
    """Encode the pictures, and classify each fold from the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items", type=int, default=0, help="only the first so many; 0: all")
    arguments = parser.parse_args()
    with (arguments.data / "items.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[: arguments.items or None]
    with tempfile.TemporaryDirectory() as folder:
        network = open_picture_network(prepare_picture(arguments.network, Path(folder), "network"))
        vectors, decoding, encoding = encode(network, [arguments.data / row["picture"] for row in rows])
    _, labels = np.unique([row["category"] for row in rows], return_inverse=True)
    nearest, linear = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    for train, test in folds(len(rows), arguments.folds, arguments.seed):
        known, asked = (centered(vectors[part], vectors[train].mean(axis=0)) for part in (train, test))
        nearest[test] = by_neighbors(known, labels[train], asked) == labels[test]
        linear[test] = by_head(vectors[train], labels[train], vectors[test], arguments.seed) == labels[test]
    print(f"{len(rows)} pictures, {labels.max() + 1} categories, {vectors.shape[1]} dimensions")
    print(f"5 nearest neighbors {nearest.mean():.3f}, linear head {linear.mean():.3f} ({arguments.folds} folds)")
    print(f"decoding {decoding:.1f} ms, network {encoding:.1f} ms of processor time, medians")


def encode(network: PictureNetwork, paths: list[Path]) -> tuple[Float32, float, float]:
    """The vectors of pictures, and median milliseconds of decoding and of the network."""
    vectors, decoding, encoding = [], [], []
    for path in paths:
        content, began = path.read_bytes(), time.process_time()
        picture = decode(content, network.settings)
        decoded = time.process_time()
        vectors.append(network.run(picture[None])[0])
        decoding.append(decoded - began)
        encoding.append(time.process_time() - decoded)
    found = np.array(vectors, np.float32)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found, float(np.median(decoding)) * 1e3, float(np.median(encoding)) * 1e3


def folds(count: int, number: int, seed: int) -> Iterator[tuple[Int64, Int64]]:
    """Positions to learn from and to judge, for each fold."""
    order = np.random.default_rng(seed).permutation(count)
    for test in np.array_split(order, number):
        yield np.setdiff1d(order, test), test


def centered(vectors: Float32, mean: Float32) -> Float32:
    """Vectors without what all have in common, of length 1, as the box looks_like compares them."""
    moved = vectors - mean
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12), np.float32)


def by_neighbors(known: Float32, labels: Int64, asked: Float32) -> Int64:
    """The most frequent label of the five nearest; of equally frequent ones that of the nearest."""
    nearest = np.argsort(-(asked @ known.T), axis=1, kind="stable")[:, :NEIGHBORS]
    votes = np.zeros((len(asked), labels.max() + 1))
    for place in range(NEIGHBORS):
        votes[np.arange(len(asked)), labels[nearest[:, place]]] += 1 + 0.01 * (NEIGHBORS - place)
    return np.asarray(votes.argmax(axis=1), np.int64)


def by_head(known: Float32, labels: Int64, asked: Float32, seed: int) -> Int64:
    """The labels that logistic regression gives; its ridge does best on a fifth of what it learns from."""
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
    known, asked = (known - mean) / deviation, (asked - mean) / deviation
    inner, outer = next(folds(len(known), NEIGHBORS, seed))
    right = [(fit(known[inner], labels[inner], s, known[outer]) == labels[outer]).mean() for s in STRENGTHS]
    return fit(known, labels, STRENGTHS[int(np.argmax(right))], asked)


def fit(known: Float32, labels: Int64, strength: float, asked: Float32) -> Int64:
    """Logistic regression with a ridge, by L-BFGS."""
    count, dim, classes = len(known), known.shape[1], int(labels.max()) + 1
    truth = np.eye(classes)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[: dim * classes].reshape(dim, classes), flat[dim * classes :]
        scores = known @ weights + bias
        error = special.softmax(scores, axis=1) - truth
        value = -(special.log_softmax(scores, axis=1) * truth).sum() + strength / 2 * (weights**2).sum()
        slope = np.concatenate([(known.T @ error + strength * weights).ravel(), error.sum(axis=0)])
        return float(value / count), slope / count

    found = optimize.minimize(
        loss, np.zeros((dim + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": 100}
    )
    weights, bias = found.x[: dim * classes].reshape(dim, classes), found.x[dim * classes :]
    return np.asarray((asked @ weights + bias).argmax(axis=1), np.int64)


if __name__ == "__main__":
    main()
