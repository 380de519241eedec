"""Reading of the configuration: one TOML file, each key overridable by an environment variable.

`RECSYS_STORE__URL=postgresql://…` overrides `url` in `[store]`. A URL may lie in a file of its own, as secrets do.
Relative folders and SQLite files are relative to the folder of the file, so that a job finds the same data wherever it
is started.
"""

import difflib
import logging
import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from recsys.config.settings import Config, field_name
from recsys.errors import ConfigError

# Keys of version 0.1.0 -> their present names. A prefix may name a whole table.
RENAMED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("folder",): ("storage",),
    ("events", "kinds"): ("events", "aliases"),
    ("events", "same_event_minutes"): ("events", "dedup_window_minutes"),
    ("recommendations", "repeats"): ("recommendations", "allow_repurchase"),
    ("models", "mf", "ranks"): ("models", "mf", "n_factors"),
    ("models", "two_tower", "pass_events"): ("models", "two_tower", "max_events_per_epoch"),
    ("models", "two_tower", "demands"): ("models", "two_tower", "trend_weights"),
    ("models", "two_tower", "unit_items"): ("models", "two_tower", "normalize_items"),
    ("models", "sequence", "pass_events"): ("models", "sequence", "max_events_per_epoch"),
    ("models", "sequence", "demands"): ("models", "sequence", "trend_weights"),
    ("gate", "max_drop"): ("gate", "max_relative_drop"),
    ("schedule", "limit_minutes"): ("schedule", "timeout_minutes"),
    ("schedule", "attempts"): ("schedule", "max_attempts"),
    ("api", "max_new_items"): ("api", "max_fresh_items"),
}

# Keys whose value is a secret that may lie in a file: the same key with `_file` behind it names the file.
_IN_FILES = (("store", "url"), ("source", "url"), ("alerts", "webhook_url"), ("alerts", "smtp_password"))
# Variables that are no keys, by their names or the beginning of them.
_OTHER_VARIABLES = ("RECSYS_CONFIG", "RECSYS_DUE", "RECSYS_LAUNCHED", "RECSYS_CRASH_AT", "RECSYS_TEST_", "RECSYS_CI_")

_log = logging.getLogger(__name__)


def load_config(path: Path | None, environment: dict[str, str] | None = None) -> Config:
    """Read the file (None: defaults only), then override keys with RECSYS_<TABLE>__<KEY> variables.

    Warns of variables that begin with RECSYS_ and mean nothing.
    Raises ConfigError with the file, the key, what was found and what is allowed.
    """
    environment = dict(os.environ) if environment is None else environment
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"no configuration at {path}; `recsys init` writes one") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
    values = _rename_old_keys(values, str(path))
    apply_environment(values, environment)
    values = _rename_old_keys(values, "the environment")  # a variable may hold a whole table
    folder = (path.parent if path else Path()).resolve()
    _read_secrets(values, folder)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, path, Config, environment)) from None
    _warn_of_unknown(environment)
    return _resolve(config, folder)


def _read_secrets(values: dict[str, Any], folder: Path) -> None:
    """Put what the files of _IN_FILES hold in the place of their keys.

    Raises ConfigError for a file that cannot be read or is empty, and when there is a value beside it.
    """
    for table, key in _IN_FILES:
        section, name = values.get(table), f"{key}_file"
        if not isinstance(section, dict) or not isinstance(section.get(name), str):
            continue
        if key in section:
            raise ConfigError(f"[{table}] has both {key} and {name}; allowed is one of them")
        place = folder / section[name]
        try:
            text = place.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"[{table}] {name}: {place} cannot be read ({type(error).__name__})") from None
        if not text:
            raise ConfigError(f"[{table}] {name}: {place} is empty; it must hold the value of {key}")
        section[key] = text


def _warn_of_unknown(environment: Collection[str]) -> None:
    """Warn of each variable that looks like one of ours and is none, with the nearest that is."""
    for name in sorted(environment):
        if not name.startswith("RECSYS_") or "__" in name or name.startswith(_OTHER_VARIABLES):
            continue
        near = _nearest(name, [*_variables(Config), "RECSYS_CONFIG"])
        hint = f"; the nearest that is known is {near}" if near else ""
        _log.warning("the environment: %s is no known variable and counts for nothing%s", name, hint)


def _variables(section: type[BaseModel], prefix: str = "RECSYS_") -> Iterator[str]:
    """The environment variables of all keys."""
    for name, field in section.model_fields.items():
        variable = prefix + field_name(section, name).upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{variable}__")
        else:
            yield variable


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The name that somebody may have meant; None when none is near."""
    by_rest = {other.removeprefix("RECSYS_"): other for other in known}  # what all begin with says nothing
    found = difflib.get_close_matches(name.removeprefix("RECSYS_"), list(by_rest), 1)
    return by_rest[found[0]] if found else None


def _resolve(config: Config, folder: Path) -> Config:
    return config.model_copy(
        update={
            "store": config.store.model_copy(update={"url": place_url(config.store.url, folder)}),
            "source": config.source.model_copy(update={"url": place_url(config.source.url, folder)}),
            "storage": config.storage.model_copy(update={"path": folder / config.storage.path}),
            "content": config.content.model_copy(
                update={
                    name: _beside(getattr(config.content, name), folder)
                    for name in ("text_network", "picture_network", "pictures")
                }
            ),
            "alerts": config.alerts.model_copy(update={"smtp_ca_file": _beside(config.alerts.smtp_ca_file, folder)}),
        }
    )


def _beside(path: Path | None, folder: Path) -> Path | None:
    return None if path is None else folder / path


def apply_environment(values: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Override values in place with RECSYS_<TABLE>__<KEY> variables, whose values are TOML or bare strings.

    Raises ConfigError when a variable names a key inside a value that is no table.
    """
    for name, text in environment.items():
        if not name.startswith("RECSYS_") or "__" not in name:
            continue
        *tables, key = name.removeprefix("RECSYS_").lower().split("__")
        *tables, key = _current_place((*tables, key), name)
        table = values
        for depth, part in enumerate(tables, 1):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                where = ".".join(tables[:depth])
                raise ConfigError(
                    f"{name} names a key in {where}, but that is no table; allowed is RECSYS_<TABLE>__<KEY>"
                )
        try:
            table[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = text  # a bare word is a string


def _rename_old_keys(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the values with old keys under their present names; warn of each. where: what warnings call the origin.

    Raises ConfigError when there is a key under both names.
    """
    renamed = dict(values)
    for old, new in RENAMED.items():
        *tables, key = old
        table: Any = renamed
        for part in tables:
            table = table.get(part) if isinstance(table, dict) else None
        if not isinstance(table, dict) or key not in table:
            continue
        if new[-1] in table:
            raise ConfigError(f"{where} has both {'.'.join(old)} and {'.'.join(new)}, its new name; keep the new one")
        _warn_of_old(where, old, new)
        table[new[-1]] = table.pop(key)
    return renamed


def _current_place(place: tuple[str, ...], variable: str) -> tuple[str, ...]:
    """Return the present place of the key that an environment variable names."""
    for old, new in RENAMED.items():
        if place[: len(old)] == old:
            _warn_of_old(variable, old, new)
            return new + place[len(old) :]
    return place


def _warn_of_old(where: str, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    _log.warning("%s: %s is called %s now; the old name works in this version", where, ".".join(old), ".".join(new))


def explain(
    error: ValidationError, path: Path | None, tables: type[BaseModel], environment: Collection[str] = ()
) -> str:
    """Explain each fault on a line: the key, what is wrong, what was found and what is allowed.

    environment: the names of variables, of which one that holds an unknown key is named.

    URLs, which may hold passwords, and values in the place of a table are not repeated.
    """
    lines = [f"{path or 'the configuration'} is wrong:"]
    faults = error.errors()
    within = {fault["loc"][:-1] for fault in faults}
    for fault in faults:
        if fault["type"] == "too_short" and fault["loc"] in within:  # the faults of its values are listed
            continue
        where = ".".join(str(part) for part in fault["loc"])
        message = f"{fault['msg']}"
        if fault["type"] == "extra_forbidden":
            message = _unknown_key(fault["loc"], tables, environment)
        elif fault["type"] == "tuple_type":
            message = f"should be a list in square brackets (found {_found(fault['loc'], fault['input'])})"
        elif fault["type"] == "value_error":  # ours, which names the table itself
            lines.append(f"  {message.removeprefix('Value error, ')}")
            continue
        else:
            message += f" (found {_found(fault['loc'], fault['input'])})"
        lines.append(f"  {where}: {message}")
    return "\n".join(lines)


def _unknown_key(location: tuple[int | str, ...], tables: type[BaseModel], environment: Collection[str]) -> str:
    allowed = _keys_at(tables, location[:-1])
    message = f"unknown key; allowed here: {', '.join(allowed)}"
    variable = "RECSYS_" + "__".join(str(part) for part in location).upper()
    if given := next((name for name in environment if f"{name}__".startswith(f"{variable}__")), None):
        near = _nearest(given, _variables(Config))
        return f"{message}; {given} in the environment names it{f', meant may be {near}' if near else ''}"
    near = _nearest(str(location[-1]), allowed)
    return f"{message}; meant may be {near}" if near else message


def _found(location: tuple[int | str, ...], value: Any) -> str:
    is_secret = len(location) < 2 or any(str(part).endswith(("url", "password")) for part in location)
    return f"a value of type {type(value).__name__}" if is_secret else repr(value)


def _keys_at(section: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        if get_origin(section) is dict:  # sections by names that are free
            section = get_args(section)[1]
            continue
        names = {field_name(section, name): field for name, field in section.model_fields.items()}
        section = names[str(part)].annotation  # type: ignore[assignment]
    return sorted(field_name(section, name) for name in section.model_fields)


def place_url(url: str | None, folder: Path) -> str | None:
    """Make the path of a relative SQLite file absolute, within `folder`; other URLs stay as they are."""
    if url is None or not url.startswith("sqlite:///") or url == "sqlite:///:memory:":
        return url
    return f"sqlite:///{folder / url.removeprefix('sqlite:///')}"
