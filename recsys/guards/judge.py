"""Judge a night: its figures beside those of the last good nights.

Every guard is robust: medians instead of means, the same weekday, the growth of the last weeks, and a spread measured
by the median absolute deviation. A guard that lacks the history to judge by says nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from recsys.config.settings import GuardSettings
from recsys.data.times import MICROSECONDS_PER_DAY, readable
from recsys.guards.comparison import Comparison
from recsys.guards.figures import DAYS, Figures, period_sums
from recsys.guards.verdicts import Verdict, at_least, at_most, with_earlier

LEAST_DAYS = 29  # of events, before the newest ones can be compared with four weeks
_HOUR = 3_600_000_000
_CHANCE = 14.0  # events expected in a silence that chance leaves once in a million
_CLOSED_HOURS, _CLOSED_FACTOR, _OPEN_FACTOR = 24, 3.0, 1.25  # a shop with closed days closes for holidays, too
_LOW, _HIGH = 6.0, 5.0  # spreads below and above what is expected; days of real shops are far from normal
_FEW = 20  # events by which a day has to differ
_FEW_REPEATS = 50  # events of a day, before its repeats say something
_LEAST_CHANGED = 30  # events of the past
_MISSING = 0.05  # of a usual day: below, the day is missing
_FACTOR = 3.0  # times the usual figure, where that is above the configured bound

_FEED = "look whether the export or the table behind the query still gets new rows"
_PAST = (
    "look whether a join or a filter of the query of interactions loses or repeats rows; if the shop has corrected its "
    "past events, `recsys train --force REASON` publishes once"
)
_CATALOG = "run the query of items by hand: a join or a filter may have lost rows"


@dataclass(frozen=True)
class Night:
    """An earlier night."""

    figures: Figures
    found: Mapping[str, float] = field(default_factory=dict)  # guard -> its figure then
    run_id: int = 0


def judge(
    tonight: Figures,
    comparison: Comparison,
    nights: Sequence[Night],
    settings: GuardSettings,
    *,
    max_data_drop: float,
) -> list[Verdict]:
    """Judge a night by the last good ones, newest first; `comparison` is with the newest. No night: no verdict."""
    if not nights:
        return []
    before, earlier = nights[0].figures, [night.figures for night in nights]
    usual = [night.found for night in nights]
    verdicts = [
        *judge_freshness(tonight, earlier, settings),
        *_volume(tonight, before, settings),
        *_days(tonight, before, settings),
        *_repeats(tonight, earlier, settings),
        *_past(comparison, usual, settings),
        _events(tonight, before, max_data_drop),
        *_catalog(tonight, before, settings),
        *_drift(tonight, before, settings),
        *_heaviest(tonight, earlier, settings),
        *_ids(tonight, before, comparison, settings),
    ]
    return with_earlier(verdicts, usual)


def judge_freshness(tonight: Figures, nights: Sequence[Figures], settings: GuardSettings) -> list[Verdict]:
    """The age of the newest event of each kind, beside its usual age and the silences of the last nine weeks."""
    before = nights[0]
    if before.span_days < LEAST_DAYS:
        return []
    found = []
    for kind, newest in before.newest.items():
        age = max(0.0, (tonight.at - max(tonight.newest.get(kind, 0), 0)) / _HOUR)
        if kind not in tonight.newest:
            age = (tonight.at - newest) / _HOUR
        usual = float(np.median([(n.at - n.newest[kind]) / _HOUR for n in nights if kind in n.newest]))
        hourly = sum(before.periods[kind]) / (24 * min(DAYS, before.span_days))
        gap = before.gap_hours[kind]
        gap *= _CLOSED_FACTOR if gap >= _CLOSED_HOURS else _OPEN_FACTOR
        bound = max(0.0, usual) + max(settings.max_silence_hours, gap, _CHANCE / hourly if hourly else math.inf)
        if math.isfinite(bound):
            text = f"the newest event is {age:.1f} hours old, of {readable(tonight.newest.get(kind, newest))}; "
            found.append(at_most(f"freshness {kind}", age, bound, f"{text}allowed are {bound:.1f} hours", _FEED))
    return found


def _volume(tonight: Figures, before: Figures, settings: GuardSettings) -> list[Verdict]:
    """The events of each kind in the newest 24 hours, beside the same weekday of the weeks before."""
    if tonight.span_days < LEAST_DAYS:
        return []
    found = []
    for kind in before.newest:
        counts = tonight.periods.get(kind, [0] * DAYS)
        expected, spread = expected_volume(counts, tonight.span_days)
        ratio = (counts[0] + 0.5) / (expected + 0.5)
        low = min(1 - settings.max_volume_drop, math.exp(-_LOW * spread))
        high = max(settings.max_volume_factor, math.exp(_HIGH * spread))
        text = (
            f"{counts[0]:,} events in the newest 24 hours, where {expected:,.0f} are expected; allowed is a share of "
        )
        if ratio < 1:
            found.append(at_least(f"volume {kind}", ratio, low, f"{text}{low:.2f} at least", _FEED))
        else:
            remedy = "look for rows that came twice, for a robot, and for an import with the wrong times"
            found.append(at_most(f"volume {kind}", ratio, high, f"{text}{high:.1f} at most", remedy))
    return found


def expected_volume(counts: Sequence[int], span_days: float) -> tuple[float, float]:
    """What is expected of period 0, and its spread as a standard deviation of the logarithm.

    The median of the same weekday of the last four weeks, each carried forward by the median growth of a week. The
    spread is that of the growth from week to week, and that of counting.
    """
    values = np.asarray(counts, np.float64)
    whole = min(len(values), int(span_days))
    growth = np.log((values[1 : whole - 7] + 1) / (values[8:whole] + 1))
    weekly = float(np.clip(np.median(growth), -0.7, 0.7))
    spread = 1.4826 * float(np.median(np.abs(growth - np.median(growth))))
    weeks = np.arange(1, min(4, (whole - 1) // 7) + 1)
    expected = float(np.median(values[7 * weeks] * np.exp(weekly * weeks)))
    return expected, math.sqrt(spread**2 + 1 / (expected + 1))


def _days(tonight: Figures, before: Figures, settings: GuardSettings) -> list[Verdict]:
    """Whether a past day has another number of events than before, and whether the newest whole day is missing."""
    worst, text = 0.0, f"every past day has the events it had, but for {settings.max_day_change:.0%}"
    first = tonight.oldest // MICROSECONDS_PER_DAY + 1
    for kind, counts in before.days.items():
        mine = tonight.days.get(kind, [0] * DAYS)
        for back in range(1, DAYS):
            day, at = before.last_day - back, tonight.last_day - before.last_day + back
            if day < first or not 0 <= at < DAYS:
                continue
            was, now = counts[back], mine[at]
            change = abs(now - was) / max(was, 1)
            if abs(now - was) >= max(_FEW, 5 * math.sqrt(max(was, now))) and change > worst:
                worst, text = change, f"{_day(day)} has {now:,} events of {kind}, where it had {was:,}"
    found = [at_most("past days", worst, settings.max_day_change, text, _PAST)]
    totals = period_sums(tonight.days)[: max(2, min(DAYS, int(tonight.span_days)))]
    usual = float(np.median(totals))
    if tonight.span_days >= LEAST_DAYS and (totals[1:] > 0).all() and usual >= _FEW:
        text = f"{_day(tonight.last_day)} has {totals[0]:,} events; usual are {usual:,.0f}"
        found.append(at_least("newest day", totals[0] / usual, _MISSING, text, _FEED))
    return found


def _repeats(tonight: Figures, nights: Sequence[Figures], settings: GuardSettings) -> list[Verdict]:
    """Whether a new day came twice: with other times, or as equal rows that reading has left out."""
    found, before = [], nights[0]
    daily = float(np.median(period_sums(before.days))) if before.days else 0.0
    if daily >= _FEW:
        usual_rate = _duplicates_a_day(nights)
        awaited = before.duplicates + usual_rate * (tonight.at - before.at) / MICROSECONDS_PER_DAY
        more = max(0.0, (tonight.duplicates - awaited) / daily)
        text = f"{tonight.duplicates:,} equal rows were left out, where {awaited:,.0f} were expected"
        remedy = "a load may have run twice; remove the second copy"
        found.append(at_most("duplicates", more, settings.max_repeated, text, remedy))
    totals = period_sums(tonight.periods)
    new = math.ceil((tonight.anchor - before.past_until) / MICROSECONDS_PER_DAY)  # what `past days` does not compare
    new = max(1, min(len(tonight.repeats) - 4, new))
    usual = float(np.median(tonight.repeats[new:]))
    shares = [tonight.repeats[back] for back in range(new) if totals[back] >= _FEW_REPEATS]
    if shares:
        share = max(shares)
        beyond = max(0.0, (share - usual) / max(0.01, 1 - usual))
        text = f"{share:.0%} of the events of a new day come again in it; usual are {usual:.0%}"
        remedy = "a load may have run twice with other times, perhaps in another time zone"
        found.append(at_most("repeated events", beyond, settings.max_repeated, text, remedy))
    return found


def _duplicates_a_day(nights: Sequence[Figures]) -> float:
    """How many more equal rows a day brings: the median of the last good nights; 0 for one night."""
    pairs = [(new, old) for new, old in pairwise(nights) if new.at > old.at]
    rates = [(new.duplicates - old.duplicates) * MICROSECONDS_PER_DAY / (new.at - old.at) for new, old in pairs]
    return max(0.0, float(np.median(rates))) if rates else 0.0


def _past(comparison: Comparison, usual: Sequence[Mapping[str, float]], settings: GuardSettings) -> list[Verdict]:
    """Which share of the past events of each kind is not what it was."""
    found = []
    for kind, (changed, count) in comparison.changed.items():
        guard = f"past {kind}"
        bound = max(settings.max_past_change, _usual(guard, usual))
        share = changed / count if changed >= _LEAST_CHANGED else 0.0
        lost = comparison.lost[kind]
        text = (
            f"about {share:.1%} of {count:,} past events changed, and they are {abs(lost):.1%} "
            f"{'fewer' if lost >= 0 else 'more'}; allowed are {bound:.1%}"
        )
        found.append(at_most(guard, share, bound, text, _PAST))
    return found


def _usual(guard: str, nights: Sequence[Mapping[str, float]]) -> float:
    """A bound by what earlier nights found: a few times their median."""
    figures = [night[guard] for night in nights if guard in night]
    return _FACTOR * float(np.median(figures)) if figures else 0.0


def _events(tonight: Figures, before: Figures, limit: float) -> Verdict:
    drop = max(0.0, 1 - tonight.events / max(1, before.events))
    text = (
        f"{tonight.events:,} events are {drop:.0%} fewer than the {before.events:,} of the last good night; allowed "
        f"are {limit:.0%} ([gate] max_data_drop)"
    )
    return at_most("events", drop, limit, text, "run the query of interactions by hand: a limit may cut it off")


def _catalog(tonight: Figures, before: Figures, settings: GuardSettings) -> list[Verdict]:
    """How many items the catalog lists, and how many of them are available, titled and priced."""
    now, was = tonight.catalog["listed"], before.catalog["listed"]
    if not was:
        return []
    change = now / was - 1
    text = f"{now:,.0f} items, where the last good night had {was:,.0f}"
    found = [
        at_most("catalog size", max(0.0, -change), settings.max_catalog_drop, text, _CATALOG),
        at_most("catalog growth", max(0.0, change), settings.max_catalog_growth, text, "a join may multiply rows"),
    ]
    if before.catalog.get("available") and "available" in tonight.catalog:
        before_available, available = before.catalog["available"] * was, tonight.catalog["available"] * now
        text = f"{available:,.0f} items are available, where there were {before_available:,.0f}"
        remedy = "look whether the column that says what is in stock still means the same"
        drop = max(0.0, 1 - available / before_available)
        found.append(at_most("available items", drop, settings.max_available_drop, text, remedy))
    for name in ("titled", "priced"):
        if name in before.catalog:
            share, earlier = tonight.catalog.get(name, 0.0), before.catalog[name]
            text = f"{share:.0%} of the items are {name}, where there were {earlier:.0%}"
            found.append(at_most(f"{name} items", max(0.0, earlier - share), settings.max_text_drop, text, _CATALOG))
    return found


def _drift(tonight: Figures, before: Figures, settings: GuardSettings) -> list[Verdict]:
    """How far the distributions of prices and of categories have moved (total variation, 0 to 1)."""
    pairs = [
        ("prices", tonight.prices, before.prices, settings.max_price_drift, "are prices in another currency or unit?"),
        ("categories", tonight.categories, before.categories, settings.max_category_drift, _CATALOG),
    ]
    found = []
    for name, now, was, bound, remedy in pairs:
        if min(sum(now), sum(was)) >= _FEW:
            moved = float(np.abs(np.asarray(now) / sum(now) - np.asarray(was) / sum(was)).sum() / 2)
            text = f"{moved:.0%} of the items are elsewhere in the distribution of {name}; allowed are {bound:.0%}"
            found.append(at_most(name, moved, bound, text, remedy))
    return found


def _heaviest(tonight: Figures, nights: Sequence[Figures], settings: GuardSettings) -> list[Verdict]:
    """The shares of the heaviest user and of the heaviest item."""
    found = []
    limits = (("user", settings.max_user_share), ("item", settings.max_item_share))
    for what, limit in limits:
        share = getattr(tonight, f"top_{what}")
        bound = max(limit, min(0.99, _FACTOR * float(np.median([getattr(n, f"top_{what}") for n in nights]))))
        text = f"one {what} has {share:.1%} of the events, of all or of the last week; allowed are {bound:.1%}"
        found.append(at_most(f"heaviest {what}", share, bound, text, "a robot or a test may write events"))
    return found


def _ids(tonight: Figures, before: Figures, comparison: Comparison, settings: GuardSettings) -> list[Verdict]:
    """Whether ids have another form, and how many users and items came and went."""
    found = []
    for what in ("user", "item"):
        now, was = tonight.forms[what], before.forms[what]
        moved = sum(abs(now.get(form, 0.0) - was.get(form, 0.0)) for form in {*now, *was}) / 2
        text = f"{moved:.0%} of the ids have another form; allowed are {settings.max_form_change:.0%}"
        remedy = "ids that become text, numbers or decimals are other ids; CAST them in the query"
        found.append(at_most(f"{what} ids", moved, settings.max_form_change, text, remedy))
    remedy = "were ids renumbered, or rows lost? If it is meant, `recsys train --force REASON` publishes once"
    for name, shares, bound in (
        ("vanished", comparison.vanished, settings.max_vanished),
        ("new", comparison.new, settings.max_new),
    ):
        for what, share in shares.items():
            text = f"{share:.1%} are {'gone' if name == 'vanished' else 'new'}; allowed are {bound:.1%}"
            found.append(at_most(f"{name} {what}", share, bound, text, remedy))
    return found


def _day(day: int) -> str:
    return readable(day * MICROSECONDS_PER_DAY)[:10]
