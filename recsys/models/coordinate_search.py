"""Chooses settings one at a time, so that the cost grows with the sum of the values and not with their product."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Settings = dict[str, Any]


def needs_search(values: Mapping[str, Sequence[Any]]) -> bool:
    """Whether any setting has more than one value."""
    return any(len(allowed) > 1 for allowed in values.values())


def coordinate_search(
    values: Mapping[str, Sequence[Any]],
    score: Callable[[Settings], float],
    *,
    start: Settings,
    rounds: int,
    report: Callable[[float], None] = lambda _: None,
) -> Settings:
    """The settings found best by varying one after the other, in the order of `values`, the rest held.

    Stops after `rounds` or when a whole round changed nothing. Nothing is scored twice, a value that is no better than
    the one held does not replace it, and neither does one that scores NaN. report: is told the share done.
    """
    known: dict[tuple[Any, ...], float] = {}

    def score_once(settings: Settings) -> float:
        key = tuple(settings[name] for name in values)
        if key not in known:
            known[key] = score(settings)
        return known[key]

    best = dict(start)
    steps = [name for name, allowed in values.items() if len(allowed) > 1] * rounds
    changed_at = 0
    for step, name in enumerate(steps):
        if step - changed_at >= len(steps) // rounds:
            break
        for value in values[name]:
            if score_once(other := {**best, name: value}) > score_once(best):
                best, changed_at = other, step
        report((step + 1) / len(steps))
    return best


def middle(allowed: Sequence[Any]) -> Any:
    """Where a search starts that knows nothing."""
    return allowed[len(allowed) // 2]
