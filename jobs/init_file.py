"""Write the files to start from: the commented recsys.toml, and the folder of the sample shop."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from jobs.output import Output
from recsys.config.loading import RENAMED
from recsys.config.settings import Config, JobSettings, PlacementSettings, field_name
from recsys.config.toml import toml_value
from recsys.errors import ConfigError
from recsys.progress import Progress
from recsys.sample.shop import generate, sample_config
from recsys.source.shops.contract import find_shop, source_of

_BY_NAME = (("schedule.jobs.NAME", JobSettings()), ("placements.NAME", PlacementSettings()))


def write(path: Path, *, shop: str | None = None, prefix: str | None = None) -> bool:
    """Write the commented configuration with every default; return False when the file exists already.

    shop: a name of SHOPS, whose queries are written. prefix: of the names of its tables; None: the system's own.
    Raises ConfigError when the folder cannot be written to, and with a shop when the file exists already.
    """
    if shop is None and prefix is not None:
        raise ConfigError(f"--prefix {prefix!r} is of the tables of a shop system; name it with --shop")
    text = commented_toml(Config()) if shop is None else shop_toml(shop, prefix)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if shop is not None:
            raise ConfigError(
                f"{path} exists and was not changed; --shop writes a new file, named by --config"
            ) from None
        return False
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return True


def sample(
    folder: Path,
    *,
    users: int,
    items: int,
    events: int,
    seed: int,
    config: Path = Path("recsys.toml"),
    progress: Progress,
) -> Output:
    """Generate the sample shop in a folder: shop.db and the configuration that reads it.

    config: its name, or its path in the folder. Raises ConfigError for a path elsewhere, and when one of the files
    exists already.
    """
    database, settings = folder / "shop.db", folder / config.name
    if config.parent != Path() and config.resolve() != settings.resolve():
        raise ConfigError(f"{config} is not in {folder}; the sample shop's configuration lies beside its shop.db")
    for path in (database, settings):
        if path.exists():
            raise ConfigError(f"{path} is there already; the sample shop is only written to a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = database.with_suffix(".part")
        part.unlink(missing_ok=True)
        generate(part, users=users, items=items, events=events, seed=seed, progress=progress)
        part.replace(database)
        settings.write_text(sample_config(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the sample shop cannot be written to {folder}: {error.strerror}") from None
    data = {"folder": str(folder), "database": str(database), "configuration": str(settings)}
    return Output(data, [f"the sample shop is in {database}; `recsys train --config {settings}` comes next"])


def shop_toml(name: str, prefix: str | None = None) -> str:
    """Write the configuration for a shop system. name, prefix: as for `write`. Raises ConfigError as `source_of`."""
    config = Config.model_validate({"source": source_of(name, prefix)})
    first = f"# For {name}. Put the database's URL into [source]; an account that may only read is enough."
    notes = [f"# - {note}" for note in find_shop(name).notes]
    return "\n".join([first, *notes, "", commented_toml(config)])


def commented_toml(config: Config) -> str:
    """Write the configuration as TOML: every table, and every key with its description above it.

    A key with its default value is commented out, so that a later version may improve the default.
    """
    lines = [
        "# The configuration of recsys. A key that is commented out has the value shown, or is unset with an example."
    ]
    lines.append("# RECSYS_STORE__URL in the environment overrides url in [store], and so on for every key.")
    for table, section in _sections(config):
        lines += ["", f"# {type(section).__doc__}", f"[{table}]"]
        for key, field in type(section).model_fields.items():
            value = getattr(section, key)
            shown = toml_value(value if value is not None else (field.examples or ["…"])[0])
            lines += [f"# {field.description}", f"{'# ' * (value == field.default)}{key} = {shown}"]
    return "\n".join(lines) + "\n"


def configuration_page() -> str:
    """Write the tables of docs/configuration.md: every key with its default and its meaning."""
    lines: list[str] = []
    for table, section in [*_sections(Config()), *_BY_NAME]:
        lines += [
            "",
            f"## `[{table}]`",
            "",
            str(type(section).__doc__),
            "",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        for key, field in type(section).model_fields.items():
            value = getattr(section, key)
            default = "unset" if value is None else f"`{toml_value(value)}`"
            lines.append(f"| `{key}` | {default} | {field.description} |")
    lines += [
        "",
        "## Renamed keys",
        "",
        "Keys of version 0.1.0 that have another name now. The old name works in this version, with a warning.",
        "",
        "| old | new |",
        "|---|---|",
        *(f"| `{'.'.join(old)}` | `{'.'.join(new)}` |" for old, new in RENAMED.items()),
    ]
    return "\n".join(lines[1:]) + "\n"


def _sections(config: Config) -> Iterator[tuple[str, BaseModel]]:
    """Yield the tables that hold keys, with their dotted names."""
    open_tables = [(field_name(type(config), name), value) for name, value in config if isinstance(value, BaseModel)]
    while open_tables:
        name, section = open_tables.pop(0)
        inner = [(f"{name}.{key}", value) for key, value in section if isinstance(value, BaseModel)]
        open_tables[:0] = inner
        if not inner:
            yield name, section
