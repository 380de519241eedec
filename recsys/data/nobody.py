"""Ids that name nobody: what programs write where there is no id, and what they call every guest alike."""

from collections.abc import Collection

# What exports write where there is no id. Case matters: `none` may be somebody's name.
NO_ID = (
    *("", "NULL", "null", "(null)", "\\N", "NaN", "nan", "<NA>", "None", "undefined"),
    *("NA", "N/A", "n/a", "(not set)"),  # R, spreadsheets, Google Analytics
    *("#N/A", "#NA", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#DIV/0!"),  # errors of spreadsheets' formulas
)

# One visitor id for everybody who has no cookie. Nobody chooses the id of a visitor, so the words are safe in any case.
_WORDS = ("anonymous", "anon", "guest", "visitor", "unknown", "none", "undefined", "false", "true")
_FORMS = tuple(form for word in _WORDS for form in (word, word.upper(), word.title()))
_NO_VISITOR = ("0", "-1", "-", "[object Object]", *_FORMS)


def no_users(guests: Collection[str]) -> frozenset[str]:
    """User ids that are no user's. guests: those that stand for guests in this shop."""
    return frozenset((*NO_ID, *guests))


def no_visitors(guests: Collection[str]) -> frozenset[str]:
    """Visitor ids that are no visitor's. guests: as for `no_users`."""
    return no_users(guests) | frozenset(_NO_VISITOR)
