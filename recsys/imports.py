"""Dotted names -> the things they name, so that a table of names can be read without loading what it names."""

import importlib
from typing import Any

from recsys.errors import ConfigError


def resolve(name: str, table: dict[str, str] | None = None) -> Any:
    """The object behind `module:attribute`, or behind a key of `table`, whose values are such names.

    Raises ConfigError that lists the table's keys when the name is neither.
    """
    dotted = (table or {}).get(name, name)
    module, _, attribute = dotted.partition(":")
    if not attribute:
        known = f"; known: {', '.join(table)}" if table else ""
        raise ConfigError(f"unknown name {name!r}{known}; or write a dotted name as package.module:function")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{dotted!r} cannot be loaded: {error}") from error
