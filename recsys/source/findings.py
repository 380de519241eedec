"""The findings of the source check: by reason, each with its number of rows and three examples."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from recsys.data.times import rfc3339

Severity = Literal["error", "warning", "note"]

EXAMPLES = 3
OFFSET = "+00:00"  # how `recsys source check` writes UTC

# Rows that are left out. Each is a warning, and an error when more than `max_bad_share` of the rows have it.
UNREADABLE_ROW = "row cannot be parsed"  # of a file
NO_USER = "no user"
NO_ITEM = "no item"
NO_KIND = "no kind"
NO_TIME = "no time"
GUEST = "event of a guest"
GUESTS = "[source] guest_ids"
SHARED_VISITOR = "visitor id of all guests"
SHARED = "such as null, 0 or anonymous, or one of [source] guest_ids: the event is the user's, and merges no visitor"
BYTES_ID = "id is bytes"
BAD_ID = "id too long or with NUL"
FLOAT_ID = "id is a large floating point number"
UNKNOWN_KIND = "unknown kind"
UNREADABLE_TIME = "unreadable time"
FUTURE_TIME = "time in the future"
EARLY_TIME = "time before 1970"
NO_TIMES = "times that can hardly be times"
TIMES = "return a timestamp, a date, ISO 8601 text, or seconds, milli-, micro- or nanoseconds since 1970"
LEFT_OUT = (
    UNREADABLE_ROW,
    NO_USER,
    NO_ITEM,
    BYTES_ID,
    FLOAT_ID,
    BAD_ID,
    NO_KIND,
    UNKNOWN_KIND,
    NO_TIME,
    UNREADABLE_TIME,
    EARLY_TIME,
    FUTURE_TIME,
)

_ADVICE: Mapping[str, str] = {
    UNREADABLE_ROW: "the file has a fault there; mend the line, or write the file again",
    NO_USER: "return a user_id, or a visitor_id of guests; leave others out with WHERE or [source] guest_ids",
    NO_ITEM: "the query of interactions must return an item_id",
    BYTES_ID: "ids are text or whole numbers; HEX(), in PostgreSQL encode(), makes text of them in the query",
    FLOAT_ID: "above 9,007,199,254,740,992 different ids become the same number; store whole numbers or text",
    BAD_ID: "ids have 1 to 255 characters other than NUL",
    NO_KIND: "the query of interactions must return an event; write a constant, as 'purchase' AS event",
    UNKNOWN_KIND: "map it in [events.aliases], or leave it out with WHERE",
    NO_TIME: "the query of interactions must return a timestamp",
    UNREADABLE_TIME: "times are timestamps, numbers of one unit since 1970, ISO 8601 text, or [source] time_format",
    EARLY_TIME: "an event before 1970 is a mistake of the clock or of the unit",
    FUTURE_TIME: "an event later than tomorrow is a mistake of the clock or of the unit",
}


@dataclass(frozen=True)
class Finding:
    """One thing that the check says about the data."""

    severity: Severity
    reason: str
    rows: int
    of: int  # rows examined
    examples: tuple[str, ...] = ()
    advice: str = ""
    left_out: bool = False  # the rows are not used
    is_of_evaluation: bool = False  # says how well the last days can evaluate a model

    def __str__(self) -> str:
        text = f"{self.reason}: {self.rows:,} of {self.of:,} rows"
        if self.examples:
            text += f", as {' | '.join(self.examples)}"
        return f"{text} ({self.advice})" if self.advice else text


@dataclass(frozen=True)
class SourceReport:
    """The result of a source check."""

    mapping: dict[str, Any]  # what each query's columns became
    kinds: dict[str, dict[str, Any]]  # the shop's word -> {"kind": configured kind or None, "rows": n}
    counts: dict[str, int]  # rows read, events kept, users, items, …
    first: int | None  # time of the first event, microseconds UTC
    last: int | None
    findings: tuple[Finding, ...] = field(default=())

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make a run be refused."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def doubts(self) -> list[str]:
        """What keeps the last days from evaluating a model well: without examples, which are personal."""
        return [str(replace(finding, examples=())) for finding in self.findings if finding.is_of_evaluation]

    @property
    def warnings(self) -> list[str]:
        """The warnings, without examples."""
        return [str(replace(finding, examples=())) for finding in self.findings if finding.severity == "warning"]

    def counted(self) -> list[dict[str, Any]]:
        """The findings for the ledger and for alerts: counts and reasons, without examples and advice."""
        return [
            {"severity": finding.severity, "reason": finding.reason, "rows": finding.rows, "of": finding.of}
            for finding in self.findings
        ]

    def rows_by_kind(self) -> dict[str, int]:
        """The rows of each configured kind; words that mean none are left out."""
        found: dict[str, int] = {}
        for values in self.kinds.values():
            if values["kind"] is not None:
                found[values["kind"]] = found.get(values["kind"], 0) + values["rows"]
        return found

    def refusal(self) -> str:
        """The message of a refused run: without examples, which are personal, since it goes into ledger and alerts."""
        lines = [f"  {replace(finding, examples=())}" for finding in self.errors]
        return "\n".join(["the check of the source refuses the run (`recsys source check` shows rows):", *lines])

    def summary(self) -> dict[str, Any]:
        """Summarize for the manifest: counts, kinds, first and last time, findings.

        Examples and unmapped words of the event column are left out: they may be personal.
        """
        known = {word: values for word, values in self.kinds.items() if values["kind"] is not None}
        return {
            **self.counts,
            "kinds": known,
            "unknown_kinds": len(self.kinds) - len(known),
            "first": rfc3339(self.first),
            "last": rfc3339(self.last),
            "findings": {finding.reason: finding.rows for finding in self.findings},
        }

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values, with times as ISO 8601 in UTC."""
        return {
            "mapping": self.mapping,
            "kinds": self.kinds,
            "counts": self.counts,
            "first": rfc3339(self.first, utc=OFFSET),
            "last": rfc3339(self.last, utc=OFFSET),
            "findings": [
                {
                    "severity": finding.severity,
                    "reason": finding.reason,
                    "rows": finding.rows,
                    "of": finding.of,
                    "examples": list(finding.examples),
                    "advice": finding.advice,
                    "left_out": finding.left_out,
                }
                for finding in self.findings
            ],
        }


def left_out(counts: Mapping[str, int], examples: Mapping[str, list[str]], rows: int, limit: float) -> list[Finding]:
    """List a finding for each reason why rows are left out: an error above the share `limit` of the rows."""
    return [
        Finding(
            "error" if counts[reason] > limit * rows else "warning",
            reason,
            counts[reason],
            rows,
            tuple(examples.get(reason, ())),
            _ADVICE[reason],
            left_out=True,
        )
        for reason in LEFT_OUT
        if counts.get(reason)
    ]
