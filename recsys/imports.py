"""Resolve dotted names when they are used, so that a table of names loads none of the modules it names."""

import importlib
from typing import Any

from recsys.errors import ConfigError


def resolve(name: str, table: dict[str, str] | None = None) -> Any:
    """Import and return the object that `module:attribute`, or a key of `table`, names.

    table: key -> `module:attribute`. Raises ConfigError, which lists the keys, when the name is neither.
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
