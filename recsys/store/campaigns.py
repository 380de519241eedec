"""The campaigns: what each is, its state, who changed it when, and the register of what was handed out.

`TRANSITIONS` is the life of a campaign. Every change of a state is one conditional update with a row in the log, so of
two people who act at once one wins, and the other is told who did.
"""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recsys.data.times import rfc3339
from recsys.errors import NotFoundError, RefusedError
from recsys.experiments.assignment import hold_back
from recsys.store.database import Store, read_clock
from recsys.store.tables import Tables

# action -> the states that it may start from, and the state that it leads to; None: the campaign is gone
TRANSITIONS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "create": ((), "draft"),
    "approve": (("draft",), "approved"),
    "export": (("approved", "exported"), "exported"),
    "measure": (("exported", "measured"), "measured"),
    "cancel": (("draft", "approved", "exported"), "cancelled"),
    "delete": (("draft", "cancelled", "measured"), None),
}


@dataclass(frozen=True)
class CampaignRecord:
    """A row of the campaigns. Times are microseconds UTC."""

    name: str
    state: str
    definition: dict[str, Any]  # what was asked for
    audience_id: str  # the frozen members
    control_share: float  # of the members, held back
    facts: dict[str, Any]  # as frozen: counts, versions, figures for the report
    measurement: dict[str, Any] | None
    changed_at: int  # by the database's clock
    changed_by: str


@dataclass(frozen=True)
class CampaignChange:
    """A row of the log."""

    campaign: str
    action: str  # a key of TRANSITIONS
    changed_at: int
    changed_by: str


@dataclass(frozen=True)
class Export:
    """A row of the register: a list of members that was handed out."""

    export_id: int
    campaign: str | None  # None: `recsys audience` wrote it
    audience_id: str
    control_share: float  # of the members, not handed out
    destination: str  # as a file or a table
    members: int
    exported_by: str
    began_at: int
    finished_at: int | None  # None: it broke off; some or all may have been handed out


def find_same(store: Store, name: str, definition: dict[str, Any]) -> CampaignRecord | None:
    """Find the campaign of a name; None when there is none. Raises RefusedError when its definition is another."""
    try:
        found = find_campaign(store, name)
    except NotFoundError:
        return None
    if found.definition != definition:
        raise RefusedError(
            f"there is a campaign {name!r} with another definition, {found.state} since {rfc3339(found.changed_at)}; "
            "choose another name, or delete that one"
        )
    return found


def create_campaign(store: Store, record: CampaignRecord) -> bool:
    """Insert a campaign as a draft; return False, with nothing written, when one of that name exists.

    changed_at and state of the record are not used.
    """
    campaigns = store.tables.campaigns

    def create(connection: sa.Connection) -> bool:
        now, state = read_clock(connection), TRANSITIONS["create"][1]
        row = {**vars(record), "state": state, "changed_at": now}
        for name in ("definition", "facts", "measurement"):
            row[name] = None if row[name] is None else json.dumps(row[name])
        connection.execute(campaigns.insert().values(row))
        _log(connection, store.tables, record.name, "create", record.changed_by, now)
        return True

    try:
        return store.transact(create)
    except sa.exc.IntegrityError:  # somebody was faster
        return False


def change_campaign(
    store: Store, name: str, action: str, *, by: str, measurement: dict[str, Any] | None = None
) -> CampaignRecord:
    """Change the state of a campaign by an action of TRANSITIONS, other than create and delete; return what it is now.

    measurement: what was measured. Raises NotFoundError when there is none, RefusedError when its state does not allow
    the action, with who brought it there.
    """
    changed: dict[str, Any] = {} if measurement is None else {"measurement": json.dumps(measurement)}

    def change(connection: sa.Connection) -> None:
        _move(connection, store.tables, name, action, by, changed)

    store.transact(change)
    return find_campaign(store, name)


def check_campaign(store: Store, name: str, action: str) -> CampaignRecord:
    """Check that an action may start from the state of a campaign; return the campaign. Raises as `change_campaign`."""
    with store.reading() as connection:
        _lock(connection, store.tables, name, action)
    return find_campaign(store, name)


def delete_campaign(store: Store, name: str, *, by: str) -> list[Export]:
    """Delete a campaign, and its members unless another campaign has the same ones; log and register stay.

    Returns what was handed out of it. Raises as `change_campaign`.
    """
    tables = store.tables

    def delete(connection: sa.Connection) -> None:
        audience_id = _move(connection, tables, name, "delete", by, {})
        others = sa.select(tables.campaigns.c.name).where(tables.campaigns.c.audience_id == audience_id)
        if connection.execute(others.limit(1)).scalar() is None:
            for table in (tables.audience_members, tables.audiences):
                connection.execute(table.delete().where(table.c.audience_id == audience_id))

    store.transact(delete)
    return list_exports(store, name)


def find_campaign(store: Store, name: str) -> CampaignRecord:
    """Find a campaign. Raises NotFoundError when there is none of that name."""
    campaigns = store.tables.campaigns
    with store.reading() as connection:
        row = connection.execute(sa.select(campaigns).where(campaigns.c.name == name)).mappings().one_or_none()
    if row is None:
        raise _unknown(name)
    return _read(row)


def list_campaigns(store: Store) -> list[CampaignRecord]:
    """List the campaigns, the one that was changed last first."""
    campaigns = store.tables.campaigns
    query = sa.select(campaigns).order_by(campaigns.c.changed_at.desc(), campaigns.c.name)
    with store.reading() as connection:
        return [_read(row) for row in connection.execute(query).mappings()]


def campaign_changes(store: Store, name: str) -> list[CampaignChange]:
    """The log of a campaign, oldest first; that of a deleted one stays."""
    log = store.tables.campaign_changes
    columns = [log.c[column] for column in CampaignChange.__dataclass_fields__]
    query = sa.select(*columns).where(log.c.campaign == name).order_by(log.c.change_id)
    with store.reading() as connection:
        return [CampaignChange(*row) for row in connection.execute(query)]


def begin_export(
    store: Store,
    *,
    campaign: str | None,
    audience_id: str,
    control_share: float,
    destination: str,
    members: int,
    by: str,
) -> int:
    """Register an export before anything is handed out; return its number.

    campaign: it has to be in a state from which it may be exported. Raises as `change_campaign`.
    """
    tables = store.tables

    def begin(connection: sa.Connection) -> int:
        if campaign is not None:
            _lock(connection, tables, campaign, "export")
        row = {
            "campaign": campaign,
            "audience_id": audience_id,
            "control_share": control_share,
            "destination": destination,
            "members": members,
            "exported_by": by,
            "began_at": read_clock(connection),
        }
        key = connection.execute(tables.exports.insert().values(row)).inserted_primary_key
        assert key is not None
        return int(key[0])

    return store.transact(begin)


def finish_export(store: Store, export_id: int, campaign: str | None, *, by: str) -> None:
    """Register that an export is complete, and that its campaign is exported. Raises as `change_campaign`."""
    exports = store.tables.exports

    def finish(connection: sa.Connection) -> None:
        mine = exports.c.export_id == export_id
        connection.execute(exports.update().where(mine).values(finished_at=read_clock(connection)))
        if campaign is not None:
            _move(connection, store.tables, campaign, "export", by, {})

    store.transact(finish)


def list_exports(store: Store, campaign: str | None = None) -> list[Export]:
    """The register, newest first: of one campaign, or all of it."""
    exports = store.tables.exports
    query = sa.select(exports).order_by(exports.c.export_id.desc())
    if campaign is not None:
        query = query.where(exports.c.campaign == campaign)
    with store.reading() as connection:
        return [Export(**row) for row in connection.execute(query).mappings()]


def select_exports_of(connection: sa.Connection, tables: Tables, user_id: str) -> list[Export]:
    """The exports that hold a user: those of lists in which the user is, unless held back."""
    exports, members = tables.exports, tables.audience_members
    query = (
        sa.select(exports)
        .where(exports.c.audience_id == members.c.audience_id, members.c.user_id == user_id)
        .order_by(exports.c.export_id)
    )
    found = [Export(**row) for row in connection.execute(query).mappings()]
    return [one for one in found if not is_held_back(user_id, one.campaign, one.control_share)]


def is_held_back(user_id: str, campaign: str | None, share: float) -> bool:
    """Whether a member of a campaign is held back from it, as `hold_back` decides."""
    return campaign is not None and bool(hold_back([user_id], campaign, share)[0])


def _move(connection: sa.Connection, tables: Tables, name: str, action: str, by: str, changed: dict[str, Any]) -> str:
    """Change the state within a transaction; return the audience_id."""
    campaigns, state = tables.campaigns, TRANSITIONS[action][1]
    audience_id = _lock(connection, tables, name, action)
    now, mine = read_clock(connection), campaigns.c.name == name
    if state is None:
        connection.execute(campaigns.delete().where(mine))
    else:
        values = {**changed, "state": state, "changed_at": now, "changed_by": by}
        connection.execute(campaigns.update().where(mine).values(values))
    _log(connection, tables, name, action, by, now)
    return audience_id


def _lock(connection: sa.Connection, tables: Tables, name: str, action: str) -> str:
    """Lock a campaign that an action may start from, until the transaction ends; return the audience_id."""
    campaigns, allowed = tables.campaigns, TRANSITIONS[action][0]
    columns = (campaigns.c.audience_id, campaigns.c.state, campaigns.c.changed_at, campaigns.c.changed_by)
    row = connection.execute(sa.select(*columns).where(campaigns.c.name == name).with_for_update()).one_or_none()
    if row is None:
        raise _unknown(name)
    if row.state not in allowed:
        raise RefusedError(
            f"the campaign {name!r} is {row.state} since {rfc3339(row.changed_at)}, by {row.changed_by}; "
            f"{action} takes one that is {' or '.join(allowed)}"
        )
    return str(row.audience_id)


def _log(connection: sa.Connection, tables: Tables, name: str, action: str, by: str, now: int) -> None:
    row = {"campaign": name, "action": action, "changed_at": now, "changed_by": by}
    connection.execute(tables.campaign_changes.insert().values(row))


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no campaign {name[:80]!r}; `recsys campaign list` shows them")


def _read(row: Any) -> CampaignRecord:
    texts = {
        name: None if row[name] is None else json.loads(row[name]) for name in ("definition", "facts", "measurement")
    }
    return CampaignRecord(**{**row, **texts})
