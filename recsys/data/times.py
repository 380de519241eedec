"""Times: microseconds since 1970 in UTC everywhere inside."""

MICROSECONDS_PER_DAY = 86_400_000_000
