"""A small network that ranks lists of candidates by their features, trained and run by numpy alone.

One hidden layer, trained with a softmax over each list (ListNet: Cao et al., 2007, "Learning to Rank: From Pairwise
Approach to Listwise Approach") by Adam with weight decay. Shapes: L lists, P candidates in all, F features, H hidden.
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Float32, Int64

HIDDEN, EPOCHS, LISTS_A_STEP = 32, 4, 64
_LEARNING_RATE, _WEIGHT_DECAY = 2e-3, 1e-3
_FIRST_MOMENT, _SECOND_MOMENT, _EPSILON = 0.9, 0.999, 1e-8
_BLOCK = 200_000  # candidates scored at once
_LIMIT = 6.0  # standard deviations: a feature far beyond what training saw says no more than that


@dataclass(frozen=True)
class Network:
    """Scores candidates: higher is better, within one list."""

    mean: Float32  # [F]
    scale: Float32  # [F], of the features in training
    hidden: Float32  # [F, H]
    bias: Float32  # [H]
    output: Float32  # [H]

    def score(self, features: Float32) -> Float32:
        """features [P, F] -> float32 [P]."""
        scores = np.empty(len(features), np.float32)
        for start in range(0, len(features), _BLOCK):
            inputs = self.inputs(features[start : start + _BLOCK])
            scores[start : start + _BLOCK] = np.maximum(inputs @ self.hidden + self.bias, 0) @ self.output
        return scores

    def inputs(self, features: Float32) -> Float32:
        """Scale features [P, F] to mean 0 and deviation 1, and bound them: float32 [P, F]."""
        scaled = np.asarray(features - self.mean, np.float32)
        scaled /= self.scale
        return np.clip(scaled, -_LIMIT, _LIMIT, out=scaled)


@dataclass(frozen=True)
class Lists:
    """Lists to learn from: list l owns the candidates offsets[l]:offsets[l + 1]."""

    offsets: Int64  # [L + 1]
    features: Float32  # [P, F]
    gains: Float32  # [P], above 0 for what was wanted; their sum is the list's weight

    def __len__(self) -> int:
        return len(self.offsets) - 1


def train(lists: Lists, *, seed: int) -> Network:
    """Train a network on at least one list. The same lists and seed give the same network."""
    random = np.random.default_rng(seed)
    features = lists.features.shape[1]
    mean = lists.features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.maximum(lists.features.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)
    bound = np.sqrt(6 / features)
    weights = [
        random.uniform(-bound, bound, (features, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        random.uniform(-1, 1, HIDDEN).astype(np.float32) / np.float32(np.sqrt(HIDDEN)),
    ]
    network = Network(mean, scale, *weights)
    inputs = network.inputs(lists.features)
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    step = 0
    for _ in range(EPOCHS):
        order = random.permutation(len(lists))
        for start in range(0, len(order), LISTS_A_STEP):
            step += 1
            gradients = _gradients(network, inputs, lists, order[start : start + LISTS_A_STEP])
            for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
                _adam(weight, gradient, first, second, step)
    return network


def _gradients(network: Network, inputs: Float32, lists: Lists, which: Int64) -> tuple[Float32, Float32, Float32]:
    """The gradients of hidden, bias and output of the mean loss over the lists `which`. inputs: of all, [P, F]."""
    sizes = np.diff(lists.offsets)[which]
    starts = np.cumsum(sizes) - sizes
    rows = np.repeat(lists.offsets[which] - starts, sizes) + np.arange(sizes.sum())
    own = inputs[rows]
    active = own @ network.hidden
    active += network.bias
    np.maximum(active, 0, out=active)
    scores = active @ network.output
    shares = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
    shares /= np.repeat(np.add.reduceat(shares, starts), sizes)
    gains = lists.gains[rows]
    # d/ds of -sum(gain * log softmax(s))
    slope = ((shares * np.repeat(np.add.reduceat(gains, starts), sizes) - gains) / len(which)).astype(np.float32)
    back = slope[:, None] * network.output
    back *= active > 0
    return own.T @ back, back.sum(axis=0), active.T @ slope


def _adam(weight: Float32, gradient: Float32, first: Float32, second: Float32, step: int) -> None:
    """One step of Adam with decoupled weight decay, in place."""
    first += (1 - _FIRST_MOMENT) * (gradient - first)
    second += (1 - _SECOND_MOMENT) * (gradient**2 - second)
    rate = _LEARNING_RATE / (1 - _FIRST_MOMENT**step)
    weight *= 1 - _LEARNING_RATE * _WEIGHT_DECAY
    weight -= rate * first / (np.sqrt(second / (1 - _SECOND_MOMENT**step)) + _EPSILON)
