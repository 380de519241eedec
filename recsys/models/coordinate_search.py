"""Chooses params one at a time, so that the cost grows with the sum of the values and not with their product."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from recsys.config.settings import Section

P = TypeVar("P", bound=Section)


def needs_search(values: Mapping[str, Sequence[Any]]) -> bool:
    """Whether any param has more than one value."""
    return any(len(allowed) > 1 for allowed in values.values())


def coordinate_search(
    values: Mapping[str, Sequence[Any]],
    score: Callable[[P], float],
    *,
    start: P,
    rounds: int,
    expired: Callable[[], bool],
    progress: Callable[[float], None] = lambda _: None,
) -> P:
    """Return the params found best by varying one after the other, in the order of `values`, the rest held.

    Stops after `rounds`, when a whole round changed nothing, or as soon as `expired` says so. Nothing is scored twice,
    a value that is no better than the one held does not replace it, and neither does one that scores NaN.
    progress: called with the share done.
    """
    known: dict[tuple[Any, ...], float] = {}

    def score_once(params: P) -> float:
        key = tuple(getattr(params, name) for name in values)
        if key not in known:
            known[key] = score(params)
        return known[key]

    best = start
    steps = [name for name, allowed in values.items() if len(allowed) > 1] * rounds
    changed_at = 0
    for step, name in enumerate(steps):
        if step - changed_at >= len(steps) // rounds:
            break
        for value in values[name]:
            if expired():
                return best
            other = best.model_copy(update={name: value})
            if score_once(other) > score_once(best):
                best, changed_at = other, step
        progress((step + 1) / len(steps))
    return best


def middle(allowed: Sequence[Any]) -> Any:
    """Where a search starts that knows nothing."""
    return allowed[len(allowed) // 2]
