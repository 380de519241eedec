"""Findings about the events as a whole: whether training can evaluate models, and what stands out among them.

A night learns from the days before the holdout and is evaluated on the holdout. Without a user to evaluate by, hours of
training end in a refusal; so the check counts them first, as the evaluation does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from recsys.config.settings import Config
from recsys.data.arrays import Bool, Int64
from recsys.data.interactions import Interactions
from recsys.data.splits import split_starts
from recsys.data.targets import Targets, distinct_targets
from recsys.data.times import MICROSECONDS_PER_DAY, readable
from recsys.source.findings import EXAMPLES, Finding

FEW_USERS = 20  # on fewer users the gate decides by chance
_GAP_DAYS = 14  # a shorter silence is nothing to speak of
_GAP_FACTOR = 3  # nor is one of less than so many times the longest that chance would leave
_FEW_EVENTS = 20  # of a kind: too few to say when it should have come again
_ONE_VISIT_SHARE = 0.95  # of the users
_HEAVY_FACTOR = 20  # times the mean of the others
_BOT_FACTOR = 1000  # as above, whatever the share of all events
_USER_SHARE, _ITEM_SHARE = 0.01, 0.05  # of all events


@dataclass(frozen=True)
class Gap:
    """A silence between two days: no event in between."""

    before: int  # the last day with events, counted from 1970
    after: int  # the next one

    @property
    def days(self) -> int:
        """Its length."""
        return self.after - self.before

    def __str__(self) -> str:
        return f"{self.days} days from {_day(self.before)} to {_day(self.after)}"


@dataclass(frozen=True)
class EvaluationData:
    """E events, and how the configuration splits them by time."""

    events: Interactions
    config: Config

    @cached_property
    def starts(self) -> tuple[int, int]:
        """When validation and holdout begin (microseconds)."""
        settings = self.config.evaluation
        return split_starts(
            self.events.times, validation_days=settings.validation_days, holdout_days=settings.holdout_days
        )

    @cached_property
    def last(self) -> int:
        """The time of the newest event (microseconds)."""
        return int(self.events.times.max())

    @cached_property
    def wanted(self) -> Interactions:
        """The events of the kinds that models predict."""
        return self.events.of_kinds(self.config.target_codes)

    @cached_property
    def gap(self) -> Gap | None:
        """The longest silence of all, if it is unusual."""
        return longest_gap(self.events.times)

    def known_users(self, start: int) -> Bool:
        """Which users have an event before `start`: [U]."""
        has = np.diff(self.events.offsets) > 0
        has[has] = self.events.times[self.events.offsets[:-1][has]] < start
        return np.asarray(has, np.bool_)

    def targets(self, start: int, end: int) -> Targets:
        """The targets of the events from `start` to `end` for what is learned before, as the evaluation counts them."""
        known_items = np.bincount(self.events.items[self.events.times < start], minlength=self.events.item_count) > 0
        bought = None
        if not self.config.recommendations.allow_repurchase:
            bought = self.events.of_kinds(self.config.bought_codes).before(start)
        return distinct_targets(
            self.wanted.between(start, end), users=self.known_users(start), items=known_items, before=bought
        )

    @property
    def names(self) -> str:
        """The kinds that models predict, as a sentence names them."""
        return f"[evaluation] targets ({', '.join(self.config.evaluation.targets)})"


def evaluation_findings(
    events: Interactions, config: Config, *, user_id: Callable[[int], str], item_id: Callable[[int], str]
) -> list[Finding]:
    """What the check says of the events as a whole. user_id, item_id: row -> id, for the examples."""
    if len(events) == 0:
        return []
    data = EvaluationData(events, config)
    of_evaluation = [*_evaluable_users(data), *_gaps(data), *_stopped_kinds(data), *_single_visits(data)]
    return [
        *(replace(finding, is_of_evaluation=True) for finding in of_evaluation),
        *_heavy(data, "user", user_id),
        *_heavy(data, "item", item_id),
        *_negative_values(events),
    ]


def longest_gap(times: Int64) -> Gap | None:
    """The longest silence among events at these times [E], if it is longer than chance would explain."""
    days = _days_of(times)
    if len(days) < 2:
        return None
    lengths = np.diff(days)
    at = int(lengths.argmax())
    return Gap(int(days[at]), int(days[at + 1])) if lengths[at] > _usual_silence(days) else None


def _days_of(times: Int64) -> Int64:
    """The days on which there are events, ascending, counted from 1970. Counting is faster than sorting."""
    days = times // MICROSECONDS_PER_DAY
    first = days.min()
    return np.asarray(np.flatnonzero(np.bincount(days - first)) + first, np.int64)


def _usual_silence(days: Int64) -> float:
    """The longest silence, in days, that is nothing to speak of where events come on these days."""
    # Without the longest one, which would otherwise make itself usual.
    span = int(days[-1] - days[0] - np.diff(days).max()) if len(days) > 2 else 0
    return max(float(_GAP_DAYS), _GAP_FACTOR * span / len(days) * math.log(len(days)))


def _evaluable_users(data: EvaluationData) -> list[Finding]:
    """Whether validation and holdout have users to evaluate by."""
    validation, holdout = data.starts
    found_users = len(data.targets(holdout, data.last + 1))
    if found_users == 0:
        return [_nobody_to_evaluate_by(data)]
    found = []
    if found_users < FEW_USERS:
        advice = (
            f"users with both an event before {_date(holdout)} and a new item of {data.names} since then; on so few "
            f"the gate decides by chance; a longer [evaluation] holdout_days may find more{_after_gap(data)}"
        )
        users = int(np.count_nonzero(np.diff(data.events.offsets)))
        found.append(Finding("warning", "few users to judge by", found_users, users, (), advice))
    if len(data.targets(validation, holdout)) == 0:
        inside = int(np.count_nonzero((data.events.times >= validation) & (data.events.times < holdout)))
        advice = (
            f"no user has both an event before {_date(validation)} and a new item of {data.names} from then to "
            f"{_date(holdout)}, so settings cannot be chosen; a longer [evaluation] validation_days may help"
        )
        found.append(Finding("warning", "nobody to choose settings by", inside, len(data.events), (), advice))
    return found


def _nobody_to_evaluate_by(data: EvaluationData) -> Finding:
    """Why nobody in the holdout can be evaluated by, with the date and what to do."""
    events, wanted, start = data.events, data.wanted, data.starts[1]
    inside = int(np.count_nonzero(events.times >= start))
    if len(wanted) == 0:
        reason, advice = "no event to judge by", _no_target(data)
    elif int(events.times.min()) == data.last:
        reason = "one time for all events"
        advice = f"every event is of {readable(data.last)}; is timestamp the time of the event, or of an export?"
    elif len(held := wanted.select(wanted.times >= start)) == 0:
        reason = "no event to judge by in the holdout"
        advice = (
            f"the last event of {data.names} is of {_date(int(wanted.times.max()))}; the holdout begins on "
            f"{_date(start)} ([evaluation] holdout_days); does the query of interactions still return new ones?"
        )
    else:
        reason, advice = "nobody to judge by", _no_history(data, held)
    return Finding("error", reason, inside, len(events), (), advice + _after_gap(data))


def _no_target(data: EvaluationData) -> str:
    events, names = data.events, list(data.config.events.weights)
    counts = np.bincount(events.kinds, minlength=len(names))
    read = ", ".join(f"{name} ({count:,})" for name, count in zip(names, counts.tolist(), strict=True) if count)
    return (
        f"no event is of {data.names}; the events read are {read}; return such events in the query of interactions, "
        "map the shop's word in [events.aliases], or name another kind in targets"
    )


def _no_history(data: EvaluationData, held: Interactions) -> str:
    """Why none of the users with a target in the holdout counts. held: the events of the target kinds in it."""
    start = data.starts[1]
    users = np.diff(held.offsets) > 0
    count, new = int(np.count_nonzero(users)), int(np.count_nonzero(users & ~data.known_users(start)))
    said = (
        f"users with an event of {data.names} since {_date(start)}: {count:,}; of these without any event before "
        f"that day: {new:,}; the others have only items that are new or that they bought before"
    )
    if _after_gap(data):
        return said
    if 2 * new >= count:
        return f"{said}; is user_id a person, not an order or a session?"
    return f"{said}; [recommendations] allow_repurchase counts items bought before"


def _after_gap(data: EvaluationData) -> str:
    """What to say of a silence right before the holdout or within it."""
    gap, start = data.gap, data.starts[1]
    if gap is None or (gap.after + 1) * MICROSECONDS_PER_DAY <= start:
        return ""
    newer = int(np.count_nonzero(data.events.times >= gap.after * MICROSECONDS_PER_DAY))
    return (
        f"; before the {'last event' if newer == 1 else f'newest {newer:,} events'} there is a gap of {gap}: leave out "
        "with WHERE what was entered later, such as a test order, or wait until there are events of more days"
    )


def _gaps(data: EvaluationData) -> list[Finding]:
    found = []
    if data.gap:
        found.append(_gap_finding(data.events.times, "all kinds", data.gap))
    for name, times in _times_by_kind(data):
        gap = longest_gap(times) if len(times) >= _FEW_EVENTS else None
        # The silence of all is told once.
        if gap and not (data.gap and gap.before <= data.gap.before and data.gap.after <= gap.after):
            found.append(_gap_finding(times, name, gap))
    return found


def _gap_finding(times: Int64, what: str, gap: Gap) -> Finding:
    newer = int(np.count_nonzero(times >= gap.after * MICROSECONDS_PER_DAY))
    advice = (
        f"no event of {what} for {gap}; were some lost, is the shop closed at times, or are the later ones tests? "
        "[evaluation] holdout_days and validation_days count from the newest event"
    )
    return Finding("warning", f"gap in time: {what}", newer, len(times), (), advice)


def _stopped_kinds(data: EvaluationData) -> list[Finding]:
    """Kinds that came regularly and come no more."""
    if len(data.config.events.weights) < 2:
        return []
    end = data.last // MICROSECONDS_PER_DAY
    if data.gap and data.gap.after * MICROSECONDS_PER_DAY > data.starts[1]:
        end = data.gap.before  # what few events came after the gap says nothing of the kinds
    found = []
    for name, times in _times_by_kind(data):
        days = _days_of(times)
        if len(times) < _FEW_EVENTS or end - days[-1] <= _usual_silence(days):
            continue
        advice = (
            f"the last {name} is of {_day(int(days[-1]))}, {end - int(days[-1])} days before the newest events; does "
            "the query of interactions still return them, under a word that [events.aliases] knows?"
        )
        found.append(Finding("warning", f"kind that stops: {name}", len(times), len(data.events), (), advice))
    return found


def _times_by_kind(data: EvaluationData) -> list[tuple[str, Int64]]:
    events = data.events
    kinds = [(name, events.times[events.kinds == code]) for name, code in data.config.events.codes.items()]
    return [(name, times) for name, times in kinds if len(times)]


def _single_visits(data: EvaluationData) -> list[Finding]:
    """Whether nearly every user was there on one day only."""
    offsets = data.events.offsets
    has = np.diff(offsets) > 0
    first, last = data.events.times[offsets[:-1][has]], data.events.times[offsets[1:][has] - 1]
    once = int(np.count_nonzero(last - first < MICROSECONDS_PER_DAY))
    if once < _ONE_VISIT_SHARE * len(first) or len(first) < FEW_USERS:
        return []
    advice = (
        "users whose events all lie within one day; nothing can be learned from one visit to the next; is user_id the "
        "number of a person, not of an order or a session?"
    )
    return [Finding("warning", "users of one visit", once, len(first), (), advice)]


def _heavy(data: EvaluationData, what: str, id_of: Callable[[int], str]) -> list[Finding]:
    """Users or items with an unusual share of all events, or of those that models predict."""
    found = []
    for events, of in ((data.events, "all events"), (data.wanted, f"the events of {data.names}")):
        if what == "user":
            counts = np.diff(events.offsets)
            heavy = _unusual(counts, _USER_SHARE, any_share=True)
            remedy = "guests under one id, or a bot? leave them out with WHERE or [source] guest_ids"
        else:
            counts = np.bincount(events.items, minlength=events.item_count)
            heavy = _unusual(counts, _ITEM_SHARE)
            remedy = "shipping, a bag or a fee? leave it out with WHERE"
        if not len(heavy):
            continue
        rows = int(counts[heavy].sum())
        advice = (
            f"{len(heavy)} {what}{'s have' if len(heavy) > 1 else ' has'} {rows / len(events):.1%} of {of}: {remedy}"
        )
        shown = tuple(f"{what}_id={id_of(int(row))!r}: {int(counts[row]):,}" for row in heavy[:EXAMPLES])
        found.append(Finding("warning", f"{what} with an unusual share", rows, len(events), shown, advice))
        break
    return found


def _unusual(counts: Int64, share: float, *, any_share: bool = False) -> Int64:
    """The rows whose counts are far above those of the others, highest first.

    any_share: a count beyond all measure is unusual even when it is a small share of all.
    """
    ordered = np.sort(counts[counts > 0])
    others = ordered[: len(ordered) - max(5, len(ordered) // 100)]
    if not len(others):
        return np.zeros(0, np.int64)
    usual, total = others.mean(), counts.sum()
    is_heavy = (counts > _HEAVY_FACTOR * usual) & (counts > share * total)
    if any_share:
        is_heavy |= counts > _BOT_FACTOR * usual
    rows = np.flatnonzero(is_heavy)
    return rows[np.argsort(-counts[rows], kind="stable")]


def _negative_values(events: Interactions) -> list[Finding]:
    negative = int(np.count_nonzero(events.values < 0))
    if not negative:
        return []
    advice = "a return or a refund? deliver it as an event of [events] returns, or leave it out with WHERE"
    return [Finding("warning", "negative value", negative, len(events), (), advice)]


def _date(time: int) -> str:
    return (readable(time) or "")[:10]


def _day(day: int) -> str:
    return _date(day * MICROSECONDS_PER_DAY)
