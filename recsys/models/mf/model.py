"""Matrix factorization: the largest singular values of a weighted, scaled interaction matrix; no gradients.

With R [U, I] the weights of the users' histories, N = diag(deg_u^-a) R diag(deg_i^-b) ≈ U S V^T. The history vector of
an item is V S^p deg_i^-b, its item vector V S^p deg_i^g ((1 + recent demand) / deg_i^.7)^r. A user is the sum of the
history's vectors over the root of their weights. An event counts as its kind's configured weight to the power of k: at
k = 0 a view says as much as a purchase.
"""

import numpy as np
from scipy import sparse

from recsys.config.settings import MfSettings, Section
from recsys.data.arrays import Float32
from recsys.models.budget import Budget
from recsys.models.contract import ALL_TIME_DAYS, Model, Score, TrainingData
from recsys.models.coordinate_search import coordinate_search, middle, needs_search
from recsys.models.device import pick_device
from recsys.models.item_encoder import fill_in
from recsys.models.mf.svd import Factors, factorize
from recsys.models.vectors import Part, Vectors, WeightedSum

_SEARCH_FACTORS = 128  # the other params are chosen at the first number of factors that is at least this
_SEARCH_ITERATIONS = 4  # enough to tell params apart
_ROUNDS = 4  # two left it at a poorer optimum where decay and recency pull against each other
_REPLACED = 0.7  # each unit of recency takes the place of so much popularity: then the two barely interact
_START_EXPONENTS = (0.5, 0.4)  # of users and items, where the towers start
_START_ITERATIONS = 4
_KEPT = 4  # factorizations, of which each holds I x D numbers
_FACTORIZE, _CHOOSE = "mf: factorize", "mf: choose settings"


class MfParams(Section):
    """What a factorization and its vectors depend on."""

    kind_exponent: float  # k
    half_life_days: float
    recency_exponent: float  # r
    recency_half_life_days: float
    n_factors: int  # D
    user_exponent: float  # a
    item_exponent: float  # b
    popularity_exponent: float  # g
    singular_exponent: float  # p
    iterations: int


def tune(data: TrainingData, space: MfSettings, score: Score, budget: Budget) -> Vectors | None:
    """See recsys.models.contract.Tune."""
    model = Spectral(data)
    params = _choose(model, space, score, budget)
    if budget.stopped:
        return None
    vectors = model.vectors(params, budget)
    return None if budget.stopped else vectors


def fit(data: TrainingData, params: MfParams, budget: Budget) -> Vectors:
    """See recsys.models.contract.Fit."""
    return Spectral(data).vectors(params, budget)


MODEL = Model(tune, fit, MfParams)


def _choose(model: "Spectral", space: MfSettings, score: Score, budget: Budget) -> MfParams:
    values = _values(space, model.data)
    kinds = values.pop("kind_exponent")
    start = MfParams(
        kind_exponent=kinds[0],
        iterations=space.iterations,
        **{name: middle(allowed) for name, allowed in values.items()},
    )
    n_factors = next((n for n in sorted(values["n_factors"]) if n >= _SEARCH_FACTORS), max(values["n_factors"]))
    start = start.model_copy(update={"n_factors": n_factors})
    if len(kinds) == 1 and not needs_search(values):
        return start
    start = start.model_copy(update={"iterations": min(_SEARCH_ITERATIONS, space.iterations)})

    def score_of(tried: MfParams) -> float:
        return score(model.trial_vectors(tried))

    # What kinds count changes which of the other values are good, so each has a search of its own.
    found = list[MfParams]()
    for kind in kinds:
        done_before = len(found)

        def progress(done: float, before: int = done_before) -> None:
            budget.progress(_CHOOSE, (before + done) / len(kinds))

        found.append(
            coordinate_search(
                values,
                score_of,
                start=start.model_copy(update={"kind_exponent": kind}),
                rounds=_ROUNDS,
                expired=budget.expired,
                progress=progress,
            )
        )
    best = found[0] if len(found) == 1 or budget.expired() else max(found, key=score_of)
    return best.model_copy(update={"iterations": space.iterations})


def _values(space: MfSettings, data: TrainingData) -> dict[str, tuple[float, ...]]:
    """What the search may vary: nothing about time where all events have the same, no factors beyond the matrix."""
    weights = np.asarray(data.kind_weights)[np.unique(data.events.kinds)]
    alike = len(np.unique(weights[weights > 0])) <= 1
    most = max(1, min(data.events.user_count, data.events.item_count))
    days = space.recency_half_life_days
    return {
        "kind_exponent": (1.0,) if alike else space.kind_exponents,
        "half_life_days": (ALL_TIME_DAYS,) if data.timeless else data.half_life_days,
        "recency_exponent": (0.0,) if data.timeless else space.recency_exponents,
        "recency_half_life_days": days[:1] if data.timeless else days,
        "n_factors": tuple(sorted({min(n, most) for n in space.n_factors})),  # the exponents depend on it
        "user_exponent": space.user_exponents,
        "item_exponent": space.item_exponents,
        "popularity_exponent": space.popularity_exponents,
        "singular_exponent": space.singular_exponents,
    }


class Spectral:
    """The factorization of one set of events; what was computed last for the same matrix is used again."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self._device = pick_device(data.device)
        self._weights: tuple[WeightedSum, sparse.csr_array] | None = None
        self._factors: dict[tuple[WeightedSum, tuple[float, float], int], Factors] = {}

    def vectors(self, params: MfParams, budget: Budget) -> Vectors:
        """The vectors for these params; items without events get vectors from their features.

        As if nothing had been tried before. Rough when the budget ends in between.
        """
        encoder = self._encoder(params.half_life_days, params.kind_exponent)
        exponents = params.user_exponent, params.item_exponent
        factors = self._factorize(encoder, params.n_factors, exponents, params.iterations, budget)
        vectors = self._vectors(encoder, factors, params)
        if budget.stopped:
            return vectors
        item, history = vectors.item_vectors, vectors.parts[0].history_vectors
        item_encoder = fill_in(self.data.catalog, item, history, self._degrees(encoder) > 0, device=self._device)
        budget.progress(_FACTORIZE, 1.0)
        return Vectors(vectors.model, item, vectors.parts, item_encoder, vectors.settings)

    def trial_vectors(self, params: MfParams) -> Vectors:
        """The vectors to tell params apart by: items without events have zeros."""
        encoder = self._encoder(params.half_life_days, params.kind_exponent)
        exponents = params.user_exponent, params.item_exponent
        return self._vectors(encoder, self._factorize(encoder, params.n_factors, exponents, params.iterations), params)

    def start(self, half_life_days: float, dim: int) -> tuple[Float32, Float32]:
        """Where the towers start: history and item vectors [I, dim], zeros beyond the factors that the events have."""
        encoder = self._encoder(half_life_days)
        factors = self._factorize(encoder, dim, _START_EXPONENTS, _START_ITERATIONS).cut(dim)
        scaled = np.zeros((self.data.events.item_count, dim), np.float32)
        scaled[:, : factors.rank] = (factors.item_vectors * factors.singular_values**0.25).cpu().numpy()
        return scaled * _power(self._degrees(encoder), -_START_EXPONENTS[1])[:, None], scaled

    def history_weights(self, half_life_days: float) -> sparse.csr_array:
        """R: what each item counts in each user's history: sparse [U, I]."""
        return self._weights_of(self._encoder(half_life_days))

    def _vectors(self, encoder: WeightedSum, factors: Factors, params: MfParams) -> Vectors:
        factors, degrees = factors.cut(params.n_factors), self._degrees(encoder)
        scaled = (factors.item_vectors * factors.singular_values**params.singular_exponent).cpu().numpy()
        replaced = _REPLACED * params.recency_exponent
        demand = _power(degrees, params.popularity_exponent - replaced) * self._recency(params)
        item_vectors = scaled * demand[:, None]
        history_vectors = scaled * _power(degrees, -params.item_exponent)[:, None]
        return Vectors("mf", item_vectors, (Part(history_vectors, encoder),), None, params.model_dump())

    def _encoder(self, half_life_days: float, kind_exponent: float = 1.0) -> WeightedSum:
        weights = tuple(weight**kind_exponent if weight > 0 else 0.0 for weight in self.data.kind_weights)
        return WeightedSum(weights, half_life_days)

    def _degrees(self, encoder: WeightedSum) -> Float32:
        """The weights of each item's events: [I]."""
        return np.asarray(self._weights_of(encoder).sum(axis=0), np.float32)

    def _weights_of(self, encoder: WeightedSum) -> sparse.csr_array:
        if self._weights is None or self._weights[0] != encoder:
            events = self.data.events
            everybody = events.histories(np.arange(events.user_count), self.data.now, max(1, len(events)))
            self._weights = (encoder, encoder.weights(everybody, events.item_count))
        return self._weights[1]

    def _factorize(
        self,
        encoder: WeightedSum,
        n_factors: int,
        exponents: tuple[float, float],
        iterations: int,
        budget: Budget | None = None,
    ) -> Factors:
        """At least so many factors; with a budget exactly as many, as if nothing had been tried before.

        exponents: of users and items. The budget ends the iterations; the factors are then rough.
        """

        def goes_on(done: float) -> bool:
            if budget is None:
                return True
            budget.progress(_FACTORIZE, done)
            return not budget.expired()

        key = (encoder, exponents, iterations)
        found = self._factors.pop(key, None)
        if found is None or found.rank < n_factors or (budget is not None and found.rank != n_factors):
            weights = self._weights_of(encoder)
            by_user = _power(np.asarray(weights.sum(axis=1), np.float32), -exponents[0])
            by_item = _power(np.asarray(weights.sum(axis=0), np.float32), -exponents[1])
            scaled = sparse.csr_array(sparse.diags_array(by_user) @ weights @ sparse.diags_array(by_item))
            found = factorize(
                scaled, n_factors, iterations=iterations, seed=self.data.seed, device=self._device, goes_on=goes_on
            )
        self._factors[key] = found
        if len(self._factors) > _KEPT:
            del self._factors[next(iter(self._factors))]
        return found

    def _recency(self, params: MfParams) -> Float32:
        """(1 + recent demand)^r of every item: float32 [I]."""
        if params.recency_exponent == 0:
            return np.ones(self.data.events.item_count, np.float32)
        demand = self.data.recent_demand(params.recency_half_life_days)
        return np.asarray((1 + demand) ** params.recency_exponent, np.float32)


def _power(degrees: Float32, exponent: float) -> Float32:
    """degrees ** exponent, and 0 where the degree is 0."""
    powers = np.zeros_like(degrees)
    np.power(degrees, np.float32(exponent), out=powers, where=degrees > 0)
    return powers
