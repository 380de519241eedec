"""Texts that a shop keeps as JSON: one for each language, or a list."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Texts:
    """A column of n texts."""

    texts: pl.Series  # String [n]; null where missing, or where no text of the language is
    languages: tuple[str, ...]  # found beside texts that are missing, the most frequent first


def choose_language(values: pl.Series, language: str | None, separator: str) -> Texts:
    """Replace JSON objects by their text in a language, and JSON lists by their texts with a separator between.

    language: `de` also means `de_DE` and the other way round. None: objects of one language alone are read.
    """
    is_json = values.str.contains(r'^\s*(\{\s*"|\[\s*["\]])').fill_null(False)
    if not is_json.any():
        return Texts(values, ())
    found = Counter[str]()
    at = is_json.arg_true()
    texts = [_choose(text, language, separator, found) for text in values.gather(at).to_list()]
    return Texts(values.scatter(at, pl.Series(texts, dtype=pl.String)), tuple(name for name, _ in found.most_common()))


def _choose(text: str, language: str | None, separator: str, found: Counter[str]) -> str | None:
    try:
        value = json.loads(text)
    except ValueError:
        return text  # which only looks like JSON
    if isinstance(value, list):
        words = [word for word in value if isinstance(word, str | int | float)]
        return separator.join(map(str, words)) if len(words) == len(value) and words else None
    texts = {name: word for name, word in value.items() if isinstance(word, str) and word}
    chosen = _in_language(texts, language)
    if chosen is None:
        found.update(texts.keys())
    return chosen


def _in_language(texts: dict[str, Any], language: str | None) -> str | None:
    if language is None:
        return next(iter(texts.values())) if len(texts) == 1 else None
    wanted = _plain(language)
    same = {_plain(name): text for name, text in reversed(texts.items())}
    short = {name.partition("-")[0]: text for name, text in same.items()}
    chosen = same.get(wanted) or short.get(wanted) or same.get(wanted.partition("-")[0])
    return None if chosen is None else str(chosen)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
