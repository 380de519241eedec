"""What tables are made of, and what stands between them and the file: environment, relative places, readable faults."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ConfigError


class Section(BaseModel):
    """A table of the file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def apply_environment(values: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Put the RECSYS_<TABLE>__<KEY> variables over the values of the file; a value is TOML, or a bare string.

    Raises ConfigError when a variable names a key in what is no table.
    """
    for name, text in environment.items():
        if not name.startswith("RECSYS_") or "__" not in name:
            continue
        *tables, key = name.removeprefix("RECSYS_").lower().split("__")
        table = values
        for depth, part in enumerate(tables, 1):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                where = ".".join(tables[:depth])
                raise ConfigError(f"{name} names a key in {where}, which is no table; allowed is RECSYS_<TABLE>__<KEY>")
        try:
            table[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = text  # a bare word is a string


def explain(error: ValidationError, path: Path | None, tables: type[BaseModel]) -> str:
    """Each fault on a line: the key, what is wrong, what was found and what is allowed.

    An address is not repeated, as it may hold a password, nor is what stands in the place of a table.
    """
    lines = [f"{path or 'the configuration'} is wrong:"]
    faults = error.errors()
    within = {fault["loc"][:-1] for fault in faults}
    for fault in faults:
        if fault["type"] == "too_short" and fault["loc"] in within:  # what is wrong about its values is told
            continue
        where = ".".join(str(part) for part in fault["loc"])
        message = f"{fault['msg']}"
        if fault["type"] == "extra_forbidden":
            message = f"unknown key; allowed here: {', '.join(_keys_at(tables, fault['loc'][:-1]))}"
        elif fault["type"] == "tuple_type":
            message = f"should be a list in square brackets (found {_found(fault['loc'], fault['input'])})"
        elif fault["type"] == "value_error":  # ours, which names the table itself
            lines.append(f"  {message.removeprefix('Value error, ')}")
            continue
        else:
            message += f" (found {_found(fault['loc'], fault['input'])})"
        lines.append(f"  {where}: {message}")
    return "\n".join(lines)


def _found(location: tuple[int | str, ...], value: Any) -> str:
    is_secret = len(location) < 2 or any(str(part).endswith("url") for part in location)
    return f"a value of type {type(value).__name__}" if is_secret else repr(value)


def _keys_at(section: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        section = section.model_fields[str(part)].annotation  # type: ignore[assignment]
    return sorted(section.model_fields)


def place_url(url: str | None, folder: Path) -> str | None:
    """The URL with a relative SQLite file placed in `folder`; any other stays as it is."""
    if url is None or not url.startswith("sqlite:///") or url == "sqlite:///:memory:":
        return url
    return f"sqlite:///{folder / url.removeprefix('sqlite:///')}"
