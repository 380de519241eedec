"""The commands on placements: list, put, delete, and who changed what when."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs import ledger
from jobs.commands import open_configured
from jobs.output import Output, Table
from recsys.config.settings import Config
from recsys.data.times import readable
from recsys.errors import ConfigError, RefusedError
from recsys.progress import Progress
from recsys.serving.placements import check_placement, definition_of, described, known_placements, read_settings
from recsys.store.placements import delete_placement, list_placements, placement_history, put_placement

_SHOWN = ("name", "source", "active", "changed_at", "changed_by")


def show_all(config: Config, *, progress: Progress) -> Output:
    """List the placements of the configuration and those that are stored."""
    progress("placements", 0.0)
    with closing(open_configured(config)) as store:
        known = known_placements(config, list_placements(store))
    progress("placements", 1.0)
    now = time.time_ns() // 1000
    found = [described(placement, now) for placement in known]
    rows = [[*(one[name] for name in _SHOWN), json.dumps(one["definition"], ensure_ascii=False)] for one in found]
    return Output(found, [Table("Placements", [*_SHOWN, "definition"], rows)])


def put(config: Config, *, name: str, definition: str, progress: Progress) -> Output:
    """Store what a placement is from now on. Columns are checked when it is asked for or previewed.

    definition: JSON, or the name of a file of JSON. Raises ConfigError when it is wrong.
    """
    progress("placement", 0.0)
    try:
        settings = read_settings(_decoded(definition))
        check_placement(name, settings, None)
    except RefusedError as error:
        raise ConfigError(f"placement {name!r}: {error}") from None
    with closing(open_configured(config)) as store:
        changed = put_placement(store, name, definition_of(settings), by=ledger.who())
    progress("placement", 1.0)
    message = f"placement {name} is stored" if changed else f"placement {name} was that already"
    return Output({"name": name, "changed": changed, "definition": definition_of(settings)}, [message])


def delete(config: Config, *, name: str, progress: Progress) -> Output:
    """Delete a stored placement. Raises NotFoundError when there is none."""
    progress("placement", 0.0)
    with closing(open_configured(config)) as store:
        delete_placement(store, name, by=ledger.who())
    progress("placement", 1.0)
    return Output({"name": name}, [f"placement {name} is deleted; its history stays"])


def history(config: Config, *, name: str, progress: Progress) -> Output:
    """Show who changed a stored placement when, and to what; the latest change first."""
    progress("placement", 0.0)
    with closing(open_configured(config)) as store:
        changes = placement_history(store, name)
    progress("placement", 1.0)
    found = [
        {"changed_at": readable(each.changed_at), "changed_by": each.changed_by, "definition": each.definition}
        for each in changes
    ]
    rows = [[*list(one.values())[:2], json.dumps(one["definition"], ensure_ascii=False)] for one in found]
    return Output(found, [Table(f"Changes of {name}", ["changed_at", "changed_by", "definition"], rows)])


def _decoded(text: str) -> Any:
    try:
        return json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{text}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError("the definition of the placement is no JSON in UTF-8") from None
