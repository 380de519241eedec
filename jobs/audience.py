"""`recsys audience`: draw an audience for a campaign, freeze it, and write it as CSV.

The same arguments return the same members. When the command is killed, the audience is frozen as a whole or not at
all, and the file is complete or absent. Running it again writes the frozen audience.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pydantic import ConfigDict

from jobs import ledger
from jobs.commands import open_shop
from jobs.output import Output, Table
from recsys.audience.draw import draw
from recsys.audience.eligible import Mailable, check_people, describe_changes, describe_left_out, keep_mailable
from recsys.audience.export import COLUMNS, check_place
from recsys.audience.files import write_audience
from recsys.audience.filters import find_targets
from recsys.audience.inputs import Campaign, Inputs, Rules, newest_moment, open_inputs
from recsys.audience.propensity import check_conditions, columns_of, figures_of, parse_condition
from recsys.audience.sizes import parse_size
from recsys.audience.strategies import check_strategy
from recsys.audience.suppression import read_suppression
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Int32
from recsys.data.folder import failpoint
from recsys.data.times import parse_time, rfc3339
from recsys.errors import ConfigError, NotFoundError
from recsys.progress import Progress
from recsys.source.lists import read_contact_file
from recsys.source.people import CONSENT_AT, CONSENT_SOURCE, query_of_users
from recsys.store.audiences import AudienceRecord, add_members, find_audience, list_members, save_audience
from recsys.store.campaigns import begin_export, finish_export

LEASE = "audience"

_USUAL = {"recent_days": 30.0, "contact_days": 7.0}
_SHOWN, _SHOWN_COLUMNS = 5, 8
_LISTED = 20  # unknown ids that an error lists


@dataclass(frozen=True)
class Asked:
    """Whom a mailing is for, as `recsys audience` and the file of a campaign say it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    size: int | str  # in the forms of `parse_size`
    items: Sequence[str] = ()  # what the mailing is about: items by id,
    filters: Sequence[str] = ()  # and those of the catalog that meet all filters;
    anything: bool = False  # or anything
    as_of: str | None = None  # ISO 8601, in UTC unless it names a zone; None: just after the newest known event
    strategy: str = "affinity"
    exclude_past_buyers: bool = False
    bought_within_days: float | None = None
    min_purchases: int = 0
    min_events: int = 0
    recent_days: float = 30.0  # this and the next two are what strategies ask for, see Campaign
    owned: Sequence[str] = ()
    seeds: Path | None = None  # a file as those of `suppress`
    user_filters: Sequence[str] = ()  # in the catalog's grammar
    suppress: Sequence[Path] = ()  # files of users not to mail; all of them count
    allow_empty_suppression: bool = False  # a file without entries is right
    max_contacts: int | None = None  # the cap of mails, else that of the configuration
    contact_days: float | None = None
    contacts: Sequence[Path] = ()  # CSV files of mails that count beside those of the source
    where: Sequence[str] = ()  # conditions on what is expected of a user, as "churn_risk_90>=0.7"; all have to hold


@dataclass(frozen=True)
class Frozen:
    """A frozen audience, and what it comes from."""

    inputs: Inputs
    mailable: Mailable  # as of now
    record: AudienceRecord
    is_new: bool


def audience(config: Config, *, out: Path, refill: bool = False, progress: Progress, **asked: Any) -> Output:
    """Rank the users who may be mailed, freeze the audience, write it as CSV, and record the run in the ledger.

    asked: the fields of Asked. The same ones return the frozen audience, without users who were deleted or may no
    longer be mailed. refill: fill up the places of members who left since the audience was frozen.
    Raises NotFoundError for unknown items or strategy, ConfigError for no condition or size, RefusedError when nobody
    may be mailed, and for a condition on a figure that the live bundle does not know.
    """
    check_place(out)
    campaign = Asked(**asked)
    parse_size(campaign.size)  # wrong usage is no run
    with closing(open_shop(config)) as store, ledger.run(store, LEASE, config) as run:
        found = freeze(config, run, campaign, progress, refill=refill)
        record = found.record
        with run.step("write") as counts:
            members, gone = keep_mailable(list_members(store, record.audience_id), record.members, found.mailable)
            export = begin_export(
                store,
                campaign=None,
                audience_id=record.audience_id,
                control_share=0.0,
                destination=str(out.resolve()),
                members=members.num_rows,
                by=ledger.who(),
            )
            output = _deliver(found, members, gone, out)
            counts.update(members=members.num_rows, left_since=gone)
        failpoint("after file")
        finish_export(store, export, None, by=ledger.who())
        run.bundle = record.bundle
        run.metrics = {name: output.data[name] for name in _IN_LEDGER}
    return output


def rules_of(asked: Asked, config: Config) -> Rules:
    """Who is left out. Raises ConfigError for contacts without a cap, SourceError for a file that cannot be read."""
    if asked.contacts and asked.max_contacts is None and config.audience.max_contacts is None:
        raise ConfigError("--contacts says whom the shop mailed; --max-contacts has to say how many mails are too many")
    return Rules(
        suppressed=tuple(map(read_suppression, asked.suppress)) or None,
        allow_empty_suppression=asked.allow_empty_suppression,
        user_filters=tuple(sorted(set(asked.user_filters))),
        max_contacts=asked.max_contacts,
        contact_days=asked.contact_days,
        contacts=tuple(read_contact_file(path, config) for path in asked.contacts),
    )


def freeze(config: Config, run: ledger.ActiveRun, asked: Asked, progress: Progress, *, refill: bool = False) -> Frozen:
    """Draw the audience and freeze it, or find the frozen one. Raises as `audience`."""
    store = run.store
    check_strategy(asked.strategy)
    wanted, rules = parse_size(asked.size), rules_of(asked, config)
    progress("load", 0.0)
    with run.step("load") as counts:
        inputs = open_inputs(config, store)
        moment = _moment(asked.as_of, inputs)
        conditions = sorted({parse_condition(text) for text in asked.where}, key=str)
        check_conditions(inputs, conditions)
        campaign = Campaign(
            items=() if asked.anything else targets(asked.items, asked.filters, inputs.bundle),
            size=wanted,
            as_of=moment,
            strategy=asked.strategy,
            exclude_past_buyers=asked.exclude_past_buyers,
            rules=rules,
            conditions=tuple(map(str, conditions)),
            bought_within_days=asked.bought_within_days,
            min_purchases=asked.min_purchases,
            min_events=asked.min_events,
            recent_days=asked.recent_days,
            owned=tuple(sorted(set(asked.owned))),
            seeds=None if asked.seeds is None else read_suppression(asked.seeds),
        )
        rows = item_rows(campaign.items, inputs.bundle)
        counts.update(users=len(inputs.extract.users), events=len(inputs.extract.events), items=len(rows))
    progress("load", 1.0)
    draft = _draft(campaign, inputs)
    mailable = check_people(inputs, rules)
    is_new = find_audience(store, draft.audience_id) is None
    if is_new:
        with run.step("draw") as counts:
            drawn = draw(inputs, mailable, campaign, rows, draft, progress)
            counts.update(eligible=drawn[0].eligible, left_out=drawn[0].left_out, members=drawn[1].num_rows)
        failpoint("before freeze")
        save_audience(store, *drawn, progress=progress)
        failpoint("after freeze")
    elif refill:
        with run.step("refill") as counts:
            counts.update(added=_refill(inputs, mailable, campaign, rows, draft, progress))
    record = find_audience(store, draft.audience_id)
    assert record is not None
    return Frozen(inputs, mailable, record, is_new)


def write_members(inputs: Inputs, record: AudienceRecord, members: pa.Table, out: Path) -> int:
    """Write members as the name of the file says; return how many ids were given an apostrophe."""
    rows = _rows(inputs, record, members)
    columns = columns_of(inputs)
    figures = figures_of(inputs, members["user_id"].to_pylist(), record.as_of)
    further = [[figures.get(row[1], {}).get(name) for name in columns] for row in rows]
    return write_audience(out, [(*row, *more) for row, more in zip(rows, further, strict=True)], columns)


def _rows(inputs: Inputs, record: AudienceRecord, members: pa.Table) -> list[tuple[Any, ...]]:
    """The rows of the file, up to the figures of propensity."""
    consent = "assumed" if record.consent == "assumed" else "given"
    origins = _consents(inputs, members["user_id"].to_pylist())
    return [_row(one, consent, origins) for one in members.to_pylist()]


def _refill(
    inputs: Inputs, mailable: Mailable, campaign: Campaign, rows: Int32, draft: AudienceRecord, progress: Progress
) -> int:
    """Draw the audience again, and add the first of the new members behind the others; return how many."""
    store, audience_id = inputs.store, draft.audience_id
    frozen, members = find_audience(store, audience_id), list_members(store, audience_id)
    assert frozen is not None
    kept, _ = keep_mailable(members, frozen.members, mailable)
    free = frozen.size - kept.num_rows
    if free <= 0:
        return 0
    wanted = replace(campaign, size=parse_size(frozen.size + members.num_rows))  # those who left may rank among them
    _, drawn = draw(inputs, mailable, wanted, rows, draft, progress)
    known = set(members["user_id"].to_pylist())
    is_new = [user not in known for user in drawn["user_id"].to_pylist()]
    return add_members(store, frozen, drawn.filter(pa.array(is_new, pa.bool_())).slice(0, free))


_IN_LEDGER = ("audience_id", "frozen", "as_of", "items", "strategy", "consent", "members", "expected_buyers")


def _moment(text: str | None, inputs: Inputs) -> int:
    """Parse the moment asked for: microseconds UTC. Raises ConfigError for no time, and for one in the future."""
    now, newest = inputs.store.now(), inputs.extract.as_of
    if text is None:
        return newest_moment(inputs)
    try:
        moment = parse_time(text, default_utc=True)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--as-of {text!r} is no time; allowed is ISO 8601 as 2026-11-23 or 2026-11-23T08:00Z"
        ) from None
    if moment > max(now, newest):
        raise ConfigError(f"--as-of {text} lies in the future; the newest event is of {rfc3339(newest)}")
    return moment


def targets(items: Sequence[str], filters: Sequence[str], bundle: Bundle) -> tuple[str, ...]:
    """The ids of all items that the mailing is about, sorted. Raises ConfigError when none was asked for."""
    if not items and not filters:
        raise ConfigError("--items, --filter or --anything has to say what the mailing is about")
    found = bundle.catalog.ids.ids_of(find_targets(bundle, filters)) if filters else []
    return tuple(sorted({*items, *found}))


def item_rows(items: Sequence[str], bundle: Bundle) -> Int32:
    """The rows of the items. Raises NotFoundError that names those that the bundle does not know."""
    rows = bundle.catalog.ids.rows_of(items)
    unknown = [item for item, row in zip(items, rows, strict=True) if row < 0]
    if unknown:
        more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        raise NotFoundError(
            f"items {', '.join(map(repr, unknown[:_LISTED]))}{more} are not in the live bundle {bundle.version} of "
            f"{len(bundle.catalog)} items; an item that is new to the shop is there after the next training"
        )
    return rows


def _draft(campaign: Campaign, inputs: Inputs) -> AudienceRecord:
    """Describe the audience before its members are drawn.

    Its id is a hash of what was asked for. The bundle is not part of it, so a training in between changes no frozen
    audience.
    """
    draft = AudienceRecord(
        audience_id="",
        as_of=campaign.as_of,
        items=list(campaign.items),
        size=campaign.size.number,
        strategy=campaign.strategy,
        options=_options(campaign, inputs),
        bundle="",
        consent=inputs.config.audience.consent,
        window_days=0.0,
        eligible=0,
        left_out={},
        warnings=[],
    )
    return replace(draft, audience_id=_digest(vars(draft)), bundle=inputs.bundle.version)


def _options(campaign: Campaign, inputs: Inputs) -> dict[str, Any]:
    """The other settings that decide about the members, beside items, size, moment and strategy."""
    config, rules, seeds = inputs.config, campaign.rules, campaign.seeds
    files = rules.suppressed
    entries = None if files is None else sorted({entry for one in files for entry in one.entries})
    asked = {
        "where": list(campaign.conditions),
        "user_filters": list(rules.user_filters),
        "bought_within_days": campaign.bought_within_days,
        "min_purchases": campaign.min_purchases,
        "min_events": campaign.min_events,
        "recent_days": campaign.recent_days,
        "owned": list(campaign.owned),
        "seeds": None if seeds is None else _digest(sorted(seeds.entries)),
        "size": None if campaign.size.number else str(campaign.size),
        "max_contacts": rules.max_contacts or config.audience.max_contacts,
        "contact_days": rules.contact_days or config.audience.contact_days,
        "control_share": config.audience.control_share,
        "max_consent_age_days": config.audience.max_consent_age_days,
        "lists": _digest(config.audience.lists) if config.audience.lists else None,
    }
    # What nobody asked for is left out, so that the id of a frozen audience stays when something new can be asked for.
    further = {name: value for name, value in asked.items() if value and value != _USUAL.get(name)}
    return further | {
        "exclude_past_buyers": campaign.exclude_past_buyers,
        "suppressed": None if entries is None else _digest(entries),
        "users": _digest(query_of_users(config, inputs.store)),  # another query asks about other people
        "targets": list(config.bought),  # the id of a frozen audience is a hash of these names too
        "history_length": config.events.history_length,
        "seed": config.training.seed,
    }


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _deliver(found: Frozen, members: pa.Table, gone: dict[str, int], out: Path) -> Output:
    inputs, record = found.inputs, found.record
    consent = "assumed" if record.consent == "assumed" else "given"
    origins = _consents(inputs, members["user_id"].to_pylist())
    rows = _rows(inputs, record, members)
    guarded = write_members(inputs, record, members, out)
    warnings = list(record.warnings)
    if consent == "assumed":
        warnings.append('consent is assumed, not known: [audience] consent = "assumed"')
    if gone:
        warnings.append(f"since the audience was frozen {describe_changes(gone)}; they are not in the file")
    if guarded:
        warnings.append(f"{guarded} ids begin as a formula would; in the file an apostrophe stands before them")
    data = {
        "audience_id": record.audience_id,
        "frozen": "now" if found.is_new else "before",
        "created_at": rfc3339(record.created_at),
        "as_of": rfc3339(record.as_of),
        "items": record.items,
        "strategy": record.strategy,
        "score": record.options.get("score", ""),
        "consent": consent,
        "consent_sources": dict(Counter(str(source) for _, source in origins.values() if source is not None)),
        "consent_undated": len(rows) - sum(at is not None for at, _ in origins.values()),
        "bundle": record.bundle,
        "size": record.size,
        "eligible": record.eligible,
        "members": len(rows),
        "expected_buyers": round(float(sum(members["probability"].to_pylist())), 2),
        "window_days": round(record.window_days, 2),
        "curve": record.options.get("curve"),
        "left_out": record.left_out,
        "left_since": gone,
        "warnings": warnings,
        "out": str(out),
    }
    return Output(data, _parts(data, rows))


def _consents(inputs: Inputs, user_ids: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """When and where each of the users consented, as the query of users says it."""
    people = inputs.people
    columns = [] if people is None else [name for name in (CONSENT_AT, CONSENT_SOURCE) if name in people.columns]
    if people is None or not columns:
        return {}
    known = people.filter(people["user_id"].is_in(pl.Series(user_ids, dtype=pl.String).implode()))
    return {row["user_id"]: (row.get(CONSENT_AT), row.get(CONSENT_SOURCE)) for row in known.iter_rows(named=True)}


def _row(member: dict[str, Any], consent: str, origins: dict[str, tuple[Any, Any]]) -> tuple[Any, ...]:
    """A row of the file, up to the figures of propensity."""
    names = ("rank", "user_id", "probability", "reason")
    runners_up = "|".join(json.loads(member["runners_up"] or "[]"))
    told = (member["score"], member["best_item"], runners_up, *origins.get(member["user_id"], (None, None)))
    return (*(member[name] for name in names), consent, *told)


def _parts(data: dict[str, Any], rows: Sequence[tuple[Any, ...]]) -> list[Table | str]:
    title = f"Audience {data['audience_id']}: the first of {data['members']} users, ranked by {data['strategy']}"
    return [
        Table(title, COLUMNS[:_SHOWN_COLUMNS], [row[:_SHOWN_COLUMNS] for row in rows[:_SHOWN]]),
        f"as of {data['as_of']}, from {data['bundle']}, frozen {data['frozen']}",
        f"left out: {describe_left_out(data['left_out'])}; eligible {data['eligible']}",
        f"expected buyers within {data['window_days']:g} days: {data['expected_buyers']:.1f}",
        *_curve(data["curve"]),
        *(f"warning: {warning}" for warning in data["warnings"]),
        f"written to {data['out']}",
    ]


def _curve(curve: dict[str, Any] | None) -> list[str]:
    if curve is None:  # frozen by an earlier version
        return []
    sizes = ", ".join(f"{size} users reach {share}" for share, size in curve["sizes"].items())
    return [f"of all eligible users {curve['expected_buyers']:.1f} are expected to buy; the first {sizes} of them"]
