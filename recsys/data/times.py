"""Times: microseconds since 1970 in UTC inside, RFC 3339 text outside."""

from datetime import UTC, datetime, timedelta

MICROSECONDS_PER_DAY = 86_400_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str, *, default_utc: bool = False) -> int:
    """Read an RFC 3339 time -> microseconds since 1970 UTC.

    default_utc: a time without a zone is UTC. Raises ValueError for any other text, OverflowError near the year 1.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        if not default_utc:
            raise ValueError("a time without a zone")
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)


def rfc3339(time: int) -> str:
    """Write microseconds since 1970 UTC as RFC 3339: 2026-11-23T08:00:00Z."""
    return (_EPOCH + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")
