"""`recsys audience`: draw an audience for a campaign, freeze it, and write it as CSV.

The same arguments return the same members. When the command is killed, the audience is frozen as a whole or not at
all, and the file is complete or absent. Running it again writes the frozen audience.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs import ledger
from jobs.commands import open_shop
from jobs.output import Output, Table
from recsys.audience.draw import draw
from recsys.audience.eligible import describe_changes, describe_left_out, keep_mailable
from recsys.audience.export import COLUMNS, check_place, write_csv
from recsys.audience.filters import find_targets
from recsys.audience.inputs import Campaign, Inputs, newest_moment, open_inputs
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
from recsys.source.people import query_of_users
from recsys.store.audiences import AudienceRecord, find_audience, list_members, save_audience

LEASE = "audience"

_SHOWN = 5
_LISTED = 20  # unknown ids that an error lists


def audience(
    config: Config,
    *,
    items: Sequence[str] = (),
    filters: Sequence[str] = (),
    anything: bool = False,
    size: int | str,
    out: Path,
    as_of: str | None = None,
    strategy: str = "affinity",
    exclude_past_buyers: bool = False,
    bought_within_days: float | None = None,
    min_purchases: int = 0,
    min_events: int = 0,
    recent_days: float = 30.0,
    owned: Sequence[str] = (),
    seeds: Path | None = None,
    user_filters: Sequence[str] = (),
    suppress: Sequence[Path] = (),
    allow_empty_suppression: bool = False,
    where: Sequence[str] = (),
    progress: Progress,
) -> Output:
    """Rank the users who may be mailed, freeze the audience, write it as CSV, and record the run in the ledger.

    as_of: ISO 8601, in UTC unless it names a zone; None: just after the newest known event. The same arguments return
    the frozen audience, without users who were deleted or may no longer be mailed.
    suppress: files of users not to mail; all of them count. allow_empty_suppression: one without entries is right.
    items, filters: what the mailing is about: items by id, and those of the catalog that meet all filters; or anything.
    size: in the forms of `parse_size`.
    recent_days, owned, seeds: what strategies ask for, see Campaign. seeds: a file as those of `suppress`.
    bought_within_days, min_purchases, min_events, user_filters: who is left out; filters are in the catalog's grammar.
    where: conditions on what is expected of a user, as "churn_risk_90>=0.7"; all have to hold.
    Raises NotFoundError for unknown items or strategy, ConfigError for no condition or size, RefusedError when nobody
    may be mailed, and for a condition on a figure that the live bundle does not know.
    """
    check_place(out)
    check_strategy(strategy)
    wanted = parse_size(size)
    suppressed = tuple(map(read_suppression, suppress)) or None
    with closing(open_shop(config)) as store, ledger.run(store, LEASE, config) as run:
        progress("load", 0.0)
        with run.step("load") as counts:
            inputs = open_inputs(config, store)
            moment = _moment(as_of, inputs)
            conditions = sorted({parse_condition(text) for text in where}, key=str)
            check_conditions(inputs, conditions)
            campaign = Campaign(
                items=() if anything else _targets(items, filters, inputs.bundle),
                size=wanted,
                as_of=moment,
                strategy=strategy,
                exclude_past_buyers=exclude_past_buyers,
                suppressed=suppressed,
                conditions=tuple(map(str, conditions)),
                allow_empty_suppression=allow_empty_suppression,
                user_filters=tuple(sorted(set(user_filters))),
                bought_within_days=bought_within_days,
                min_purchases=min_purchases,
                min_events=min_events,
                recent_days=recent_days,
                owned=tuple(sorted(set(owned))),
                seeds=None if seeds is None else read_suppression(seeds),
            )
            rows = _item_rows(campaign, inputs.bundle)
            counts.update(users=len(inputs.extract.users), events=len(inputs.extract.events), items=len(rows))
        progress("load", 1.0)
        draft = _draft(campaign, inputs)
        is_new = find_audience(store, draft.audience_id) is None
        if is_new:
            with run.step("draw") as counts:
                drawn = draw(inputs, campaign, rows, draft, progress)
                counts.update(eligible=drawn[0].eligible, left_out=drawn[0].left_out, members=drawn[1].num_rows)
            failpoint("before freeze")
            save_audience(store, *drawn, progress=progress)
            failpoint("after freeze")
        record = find_audience(store, draft.audience_id)
        assert record is not None
        with run.step("write") as counts:
            members, gone = keep_mailable(
                list_members(store, record.audience_id),
                min(record.size, record.eligible),
                inputs.people,
                assumed=config.audience.consent == "assumed",
            )
            output = _deliver(inputs, record, members, gone, out, was_frozen=not is_new)
            counts.update(members=members.num_rows, left_since=gone)
        failpoint("after file")
        run.bundle = record.bundle
        run.metrics = {name: output.data[name] for name in _IN_LEDGER}
    return output


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


def _targets(items: Sequence[str], filters: Sequence[str], bundle: Bundle) -> tuple[str, ...]:
    """The ids of all items that the mailing is about, sorted. Raises ConfigError when none was asked for."""
    if not items and not filters:
        raise ConfigError("--items, --filter or --anything has to say what the mailing is about")
    found = bundle.catalog.ids.ids_of(find_targets(bundle, filters)) if filters else []
    return tuple(sorted({*items, *found}))


def _item_rows(campaign: Campaign, bundle: Bundle) -> Int32:
    rows = bundle.catalog.ids.rows_of(campaign.items)
    unknown = [item for item, row in zip(campaign.items, rows, strict=True) if row < 0]
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
    config = inputs.config
    further: dict[str, Any] = {"where": list(campaign.conditions)} if campaign.conditions else {}
    entries = None if campaign.suppressed is None else sorted({e for one in campaign.suppressed for e in one.entries})
    if campaign.user_filters:
        further["user_filters"] = list(campaign.user_filters)
    if campaign.bought_within_days is not None:
        further["bought_within_days"] = campaign.bought_within_days
    for name, default in (("min_purchases", 0), ("min_events", 0), ("recent_days", 30.0)):
        if getattr(campaign, name) != default:
            further[name] = getattr(campaign, name)
    if campaign.owned:
        further["owned"] = list(campaign.owned)
    if campaign.seeds is not None:
        further["seeds"] = _digest(sorted(campaign.seeds.entries))
    if not campaign.size.number:
        further["size"] = str(campaign.size)
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


def _deliver(
    inputs: Inputs, record: AudienceRecord, members: pa.Table, gone: dict[str, int], out: Path, *, was_frozen: bool
) -> Output:
    consent = "assumed" if record.consent == "assumed" else "given"
    rows = [_row(one, consent) for one in members.to_pylist()]
    columns = columns_of(inputs)
    figures = figures_of(inputs, members["user_id"].to_pylist(), record.as_of)
    further = [[figures.get(row[1], {}).get(name) for name in columns] for row in rows]
    guarded = write_csv(out, [(*row, *more) for row, more in zip(rows, further, strict=True)], columns)
    warnings = list(record.warnings)
    if consent == "assumed":
        warnings.append('consent is assumed, not known: [audience] consent = "assumed"')
    if gone:
        warnings.append(f"since the audience was frozen {describe_changes(gone)}; they are not in the file")
    if guarded:
        warnings.append(f"{guarded} ids begin as a formula would; in the file an apostrophe stands before them")
    data = {
        "audience_id": record.audience_id,
        "frozen": "before" if was_frozen else "now",
        "created_at": rfc3339(record.created_at),
        "as_of": rfc3339(record.as_of),
        "items": record.items,
        "strategy": record.strategy,
        "score": record.options.get("score", ""),
        "consent": consent,
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


def _row(member: dict[str, Any], consent: str) -> tuple[Any, ...]:
    """A row of the file, up to the figures of propensity."""
    names = ("rank", "user_id", "probability", "reason")
    runners_up = "|".join(json.loads(member["runners_up"] or "[]"))
    return (*(member[name] for name in names), consent, member["score"], member["best_item"], runners_up)


def _parts(data: dict[str, Any], rows: Sequence[tuple[Any, ...]]) -> list[Table | str]:
    title = f"Audience {data['audience_id']}: the first of {data['members']} users, ranked by {data['strategy']}"
    return [
        Table(title, COLUMNS, rows[:_SHOWN]),
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
