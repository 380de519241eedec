"""What a mailing brought: the effects, whether both groups can be compared, and what may be concluded."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recsys.data.arrays import Bool, Float64
from recsys.errors import RefusedError
from recsys.experiments.effects import Effect, conversion_effect, spend_effect, stratify
from recsys.experiments.planning import POWER_QUANTILES

_MISMATCH = 0.001  # a sample ratio less likely than this is no accident (Fabijan et al. 2019)


@dataclass(frozen=True)
class Lift:
    """The result of a mailing so far. Effects are for each mailed person."""

    mailed: int
    held_back: int
    conversion: Effect
    spend: Effect | None  # None: no purchase has a value
    sample_ratio: float  # probability of groups as unequal as these, if the hash alone made them
    verdict: str  # window_open, not_comparable, worked, harmed, no_effect or not_enough_data
    text: str  # the verdict in a sentence
    more_people: int | None = None  # with not_enough_data: so many more would be enough
    more_days: int | None = None  # or so many days at the same rate


def measure(
    converted: Bool,
    spend: Float64 | None,
    mailed: Bool,
    probability: Float64,
    *,
    share: float,
    worth: float,
    days: float,
    days_left: float,
) -> Lift:
    """Compare the mailed with those held back; people [N].

    share: of the people, to be held back. worth: the smallest rise that matters, relative to the conversion without a
    mailing. days: since the mailing, at most the window. days_left: until the window is over; before, there is no
    verdict, since whoever looks every day finds an effect sooner or later.
    Raises RefusedError when one of the groups is empty.
    """
    people, held_back = len(mailed), int((~mailed).sum())
    if held_back in (0, people):
        raise RefusedError(
            f"of {people} people {held_back} were held back, so there is nothing to compare with; a campaign with "
            "control_share above 0 can be measured"
        )
    strata = stratify(probability, mailed)
    conversion = conversion_effect(converted, mailed, strata)
    ratio = float(stats.binomtest(held_back, people, share).pvalue)
    more_people, more_days = _more(conversion, people, days, worth)
    verdict = _verdict(conversion, ratio, worth, days_left)
    text = _TEXTS[verdict].format(
        low=conversion.low,
        high=conversion.high,
        left=math.ceil(days_left),
        more=_more_text(more_people, more_days),
        held_back=held_back,
        people=people,
        share=share,
    )
    is_short = verdict == "not_enough_data"
    return Lift(
        people - held_back,
        held_back,
        conversion,
        None if spend is None else spend_effect(np.asarray(spend, np.float64), mailed, strata),
        ratio,
        verdict,
        text,
        more_people if is_short else None,
        more_days if is_short else None,
    )


_TEXTS = {
    "window_open": "No verdict yet: the window is open for {left} more days.",
    "not_comparable": "No verdict: {held_back} of {people} people are held back, where a share of {share:g} was to be. "
    "Somebody left one of the groups who did not leave the other.",
    "worked": "The mailing worked: it raised conversion by {low:.2%} to {high:.2%} of the people mailed.",
    "harmed": "The mailing did harm: it changed conversion by {low:.2%} to {high:.2%} of the people mailed.",
    "no_effect": "No effect that matters: the change of conversion lies between {low:.2%} and {high:.2%}.",
    "not_enough_data": "Not enough data yet: {more}",
}


def _verdict(conversion: Effect, ratio: float, worth: float, days_left: float) -> str:
    if ratio < _MISMATCH:
        return "not_comparable"
    if days_left > 0:
        return "window_open"
    if conversion.low > 0:
        return "worked"
    if conversion.high < 0:
        return "harmed"
    has_base = conversion.held_back > 0
    return "no_effect" if has_base and conversion.high < worth * conversion.held_back else "not_enough_data"


def _more(conversion: Effect, people: int, days: float, worth: float) -> tuple[int | None, int | None]:
    """How many people more, or days at the same rate, would find the rise that matters; None: nobody can say."""
    effect = worth * conversion.held_back
    if effect <= 0:
        return None, None
    factor = (conversion.standard_error * POWER_QUANTILES / effect) ** 2 - 1
    return max(1, math.ceil(people * factor)), max(1, math.ceil(days * factor))


def _more_text(people: int | None, days: int | None) -> str:
    if people is None:
        return "nobody of those held back has bought."
    return f"about {days:,} days more at this rate, or {people:,} people more."
