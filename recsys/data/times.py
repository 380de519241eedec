"""Times: microseconds since 1970 in UTC inside, text outside. The only place that parses and prints them."""

from datetime import UTC, datetime, timedelta
from typing import overload

MICROSECONDS_PER_DAY = 86_400_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000


def to_datetime(time: int) -> datetime:
    """Microseconds since 1970 UTC -> datetime in UTC. Raises OverflowError beyond the year 9999."""
    return _EPOCH + timedelta(microseconds=time)


def from_datetime(moment: datetime) -> int:
    """A datetime with its zone -> microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_time(text: str, *, default_utc: bool = False) -> int:
    """Read an RFC 3339 time -> microseconds since 1970 UTC.

    default_utc: a time without a zone is UTC. Raises ValueError for any other text, OverflowError near the year 1.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        if not default_utc:
            raise ValueError("a time without a zone")
        moment = moment.replace(tzinfo=UTC)
    return from_datetime(moment)


@overload
def rfc3339(time: int, *, whole_seconds: bool = False, utc: str = "Z") -> str: ...
@overload
def rfc3339(time: None, *, whole_seconds: bool = False, utc: str = "Z") -> None: ...
@overload
def rfc3339(time: int | None, *, whole_seconds: bool = False, utc: str = "Z") -> str | None: ...
def rfc3339(time: int | None, *, whole_seconds: bool = False, utc: str = "Z") -> str | None:
    """Write microseconds since 1970 UTC as RFC 3339, for programs: 2026-11-23T08:00:00Z.

    whole_seconds: cut off fractions. utc: how the zone is written. A number beyond the calendar stays a number.
    """
    if time is None:
        return None
    try:
        moment = to_datetime(time - time % _SECOND if whole_seconds else time)
    except OverflowError:
        return str(time)
    return moment.isoformat().removesuffix("+00:00") + utc


@overload
def readable(time: int) -> str: ...
@overload
def readable(time: None) -> None: ...
@overload
def readable(time: int | None) -> str | None: ...
def readable(time: int | None) -> str | None:
    """Write microseconds since 1970 UTC for people, to the second: 2026-11-23 08:00:00."""
    text = rfc3339(time, whole_seconds=True, utc="")
    return None if text is None else text.replace("T", " ")
