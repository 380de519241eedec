"""Before a mailing: which effect could be found, with how many people, and what share of them held back."""

from dataclasses import dataclass

from recsys.experiments.effects import Z, newcombe, wilson

POWER = 0.9  # in how many of all mailings an effect of the planned size is to be found
_NORMAL = 1.476  # the quantile of .93: planned by that of .9, two in a hundred simulated effects more are missed
POWER_QUANTILES = Z + _NORMAL  # the size of such an effect in standard errors
_HALVINGS = 60
_MOST = 1_000_000_000  # people


@dataclass(frozen=True)
class Plan:
    """What a mailing to some people could find."""

    people: int  # mailed and held back
    held_back: int
    smallest: float  # difference of the conversions that is found in POWER of such mailings
    relative: float | None  # the same as a share of the conversion without a mailing; None where that is 0


def smallest_effect(rate: float, people: float, share: float) -> float:
    """The smallest rise of the conversion `rate` that is found in POWER of the mailings to so many people.

    share: of the people, held back. 1 - rate when no rise would be found.
    """
    low, high = 0.0, 1 - rate
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _is_found(rate, middle, people, share) else (middle, high)
    return high


def people_needed(rate: float, effect: float, share: float) -> int | None:
    """How many people, mailed and held back, it takes to find a rise of the conversion `rate` by `effect`.

    None: more than there are.
    """
    low, high = 1, _MOST
    if not 0 < effect <= 1 - rate or not _is_found(rate, effect, high, share):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_found(rate, effect, middle, share) else (middle + 1, high)
    return low


def plan(rate: float, people: int, share: float) -> Plan:
    """What a mailing to so many people, some share of them held back, could find."""
    smallest = smallest_effect(rate, people, share)
    return Plan(people, round(people * share), smallest, smallest / rate if rate > 0 else None)


def _is_found(rate: float, effect: float, people: float, share: float) -> bool:
    """Whether the expected lower end of the interval lies above 0 by as much as the power demands."""
    mailed, held_back, higher = people * (1 - share), people * share, rate + effect
    found = newcombe(higher, wilson(higher, mailed), rate, wilson(rate, held_back))
    spread = (higher * (1 - higher) / mailed + rate * (1 - rate) / held_back) ** 0.5
    return bool(found.low >= _NORMAL * spread)
