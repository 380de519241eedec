"""Spectral matrix factorisation: a weighted, scaled interaction matrix and its largest singular values, no gradient.

With R [U, I] the weights of the users' histories, N = diag(deg_u^-a) R diag(deg_i^-b) ≈ U S V^T. The history vector of
an item is V S^p deg_i^-b, its item vector V S^p deg_i^g ((1 + recent demand) / deg_i^.7)^r. A user is the sum of the
history's vectors over the root of their weights. An event counts as its kind's configured weight to the power of k: at
k = 0 a view says as much as a purchase.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse

from recsys.config.settings import MfSettings
from recsys.data.arrays import Float32
from recsys.models.contract import ALL_TIME_DAYS, TrainingData
from recsys.models.coordinate_search import Settings, coordinate_search, middle, needs_search
from recsys.models.device import pick_device
from recsys.models.item_encoder import fill_in
from recsys.models.mf.svd import Factors, factorise
from recsys.models.vectors import Part, Vectors, WeightedSum

_SEARCH_RANK = 128  # settings other than the rank are chosen at the first rank that is at least this
_SEARCH_ITERATIONS = 4  # enough to tell settings apart
_ROUNDS = 4  # two left it at a poorer optimum where decay and recency pull against each other
_REPLACED = 0.7  # each unit of recency takes the place of so much popularity: then the two barely interact
_START = {"user_exponent": 0.5, "item_exponent": 0.4, "iterations": 4}  # of the towers
_KEPT = 4  # factorisations, of which each holds I x D numbers


def train(
    data: TrainingData,
    settings: MfSettings | Settings,
    *,
    score: Callable[[Vectors], float] | None,
    seed: int,
    device: str,
    report: Callable[[str, float], None],
) -> Vectors:
    """See recsys.models.contract.Train.

    Raises ValueError when there is something to choose and no score to choose by.
    """
    model = Spectral(data, seed, pick_device(device))
    chosen = settings if isinstance(settings, dict) else _choose(model, settings, score, report)
    vectors = model.vectors(chosen, encode_items=True, report=lambda done: report("mf: factorise", done))
    report("mf: factorise", 1.0)
    return vectors


def _choose(
    model: "Spectral",
    settings: MfSettings,
    score: Callable[[Vectors], float] | None,
    report: Callable[[str, float], None],
) -> Settings:
    values = _values(settings, model.data)
    kinds = values.pop("kind_exponent")
    start = {name: middle(allowed) for name, allowed in values.items()}
    start["rank"] = next((rank for rank in sorted(values["rank"]) if rank >= _SEARCH_RANK), max(values["rank"]))
    if len(kinds) == 1 and not needs_search(values):
        return {"kind_exponent": kinds[0], **start, "iterations": settings.iterations}
    start["iterations"] = min(_SEARCH_ITERATIONS, settings.iterations)
    if score is None:
        raise ValueError("mf has several values to choose from and no validation score to choose by")

    def score_of(tried: Settings) -> float:
        return score(model.vectors(tried, encode_items=False))

    # What kinds count changes which of the other values are good, so each has a search of its own.
    found = list[Settings]()
    for kind in kinds:
        done_before = len(found)

        def told(done: float, before: int = done_before) -> None:
            report("mf: choose settings", (before + done) / len(kinds))

        found.append(
            coordinate_search(values, score_of, start={"kind_exponent": kind, **start}, rounds=_ROUNDS, report=told)
        )
    best = found[0] if len(found) == 1 else max(found, key=score_of)
    return {**best, "iterations": settings.iterations}


def _values(settings: MfSettings, data: TrainingData) -> dict[str, tuple[float, ...]]:
    """What the search may vary: nothing about time where all events have the same, no rank above the matrix's own."""
    weights = np.asarray(data.kind_weights)[np.unique(data.events.kinds)]
    alike = len(np.unique(weights[weights > 0])) <= 1
    most = max(1, min(data.events.user_count, data.events.item_count))
    return {
        "kind_exponent": (1.0,) if alike else settings.kind_exponents,
        "half_life_days": (ALL_TIME_DAYS,) if data.timeless else data.half_life_days,
        "recency_exponent": (0.0,) if data.timeless else settings.recency_exponents,
        "recency_half_life_days": settings.recency_half_life_days[:1]
        if data.timeless
        else settings.recency_half_life_days,
        "rank": tuple(sorted({min(rank, most) for rank in settings.n_factors})),  # the exponents depend on it
        "user_exponent": settings.user_exponents,
        "item_exponent": settings.item_exponents,
        "popularity_exponent": settings.popularity_exponents,
        "singular_exponent": settings.singular_exponents,
    }


class Spectral:
    """The factorisation of one set of events; what was computed last for the same matrix is used again."""

    def __init__(self, data: TrainingData, seed: int, device: torch.device) -> None:
        self.data = data
        self._seed = seed
        self._device = device
        self._weights: tuple[WeightedSum, sparse.csr_array] | None = None
        self._factors: dict[tuple[WeightedSum, float, float, int], Factors] = {}

    def vectors(
        self, chosen: Settings, *, encode_items: bool, report: Callable[[float], None] = lambda _: None
    ) -> Vectors:
        """The vectors for these settings. encode_items: items without events get vectors from their features."""
        encoder = self._encoder(chosen["half_life_days"], chosen["kind_exponent"])
        degrees = np.asarray(self._weights_of(encoder).sum(axis=0), np.float32)
        trained = degrees > 0
        factors = self._factorise(encoder, chosen, exactly=encode_items, report=report).cut(chosen["rank"])
        scaled = (factors.item_vectors * factors.singular_values ** chosen["singular_exponent"]).cpu().numpy()
        replaced = _REPLACED * chosen["recency_exponent"]
        demand = _power(degrees, chosen["popularity_exponent"] - replaced) * self._recency(chosen)
        item_vectors = scaled * demand[:, None]
        history_vectors = scaled * _power(degrees, -chosen["item_exponent"])[:, None]
        item_encoder = None
        if encode_items:
            item_encoder = fill_in(self.data.catalog, item_vectors, history_vectors, trained, device=self._device)
        return Vectors("mf", item_vectors, (Part(history_vectors, encoder),), item_encoder, dict(chosen))

    def _encoder(self, half_life_days: float, kind_exponent: float = 1.0) -> WeightedSum:
        weights = tuple(weight**kind_exponent if weight > 0 else 0.0 for weight in self.data.kind_weights)
        return WeightedSum(weights, half_life_days)

    def history_weights(self, half_life_days: float) -> sparse.csr_array:
        """R: what each item counts in each user's history: sparse [U, I]."""
        return self._weights_of(self._encoder(half_life_days))

    def _weights_of(self, encoder: WeightedSum) -> sparse.csr_array:
        if self._weights is None or self._weights[0] != encoder:
            events = self.data.events
            everybody = events.histories(np.arange(events.user_count), self.data.now, max(1, len(events)))
            self._weights = (encoder, encoder.weights(everybody, events.item_count))
        return self._weights[1]

    def start(self, half_life_days: float, dim: int) -> tuple[Float32, Float32]:
        """Where the towers start: history and item vectors [I, dim], zeros beyond the rank that the events have."""
        chosen = {**_START, "rank": dim}
        factors = self._factorise(self._encoder(half_life_days), chosen, exactly=False, report=lambda _: None).cut(dim)
        scaled = np.zeros((self.data.events.item_count, dim), np.float32)
        scaled[:, : factors.rank] = (factors.item_vectors * factors.singular_values**0.25).cpu().numpy()
        degrees = np.asarray(self.history_weights(half_life_days).sum(axis=0), np.float32)
        return scaled * _power(degrees, -_START["item_exponent"])[:, None], scaled

    def _factorise(
        self, encoder: WeightedSum, chosen: Settings, *, exactly: bool, report: Callable[[float], None]
    ) -> Factors:
        """At least as many factors as chosen; exactly as many, as if nothing had been tried before, when asked."""
        key = (encoder, chosen["user_exponent"], chosen["item_exponent"], chosen["iterations"])
        found = self._factors.pop(key, None)
        if found is None or found.rank < chosen["rank"] or (exactly and found.rank != chosen["rank"]):
            weights = self._weights_of(encoder)
            by_user = _power(np.asarray(weights.sum(axis=1), np.float32), -chosen["user_exponent"])
            by_item = _power(np.asarray(weights.sum(axis=0), np.float32), -chosen["item_exponent"])
            scaled = sparse.csr_array(sparse.diags_array(by_user) @ weights @ sparse.diags_array(by_item))
            found = factorise(
                scaled,
                chosen["rank"],
                iterations=chosen["iterations"],
                seed=self._seed,
                device=self._device,
                report=report,
            )
        self._factors[key] = found
        if len(self._factors) > _KEPT:
            del self._factors[next(iter(self._factors))]
        return found

    def _recency(self, chosen: Settings) -> Float32:
        """(1 + recent demand)^r of every item: float32 [I]."""
        if chosen["recency_exponent"] == 0:
            return np.ones(self.data.events.item_count, np.float32)
        demand = self.data.recent_demand(chosen["recency_half_life_days"])
        return np.asarray((1 + demand) ** chosen["recency_exponent"], np.float32)


def _power(degrees: Float32, exponent: float) -> Float32:
    """degrees ** exponent, and 0 where the degree is 0."""
    powers = np.zeros_like(degrees)
    np.power(degrees, np.float32(exponent), out=powers, where=degrees > 0)
    return powers
