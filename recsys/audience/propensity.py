"""What is expected of the users of an audience: columns of its file, and conditions on who may be in it."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.audience.inputs import Inputs
from recsys.data.arrays import Bool
from recsys.errors import ConfigError, RefusedError
from recsys.serving.fresh_items import CatalogView
from recsys.serving.history import EventLog
from recsys.serving.propensity import FIGURES, score_in_blocks, values

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
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


def columns_of(inputs: Inputs) -> list[str]:
    """The figures that the live bundle knows of customers, a column each; none where nothing was learned."""
    found = inputs.bundle.propensity
    return [f"{name}_{window}" for window in sorted(found.scorers if found else ()) for name in FIGURES]


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
    figures = figures_of(inputs, user_ids, as_of)
    return np.array([_meets(figures.get(user_id, {}), conditions) for user_id in user_ids], np.bool_)


def _meets(figures: dict[str, float | None], conditions: Sequence[Condition]) -> bool:
    numbers = [figures.get(condition.column) for condition in conditions]
    return all(
        number is not None and _OPERATORS[condition.operator](number, condition.number)
        for number, condition in zip(numbers, conditions, strict=True)
    )
