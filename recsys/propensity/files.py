"""The scorers of a bundle, a file for each window, and what past cuts said of them.

Numbers lie in `propensity/<days>.npz`, without pickle; figures in the manifest. Shapes: I items, C categories.
"""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.arrays import Float64, Int64
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError
from recsys.propensity.features import FEATURES, Usual
from recsys.propensity.scorer import Correction, Member, Scorer

FORMAT = 1
_FOLDER = "propensity"


@dataclass(frozen=True)
class Propensity:
    """The scorers of a bundle."""

    scorers: dict[int, Scorer]  # by days of the window
    trained_at: dict[int, int]  # the newest event that each has seen lies before; microseconds UTC
    categories: list[str]  # the names of the numbers of categories
    facts: dict[str, Any]  # days of each configured window -> figures, and why it was refused tonight


def write_propensity(folder: Path, propensity: Propensity) -> dict[str, Any]:
    """Write the scorers into `folder`/propensity and return what the manifest says of them. Raises OSError."""
    place = folder / _FOLDER
    place.mkdir()
    for window, scorer in propensity.scorers.items():
        np.savez(place / f"{window}.npz", allow_pickle=False, **_arrays(scorer))
    return {
        "format": FORMAT,
        "features": list(FEATURES),
        "windows": {str(window): _facts(scorer) for window, scorer in propensity.scorers.items()},
        "trained_at": {str(window): moment for window, moment in propensity.trained_at.items()},
        "categories": propensity.categories,
        "facts": plain(propensity.facts),
    }


def open_propensity(folder: Path, facts: Mapping[str, Any], item_count: int) -> Propensity:
    """Open what `write_propensity` wrote. facts: what it returned; of another format or of other features: no scorer.

    Raises BundleError when the numbers do not fit the items; KeyError, OSError or ValueError when a file cannot be
    read.
    """
    known = facts["format"] == FORMAT and facts["features"] == list(FEATURES)
    scorers = {}
    for days, about in facts["windows"].items() if known else ():
        place = folder / _FOLDER / f"{days}.npz"
        try:
            with np.load(place, allow_pickle=False) as found:
                scorers[int(days)] = _scorer(int(days), dict(found), about)
        except zipfile.BadZipFile as error:
            raise BundleError(f"{place} cannot be read: {error}") from error
        returns = scorers[int(days)].usual
        sizes = len(returns.item_return), len(returns.category_return)
        if sizes != (item_count, len(facts["categories"])):
            expected = (item_count, len(facts["categories"]))
            raise BundleError(f"{place}: expected {expected} items and categories, found {sizes}")
    moments = {int(days): moment for days, moment in facts["trained_at"].items()}
    return Propensity(scorers, moments, facts["categories"], facts["facts"])


def align(propensity: Propensity, ids: Vocabulary, wanted: Vocabulary, categories: Sequence[str]) -> Propensity:
    """The same scorers in the item rows of `wanted` and for these categories; of new ones nothing is known."""
    rows = ids.rows_of(list(wanted)).astype(np.int64)
    place = {name: at for at, name in enumerate(propensity.categories)}
    codes = np.array([place.get(name, -1) for name in categories], np.int64)

    def aligned(scorer: Scorer) -> Scorer:
        usual = scorer.usual
        returns = _take(usual.item_return, rows), _take(usual.category_return, codes)
        return replace(scorer, usual=Usual(usual.log_gap, *returns))

    scorers = {window: aligned(scorer) for window, scorer in propensity.scorers.items()}
    return replace(propensity, scorers=scorers, categories=list(categories))


def plain(value: Any) -> Any:
    """The same in values that JSON knows: what is no finite number becomes None."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _take(values: Float64, rows: Int64) -> Float64:
    found = np.zeros(len(rows))
    found[rows >= 0] = values[rows[rows >= 0]]
    return found


_MEMBER = [field.name for field in fields(Member) if field.name != "spread"]


def _arrays(scorer: Scorer) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "item_return": scorer.usual.item_return,
        "category_return": scorer.usual.category_return,
        "correction_inputs": scorer.correction.inputs,
        "correction_outputs": scorer.correction.outputs,
    }
    for number, member in enumerate(scorer.members):
        arrays |= {f"{name}_{number}": getattr(member, name) for name in _MEMBER}
    return arrays


def _facts(scorer: Scorer) -> dict[str, Any]:
    return {
        "spreads": [member.spread for member in scorer.members],
        "with_values": scorer.with_values,
        "correction": scorer.correction.method,
        "log_gap": scorer.usual.log_gap,
    }


def _scorer(window: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> Scorer:
    members = tuple(
        Member(**{name: arrays[f"{name}_{number}"] for name in _MEMBER}, spread=spread)
        for number, spread in enumerate(facts["spreads"])
    )
    correction = Correction(facts["correction"], arrays["correction_inputs"], arrays["correction_outputs"])
    usual = Usual(facts["log_gap"], arrays["item_return"], arrays["category_return"])
    return Scorer(window, members, facts["with_values"], correction, usual)
