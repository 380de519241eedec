"""Publish or not: tonight's candidate against popularity and against the live bundle, on tonight's holdout.

Only vectors that have not seen the holdout are compared: the candidate before its refit, and the vectors that the live
bundle kept from before its own refit.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from recsys.config.settings import GateSettings
from recsys.data.arrays import Float32, Int8, Int32, mean_or_zero
from recsys.data.interactions import Histories
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import Part, UserEncoder, Vectors

METRIC = "ndcg@20"
_RESAMPLES = 1000


@dataclass(frozen=True)
class GateResult:
    """The decision: `reasons` is empty when the candidate may be published. `warnings` keep nothing from it."""

    reasons: tuple[str, ...]
    metrics: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def publish(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def decide(
    candidate: Float32,
    popularity: Float32 | None,
    live: tuple[Float32, Float32] | None,
    *,
    settings: GateSettings,
    seed: int,
) -> GateResult:
    """Decide whether the candidate may be published, by NDCG@20 user by user.

    candidate, popularity: each [B] over the same users of tonight's holdout; popularity is None when it is itself what
    is to be published. live: the candidate and the live bundle, each [C] over the users of that part of the holdout
    which neither has seen; None when there is nothing to compare with. Against the live bundle a loss counts when it is
    larger than `max_relative_drop` and larger than chance (paired bootstrap over the users). A mean above popularity's
    is enough; a difference that chance may have made is a warning.
    """
    reasons, warnings = list[str](), list[str]()
    metrics: dict[str, Any] = {"candidate": mean_or_zero(candidate)}
    if len(candidate) == 0:
        reasons.append(
            "no user of the holdout has both a history and an event of [evaluation] targets, so nothing can be judged; "
            "`recsys source check` says why"
        )
    elif popularity is not None:
        metrics["popularity"] = mean_or_zero(popularity)
        if metrics["candidate"] <= metrics["popularity"]:
            reasons.append(
                f"{METRIC} {metrics['candidate']:.4f} is not above popularity's {metrics['popularity']:.4f} "
                f"on {len(candidate)} users"
            )
        else:
            lower, upper = _interval(candidate - popularity, seed)
            metrics["above_popularity"] = [lower, upper]
            if lower <= 0:
                warnings.append(
                    f"{METRIC} is {metrics['candidate'] - metrics['popularity']:.4f} above popularity's on "
                    f"{len(candidate)} users, with a 95 % interval from {lower:.4f} to {upper:.4f}: it may be chance"
                )
    if live is not None:
        ours, theirs = live
        _, upper = _interval(ours - theirs, seed)
        metrics |= {"live": mean_or_zero(theirs), "candidate_beside_live": mean_or_zero(ours), "live_users": len(ours)}
        metrics["live_difference_at_most"] = upper
        if mean_or_zero(ours) < mean_or_zero(theirs) * (1 - settings.max_relative_drop) and upper < 0:
            reasons.append(
                f"{METRIC} {mean_or_zero(ours):.4f} is more than {settings.max_relative_drop:.0%} below "
                f"the live bundle's {mean_or_zero(theirs):.4f} on the same {len(ours)} users ([gate] max_relative_drop)"
            )
    return GateResult(tuple(reasons), metrics, tuple(warnings))


def _interval(differences: Float32, seed: int) -> tuple[float, float]:
    """The 2.5 % and 97.5 % points of the mean of resampled paired differences; zeros when there are none."""
    if len(differences) == 0:
        return 0.0, 0.0
    random = np.random.default_rng(seed)
    means = [differences[random.integers(0, len(differences), len(differences))].mean() for _ in range(_RESAMPLES)]
    lower, upper = np.quantile(means, (0.025, 0.975))
    return float(lower), float(upper)


@dataclass(frozen=True)
class _Recoded:
    """An encoder for histories whose kinds have other codes; events of a kind that it does not know are left out."""

    name: ClassVar[str] = "recoded"
    encoder: UserEncoder
    codes: Int8  # the encoder's code of each kind, -1 where it does not know it

    def encode(self, history_vectors: Float32, histories: Histories) -> Float32:
        """See UserEncoder."""
        known = histories.select(self.codes[histories.kinds] >= 0)
        return self.encoder.encode(history_vectors, replace(known, kinds=self.codes[known.kinds]))


def align(vectors: Vectors, ids: Vocabulary, wanted: Vocabulary, codes: Int8 | None = None) -> Vectors:
    """The same vectors in the item rows of `wanted`; items that `ids` does not know get zeros.

    codes: for each of tonight's kinds the code that these vectors know it by, -1 for none; None: the same codes.
    """
    rows = ids.rows_of(list(wanted))
    if codes is not None and (codes == np.arange(len(codes))).all():
        codes = None
    return replace(
        vectors,
        item_vectors=_take(vectors.item_vectors, rows),
        parts=tuple(
            Part(_take(part.history_vectors, rows), part.encoder if codes is None else _Recoded(part.encoder, codes))
            for part in vectors.parts
        ),
    )


def _take(matrix: Float32, rows: Int32) -> Float32:
    taken: npt.NDArray[np.float32] = np.zeros((len(rows), matrix.shape[1]), np.float32)
    taken[rows >= 0] = matrix[rows[rows >= 0]]
    return taken
