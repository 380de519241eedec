"""Several campaigns at once: who gets which, so that the total expected value is largest.

At most n campaigns for a user, and between a smallest and a largest number of users for a campaign. This is a
transportation problem: its matrix is totally unimodular, so the linear program has a best solution in whole numbers
(Hoffman and Kruskal, 1956), and nothing is lost by rounding.

Most users are easy: at the prices that a place in each campaign is worth, their best campaigns stand out. Prices come
from the dual problem, one campaign after the other: the price at which just so many users want it as it has places.
The program is then solved for the users who are nearly undecided at these prices, beside the choices of all others. Its
own prices bound what any allocation can reach: while they leave a gap, more users are taken in, in the end all.

Shapes: U users, C campaigns, N pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from recsys.data.arrays import Bool, Float64, Int64
from recsys.errors import RefusedError

GAP = 1e-5  # of the value: what may be missing to the best
_TOGETHER = 4_000  # users whose program is solved at once; of more, the first share is undecided
_SHARE = 0.1
_SWEEPS = 20  # over the prices


@dataclass(frozen=True)
class Limits:
    """How many users a campaign has."""

    least: int = 0
    most: int | None = None  # None: any number


@dataclass(frozen=True)
class Allocation:
    """Who gets which campaign, and how good that is."""

    chosen: Bool  # [U, C]
    value: float
    bound: float  # no allocation within the limits has more
    unconstrained: float  # without the limits of campaigns, at most n for each user

    @property
    def loss(self) -> float:
        """The share of the unconstrained value that the limits cost; negative where there is nothing to lose."""
        return 1 - self.value / self.unconstrained if self.unconstrained > 0 else 0.0


def allocate(values: Float64, limits: Sequence[Limits], per_user: int) -> Allocation:
    """Choose the pairs of user and campaign with the largest total value.

    values: [U, C] what a mailing is expected to bring; NaN where the user is no member of the campaign. A pair that
    brings nothing is chosen only where a campaign needs it to reach its least.
    Raises RefusedError when the limits cannot be met.
    """
    worth = np.where(np.isnan(values), -np.inf, values)
    _check(worth, limits, per_user)
    prices, share, found = np.zeros(len(limits)), 1.0, None
    if len(worth) > _TOGETHER:
        prices, share = _prices(worth, limits, per_user), max(_SHARE, _TOGETHER / len(worth))
    bound = np.inf
    while True:
        chosen, margins = _decide(worth, prices, per_user)
        undecided = np.argsort(margins, kind="stable")[: round(share * len(worth))]
        chosen[undecided] = False
        solved = _solve(worth[undecided], limits, per_user, chosen.sum(axis=0))
        if solved is not None:
            chosen[undecided], prices = solved
            bound = min(bound, _bound(worth, prices, limits, per_user))
            value = float(worth[chosen].sum())
            found = chosen if found is None or value > float(worth[found].sum()) else found
            if share >= 1 or bound - value <= GAP * abs(bound):
                break
        elif share >= 1:
            raise RefusedError(f"the smallest sizes cannot be met with at most {per_user} campaigns for a user")
        share = min(1.0, 2 * share)
    value = float(worth[found].sum())
    return Allocation(found, value, max(bound, value), _bound(worth, np.zeros(len(limits)), (), per_user))


def _check(worth: Float64, limits: Sequence[Limits], per_user: int) -> None:
    members = np.isfinite(worth).sum(axis=0)
    for number, (limit, count) in enumerate(zip(limits, members.tolist(), strict=True)):
        if limit.most is not None and limit.least > limit.most:
            raise RefusedError(
                f"campaign {number + 1}: the smallest size {limit.least} is above the largest {limit.most}"
            )
        if limit.least > count:
            raise RefusedError(f"campaign {number + 1}: the smallest size is {limit.least}, but it has {count} members")
    places = int(np.minimum(np.isfinite(worth).sum(axis=1), per_user).sum())
    if (needed := sum(limit.least for limit in limits)) > places:
        raise RefusedError(f"the smallest sizes add up to {needed}, but all users together may get {places} campaigns")


def _prices(worth: Float64, limits: Sequence[Limits], per_user: int) -> Float64:
    """What a place in each campaign is worth, nearly: float64 [C]."""
    prices = np.zeros(len(limits))
    for _ in range(_SWEEPS):
        before = prices.copy()
        for campaign, limit in enumerate(limits):
            others = np.delete(worth - prices, campaign, axis=1)
            others = np.column_stack([others, np.zeros((len(worth), per_user))])  # a place may stay empty
            least = np.partition(others, -per_user, axis=1)[:, -per_user]
            wanted = np.sort(least - worth[:, campaign])  # minus the price up to which each user wants the campaign
            prices[campaign] = 0.0
            if limit.most is not None and limit.most < len(wanted):
                prices[campaign] = max(0.0, -wanted[limit.most])
            if limit.least and not prices[campaign]:
                prices[campaign] = min(0.0, -wanted[limit.least - 1])
        if np.allclose(before, prices, rtol=1e-6, atol=0):
            break
    return prices


def _decide(worth: Float64, prices: Float64, per_user: int) -> tuple[Bool, Float64]:
    """The best campaigns of each user at these prices: bool [U, C]; and how clearly they are the best: float64 [U]."""
    net = np.column_stack([worth - prices, np.zeros((len(worth), per_user + 1))])  # a place may stay empty
    order = np.argsort(-net, axis=1, kind="stable")[:, : per_user + 1]
    best = np.take_along_axis(net, order, axis=1)
    chosen = np.zeros(net.shape, np.bool_)
    np.put_along_axis(chosen, order[:, :per_user], values=True, axis=1)
    # Of an empty place only what nearly fills it matters: the best campaign that is not chosen.
    others = np.where(chosen[:, : worth.shape[1]], -np.inf, net[:, : worth.shape[1]]).max(axis=1)
    least = best[:, per_user - 1]
    campaigns = np.where(chosen[:, : worth.shape[1]], net[:, : worth.shape[1]], np.inf).min(axis=1)
    return chosen[:, : worth.shape[1]], np.minimum(least - others, campaigns)


def _solve(worth: Float64, limits: Sequence[Limits], per_user: int, taken: Int64) -> tuple[Bool, Float64] | None:
    """The best choice for some users [U, C], and the price of a place in each campaign; None: there is none.

    taken: places of each campaign that others have.
    """
    users, campaigns = np.nonzero(np.isfinite(worth))
    pairs = np.arange(len(users))
    ones = np.ones(len(pairs))
    of_campaign = sparse.csr_array((ones, (campaigns, pairs)), shape=(len(limits), len(pairs)))
    upper = [c for c, limit in enumerate(limits) if limit.most is not None]
    lower = [c for c, limit in enumerate(limits) if limit.least > taken[c]]
    matrices = [sparse.csr_array((ones, (users, pairs)), shape=(len(worth), len(pairs)))]
    matrices += [of_campaign[upper], -of_campaign[lower]]
    most, least = ([limits[c].most for c in upper], [limits[c].least for c in lower])
    rooms = np.array(most, np.float64) - taken[upper]
    if (rooms < 0).any() or (not len(pairs) and lower):
        return None
    if not len(pairs):
        return np.zeros(worth.shape, np.bool_), np.zeros(len(limits))
    found = linprog(
        -worth[users, campaigns],
        A_ub=sparse.vstack(matrices, format="csr"),
        b_ub=np.concatenate([np.full(len(worth), float(per_user)), rooms, taken[lower] - np.array(least, np.float64)]),
        bounds=(0, 1),
        method="highs",
    )
    if found.status != 0:
        return None
    chosen, prices = np.zeros(worth.shape, np.bool_), np.zeros(len(limits))
    chosen[users, campaigns] = found.x > 0.5
    marginals = -found.ineqlin.marginals[len(worth) :]
    prices[upper] += marginals[: len(upper)]
    prices[lower] -= marginals[len(upper) :]
    return chosen, prices


def _bound(worth: Float64, prices: Float64, limits: Sequence[Limits], per_user: int) -> float:
    """What no allocation exceeds: the value of the dual problem at these prices. Without limits, what is reached."""
    net = np.maximum(worth - prices, 0)
    best = np.sort(net, axis=1)[:, max(0, net.shape[1] - per_user) :]
    paid = sum(
        price * (limit.most or 0) if price > 0 else price * limit.least
        for price, limit in zip(prices.tolist(), limits or [Limits()] * len(prices), strict=True)
    )
    return float(best.sum() + paid)


def ranked(chosen: Bool, values: Float64, campaign: int) -> Int64:
    """The users of a campaign, those of most value first, ties by row."""
    users = np.flatnonzero(chosen[:, campaign])
    return np.asarray(users[np.argsort(-values[users, campaign], kind="stable")])
