"""What is expected of the users of an audience: columns of its file, and conditions on who may be in it."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.audience.inputs import Inputs
from recsys.data.arrays import Bool, Float64
from recsys.errors import ConfigError, RefusedError
from recsys.serving.fresh_items import CatalogView
from recsys.serving.history import EventLog
from recsys.serving.propensity import BLOCK_USERS, FIGURES, score_in_blocks, score_users, values

_OPERATORS: dict[str, Callable[[Any, float], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*([a-z_]+_\d+)\s*(>=|<=|>|<)\s*(-?[0-9.]+(?:e-?\d+)?)\s*")


@dataclass(frozen=True)
class Condition:
    """A figure of propensity, an operator and a number: churn_risk_90 >= 0.7."""

    column: str
    operator: str
    number: float

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.number:g}"


def parse_condition(text: str) -> Condition:
    """Read a condition. Raises ConfigError that says what is allowed."""
    found = _FORM.fullmatch(text)
    try:
        if found:
            return Condition(found[1], found[2], float(found[3]))
    except ValueError:
        pass
    raise ConfigError(f"--where {text!r} is no condition; allowed is COLUMN OPERATOR NUMBER, as churn_risk_90>=0.7")


def windows_of(inputs: Inputs) -> list[int]:
    """The windows, in days, of which the live bundle knows who buys again; none where nothing was learned."""
    found = inputs.bundle.propensity
    return sorted(found.scorers if found else ())


def columns_of(inputs: Inputs) -> list[str]:
    """The figures that the live bundle knows of customers, a column each; none where nothing was learned."""
    return [f"{name}_{window}" for window in windows_of(inputs) for name in FIGURES]


def expected(inputs: Inputs, user_ids: Sequence[str], as_of: int) -> dict[str, Float64]:
    """All columns for users [B]: float64 [B] each, NaN of whom nothing is known."""
    log, view = EventLog.of(inputs.extract, inputs.bundle, inputs.config), CatalogView(inputs.bundle)
    found = {name: np.full(len(user_ids), np.nan) for name in columns_of(inputs)}
    for start in range(0, len(user_ids), BLOCK_USERS):
        users, scored = score_users(log, view, inputs.fresh, user_ids[start : start + BLOCK_USERS], as_of)
        for one in scored:
            for name in FIGURES:
                found[f"{name}_{one.window}"][start + users] = getattr(one.predictions, name)
    return found


def figures_of(inputs: Inputs, user_ids: Sequence[str], as_of: int) -> dict[str, dict[str, float | None]]:
    """The figures of those of the users who ever bought anything: user id -> column -> number."""
    if not columns_of(inputs):
        return {}
    log, view = EventLog.of(inputs.extract, inputs.bundle, inputs.config), CatalogView(inputs.bundle)
    found: dict[str, dict[str, float | None]] = {}
    for ids, scored in score_in_blocks(log, view, inputs.fresh, user_ids, as_of):
        for at, user_id in enumerate(ids):
            each = [(one.window, values(one, at)) for one in scored]
            found[user_id] = {f"{name}_{window}": told[name] for window, told in each for name in FIGURES}
    return found


def check_conditions(inputs: Inputs, conditions: Sequence[Condition]) -> None:
    """Raises RefusedError for a column that the live bundle does not know."""
    known = columns_of(inputs)
    for condition in conditions:
        if condition.column not in known:
            allowed = ", ".join(known) or "none: `recsys train` has not learned who buys again"
            raise RefusedError(f"--where {condition}: there is no column {condition.column!r}; allowed are {allowed}")


def matches(inputs: Inputs, conditions: Sequence[Condition], user_ids: Sequence[str], as_of: int) -> Bool:
    """Mark the users who meet all conditions: bool [B]. Of whom nothing is known, no condition holds."""
    figures, met = expected(inputs, user_ids, as_of), np.ones(len(user_ids), np.bool_)
    for condition in conditions:
        met &= np.asarray(_OPERATORS[condition.operator](figures[condition.column], condition.number), np.bool_)
    return met
