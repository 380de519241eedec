"""Why a database could not be read, in words that hold no value: authentication, network, a missing table, by name.

A name is told only where the query of the configuration has it, so that a message never repeats the contents of a row.
"""

import re

_BY_CODE: dict[str | int, str] = {
    **dict.fromkeys(("28000", "28P01", 1045, 1698), "authentication"),
    **dict.fromkeys(("42501", 1044, 1142, 1143, 1227), "permission"),
    **dict.fromkeys(("3D000", 1049), "missing database"),
    **dict.fromkeys(("42P01", 1146), "missing table"),
    **dict.fromkeys(("42703", 1054), "missing column"),
    **dict.fromkeys(("57014", "55P03", 1205, 1969, 3024), "time limit"),
    **dict.fromkeys(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT"), "time limit"),
    **dict.fromkeys(("57P01", "57P03", 2002, 2003, 2005, 2006, 2013), "network"),
}
# What drivers say while they connect, before the server gives a code.
_BY_WORDS = (
    (re.compile(r"authentication failed|no password supplied|role \"[^\"]*\" does not exist"), "authentication"),
    (re.compile(r"database \"[^\"]*\" does not exist|unable to open database file"), "missing database"),
    (re.compile(r"no such table"), "missing table"),
    (re.compile(r"no such column"), "missing column"),
    (re.compile(r"connection refused|timeout expired|resolve host|server closed|could not connect"), "network"),
)
_NAME = re.compile(
    r"relation \"([^\"]+)\" does not exist|column \"?([\w.]+)\"? does not exist|Table '([^']+)' doesn't exist|"
    r"Unknown column '([^']+)'|no such (?:table|column): ([^\s]+)"
)


def cause_of(error: BaseException, code: str | int | None, sql: str) -> str | None:
    """Name the cause of a driver's error for people; None when it is none of the known ones.

    code: SQLSTATE or the number of the database. sql: what was sent, or nothing.
    """
    text = str(error)
    cause = _BY_CODE.get(code) if code is not None else None
    if cause is None and isinstance(code, str) and code.startswith("08"):
        cause = "network"
    cause = cause or next((cause for words, cause in _BY_WORDS if words.search(text.lower())), None)
    if cause in ("missing table", "missing column") and (named := _NAME.search(text)):
        name = next(part for part in named.groups() if part).rpartition(".")[2]
        if re.search(rf"\b{re.escape(name)}\b", sql, re.IGNORECASE):
            return f"{cause} {name}"
    return cause
