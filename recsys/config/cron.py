"""Cron entries: five fields, parsed to sets of numbers."""

import re
from dataclasses import dataclass
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from recsys.errors import ConfigError

ALLOWED = (
    'a cron entry is five fields, minute hour day month weekday, as "0 2 * * *" (every night at 2) or '
    '"30 3 * * mon-fri"; each field is *, numbers, names of months or weekdays, ranges a-b, steps */n or a-b/n, '
    "and lists of these with commas. @hourly, @daily, @weekly, @monthly and @yearly are allowed, too"
)
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_STEP = re.compile(r"(\*|\w+(?:-\w+)?)(?:/(\d{1,2}))?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIELDS = {
    "minute": (0, 59, {}),
    "hour": (0, 23, {}),
    "day": (1, 31, {}),
    "month": (1, 12, {name: at for at, name in enumerate(_MONTHS, 1)}),
    "weekday": (0, 7, {name: at for at, name in enumerate(_WEEKDAYS)}),
}


@dataclass(frozen=True)
class Cron:
    """A parsed entry. Every set is sorted; `weekdays` counts from Sunday, 0, as crontab does."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @property
    def every_hour(self) -> bool:
        """Whether the entry holds for every hour."""
        return len(self.hours) == 24


def parse_cron(text: str) -> Cron:
    """Parse an entry. Raises ConfigError with what was found and what is allowed.

    A day of the month together with a weekday is refused: crontab runs on either, other schedulers on both.
    """
    words = NICKNAMES.get(text.strip().lower(), text).lower().split()
    if len(words) != len(_FIELDS):
        raise ConfigError(f"{text!r} has {len(words)} fields; {ALLOWED}")
    minutes, hours, days, months, weekdays = (
        _numbers(word, name, text) for word, name in zip(words, _FIELDS, strict=True)
    )
    weekdays = {day % 7 for day in weekdays}
    if len(days) < 31 and len(weekdays) < 7:
        raise ConfigError(f"{text!r} names days of the month and weekdays; allowed is one of them, the other *")
    if all(min(days) > _DAYS_OF_MONTH[month - 1] for month in months):
        raise ConfigError(f"{text!r} names a day that its months do not have, so it would never be due")
    return Cron(*(tuple(sorted(numbers)) for numbers in (minutes, hours, days, months, weekdays)))


def time_zone(name: str) -> tzinfo:
    """Look up a time zone. Raises ConfigError when it is unknown."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f'the zone {name!r} is unknown; allowed are UTC and names as "Europe/Berlin"') from None


def _numbers(word: str, name: str, text: str) -> set[int]:
    low, high, _ = _FIELDS[name]
    numbers: set[int] = set()
    for part in word.split(","):
        found = _STEP.fullmatch(part)
        if found is None:
            raise ConfigError(f"{text!r}: the {name} {part!r} cannot be read; {ALLOWED}")
        span, step = found[1], int(found[2] or 1)
        first, last = (low, high) if span == "*" else _span(span, name, text, open_ended=found[2] is not None)
        if step < 1 or first > last:
            raise ConfigError(f"{text!r}: the {name} {part!r} is empty or runs backwards; {ALLOWED}")
        numbers |= set(range(first, last + 1, step))
    return numbers


def _span(span: str, name: str, text: str, *, open_ended: bool) -> tuple[int, int]:
    low, high, names = _FIELDS[name]
    ends = []
    for end in span.split("-"):
        value = names.get(end, int(end) if end.isascii() and end.isdigit() else -1)
        if not low <= value <= high:
            known = f" or {', '.join(names)}" if names else ""
            raise ConfigError(f"{text!r}: the {name} {end!r} is unknown; allowed are {low} to {high}{known}; {ALLOWED}")
        ends.append(value)
    last = high if open_ended and len(ends) == 1 else ends[-1]
    return ends[0], last
