"""Placements: a place on the shop's pages with its box, filter, rules and time, which a question names.

They come from the configuration and from the own tables, where they change while the service runs. A stored one takes
the place of a configured one of the same name while it is active.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from recsys.config.settings import Config, PlacementSettings
from recsys.data.times import rfc3339, to_datetime
from recsys.errors import NotFoundError, RefusedError
from recsys.serving import filters, rules
from recsys.serving.answer import Query, check_fields, find_box
from recsys.serving.boxes import BOXES, check_fallbacks
from recsys.serving.snapshot import Snapshot
from recsys.spelling import meant
from recsys.store.placements import PlacementChange

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Placement:
    """A placement, and where it comes from."""

    name: str
    settings: PlacementSettings
    source: str  # "configuration" or "store"
    changed_at: int | None = None  # microseconds UTC; None: of the configuration
    changed_by: str | None = None

    def is_active(self, now: int) -> bool:
        """Whether a question at a moment (microseconds UTC) may name it."""
        moment, settings = to_datetime(now), self.settings
        is_begun = settings.starts_at is None or settings.starts_at <= moment
        return is_begun and (settings.ends_at is None or moment < settings.ends_at)


def known_placements(config: Config, stored: Mapping[str, PlacementChange]) -> list[Placement]:
    """All placements, by name, a stored one before a configured one. One of a newer version is left out."""
    found = [Placement(name, settings, "configuration") for name, settings in config.placements.items()]
    for change in stored.values():
        try:
            settings = PlacementSettings.model_validate(change.definition)
        except ValidationError:
            continue
        found.append(Placement(change.name, settings, "store", change.changed_at, change.changed_by))
    return sorted(found, key=lambda placement: (placement.name, placement.source != "store"))


def find_placement(placements: Sequence[Placement], name: str, now: int) -> Placement:
    """The placement of a name that is active at a moment. Raises NotFoundError when there is none, or none yet."""
    same = [placement for placement in placements if placement.name == name]
    for placement in same:
        if placement.is_active(now):
            return placement
    if same:
        start, end = (
            None if at is None else at.isoformat() for at in (same[0].settings.starts_at, same[0].settings.ends_at)
        )
        raise NotFoundError(f"The placement {name} is not active now: from {start or 'ever'} until {end or 'ever'}.")
    names = sorted({placement.name for placement in placements})
    raise NotFoundError(f"There is no placement {name!r}; there are {', '.join(names) or 'none'}{meant(name, names)}.")


def question(settings: PlacementSettings, query: Query, *, k: int | None) -> Query:
    """The question that a placement makes of a query. k, None: as the placement says.

    Filters and rules of both count. What else the query says takes the place of what the placement says.
    """
    own = [] if settings.filter is None else [settings.filter]
    return replace(
        query,
        box=settings.box,
        k=k or settings.k or Query.k,
        filters=[*own, *query.filters],
        fields=query.fields or settings.fields,
        window_days=query.window_days or settings.window_days,
        category=query.category or settings.category,
        rules=[settings.rules, *query.rules],
        fallbacks=settings.fallbacks,
    )


def read_settings(definition: Any) -> PlacementSettings:
    """Check the form of a definition, as JSON decodes it. Raises RefusedError."""
    try:
        return PlacementSettings.model_validate(definition)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        near = ""
        if fault["type"] == "extra_forbidden":
            names = list(PlacementSettings.model_fields)
            near = f"; allowed are {', '.join(names)}{meant(where, names)}"
        raise RefusedError(f"{where or 'placement'}: {fault['msg'].removeprefix('Value error, ')}{near}") from None


def check_placement(name: str, settings: PlacementSettings, snapshot: Snapshot | None) -> None:
    """Check a definition against the boxes and, with a snapshot, against the catalog. Raises RefusedError."""
    if not _NAME.fullmatch(name):
        raise RefusedError(f"name: allowed is {_NAME.pattern}")
    if settings.box not in BOXES:
        raise RefusedError(
            f"box: there is no {settings.box!r}; allowed are {', '.join(BOXES)}{meant(settings.box, BOXES)}"
        )
    check_fallbacks(settings.fallbacks or ())
    if settings.window_days is not None:
        find_box(Query(user_id="", box=settings.box, items=[""], window_days=settings.window_days))
    if snapshot is None:
        return
    check_fields(snapshot, settings.fields)
    if isinstance(settings.filter, str):
        filters.parse_short(settings.filter, snapshot.columns)
    elif settings.filter is not None:
        filters.parse(settings.filter, snapshot.columns)
    rules.parse(settings.rules, snapshot.columns)


def described(placement: Placement, now: int) -> dict[str, Any]:
    """A placement in plain values."""
    return {
        "name": placement.name,
        "source": placement.source,
        "active": placement.is_active(now),
        "changed_at": None if placement.changed_at is None else rfc3339(placement.changed_at),
        "changed_by": placement.changed_by,
        "definition": definition_of(placement.settings),
    }


def definition_of(settings: PlacementSettings) -> dict[str, Any]:
    """A definition in plain values: what it says, without defaults."""
    return settings.model_dump(mode="json", exclude_defaults=True)
