"""Campaign in, frozen audience out: the same arguments give the same members again, as of the same moment."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.audience_files import check_place, read_suppression, spellings, write_csv
from jobs.commands import open_configured
from jobs.show import Output, Report, Table
from recsys import bundle as bundles
from recsys.audience import STRATEGIES, Member, rank, rows_among, take_out
from recsys.audience_model import (
    NEVER_SEEN,
    BuyingModel,
    Scores,
    Shop,
    first_seen,
    learn,
    learning_window,
    purchases_of,
    score,
)
from recsys.audience_signals import Bool
from recsys.bundle import Bundle
from recsys.config import Config
from recsys.data import Histories, Int32, Int64
from recsys.errors import BundleError, ConfigError, NotFoundError, RefusedError
from recsys.extract import Extract, histories_with, open_extract
from recsys.source import read_consent
from recsys.store import Store
from recsys.store_audiences import AudienceRecord

_SHOWN = 5
_LISTED = 20  # unknown ids that an error lists
_DIGITS = 9  # of a probability: beyond them the order would be that of rounding errors
_NO_CONSENT = "users who did not consent"
_UNKNOWN_CONSENT = "users of whom no consent is known"


@dataclass(frozen=True)
class Campaign:
    """What was asked for."""

    items: tuple[str, ...]  # sorted
    size: int
    as_of: int  # microseconds UTC
    strategy: str
    exclude_past_buyers: bool
    suppressed: tuple[str, ...] | None  # None: no file was given

    def options(self, config: Config) -> dict[str, Any]:
        """What beside items, size, moment and strategy decides about the members."""
        digest = None if self.suppressed is None else _digest(sorted(self.suppressed))
        return {
            "exclude_past_buyers": self.exclude_past_buyers,
            "suppressed": digest,
            "targets": list(config.evaluation.targets),
            "history_length": config.events.history_length,
            "seed": config.training.seed,
        }


def audience(
    config: Config,
    *,
    items: Sequence[str],
    size: int,
    out: Path,
    as_of: str | None = None,
    strategy: str = "affinity",
    exclude_past_buyers: bool = False,
    suppress: Path | None = None,
    report: Report,
) -> Output:
    """Rank the users who may be mailed for the items, freeze the audience, and write it as CSV.

    as_of: ISO 8601, UTC where it names no zone; None: just after the newest event of the extract. The same arguments on
    the same bundle return the audience that was frozen, without those who were deleted or withdrew their consent since.
    Raises NotFoundError for unknown items or strategy, RefusedError when nobody may be mailed.
    """
    check_place(out)
    if strategy not in STRATEGIES:
        raise NotFoundError(f"there is no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    report("load", 0.0)
    bundle, extract, store = bundles.load(config.folder.path), open_extract(config.folder.path), open_configured(config)
    campaign = Campaign(
        items=tuple(sorted(set(items))),
        size=size,
        as_of=_moment(as_of, extract, store),
        strategy=strategy,
        exclude_past_buyers=exclude_past_buyers,
        suppressed=None if suppress is None else tuple(read_suppression(suppress)),
    )
    rows = _item_rows(campaign, bundle)
    report("load", 1.0)
    draft = _draft(campaign, bundle, config)
    found = store.find_audience(draft.audience_id)
    if found is None:
        store.save_audience(*_draw(draft, campaign, rows, bundle, extract, store, config, report), report=report)
    record = store.find_audience(draft.audience_id)
    assert record is not None
    members = store.audience_members(record.audience_id)
    members, withdrawn = _still_consenting(members, config, store) if found else (members, 0)
    return _deliver(record, members, withdrawn, out, was_frozen=found is not None)


def _moment(text: str | None, extract: Extract, store: Store) -> int:
    """The moment asked for in microseconds UTC. Raises ConfigError when it is none, or lies in the future."""
    if text is None:
        return extract.as_of
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--as-of {text!r} is no time; allowed is ISO 8601 as 2026-11-23 or 2026-11-23T08:00Z"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    microseconds = (moment - datetime.fromtimestamp(0, UTC)) // datetime.resolution
    if microseconds > max(store.now(), extract.as_of):
        raise ConfigError(f"--as-of {text} lies in the future; the newest event is of {_time(extract.as_of)}")
    return microseconds


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


def _draft(campaign: Campaign, bundle: Bundle, config: Config) -> AudienceRecord:
    """The audience as it will be found again, before anybody is in it."""
    draft = AudienceRecord(
        audience_id="",
        as_of=campaign.as_of,
        items=list(campaign.items),
        size=campaign.size,
        strategy=campaign.strategy,
        options=campaign.options(config),
        bundle=bundle.version,
        consent=config.audience.consent,
        window_days=0.0,
        eligible=0,
        left_out={},
        warnings=[],
    )
    return replace(draft, audience_id=_digest(vars(draft)))


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _draw(
    draft: AudienceRecord,
    campaign: Campaign,
    items: Int32,
    bundle: Bundle,
    extract: Extract,
    store: Store,
    config: Config,
    report: Report,
) -> tuple[AudienceRecord, pa.Table]:
    """The audience, chosen now. Raises RefusedError when nobody is eligible."""
    deleted, _ = rows_among(extract.users, store.deletions())
    left_out: dict[str, int] = {}
    eligible = _mailable(deleted, campaign, extract, store, config, left_out)
    shop = _shop(deleted, bundle, extract, store, config)
    model = _learn(shop, bundle, extract, campaign.as_of, config, report)
    rows = np.flatnonzero(eligible)
    scores = score(model, shop, bundle.vectors, rows, items, campaign.as_of, report=report)
    chosen = take_out(np.ones(len(rows), np.bool_), left_out, "users without a history", ~scores.has_history)
    if campaign.exclude_past_buyers:
        chosen = take_out(chosen, left_out, "past buyers", scores.bought_days > 0)
    _refuse_nobody(int(chosen.sum()), len(extract.users), left_out)
    strategy = STRATEGIES[campaign.strategy]
    some = _only(scores, chosen)
    members = rank(some, extract.users, rows[chosen], campaign.size, strategy, config.training.seed)
    record = replace(
        draft,
        window_days=model.window.days,
        eligible=int(chosen.sum()),
        left_out=left_out,
        warnings=_warnings(campaign, model, extract, bundle, len(members)),
    )
    return record, _table_of(members)


def _mailable(
    deleted: Bool, campaign: Campaign, extract: Extract, store: Store, config: Config, left_out: dict[str, int]
) -> Bool:
    """Which users [U] may be mailed at all, and how many may not for which reason."""
    consent = read_consent(config, store, list(extract.users))
    assumed = config.audience.consent == "assumed"
    if consent is None and not assumed:
        raise RefusedError(
            "nobody is eligible: there is no consent data. Let [source] users return email_consent, import users with "
            'that column, or, if all consented elsewhere, set [audience] consent = "assumed"; every output then says so'
        )
    eligible = take_out(np.ones(len(extract.users), np.bool_), left_out, "deleted users", deleted)
    if consent is not None:
        said_no = np.asarray(consent.fill_null(True).to_numpy(zero_copy_only=False)) == 0
        eligible = take_out(eligible, left_out, _NO_CONSENT, said_no)
        if not assumed:
            said_nothing = np.asarray(consent.is_null().to_numpy(zero_copy_only=False), np.bool_)
            eligible = take_out(eligible, left_out, _UNKNOWN_CONSENT, said_nothing)
    if campaign.suppressed is not None:
        among, _ = rows_among(extract.users, (s for name in campaign.suppressed for s in spellings(name)))
        eligible = take_out(eligible, left_out, "suppressed users", among)
    _refuse_nobody(int(eligible.sum()), len(extract.users), left_out)
    return eligible


def _refuse_nobody(eligible: int, users: int, left_out: dict[str, int]) -> None:
    if eligible == 0:
        raise RefusedError(f"nobody is eligible; of {users} users were left out: {_listed(left_out)}")


def _shop(deleted: Bool, bundle: Bundle, extract: Extract, store: Store, config: Config) -> Shop:
    """The extract in the rows of the bundle, without deleted users."""
    item_rows = bundle.catalog.ids.rows_of(list(extract.items))
    codes = [extract.kinds.index(kind) for kind in config.evaluation.targets if kind in extract.kinds]
    purchases = purchases_of(extract.events, item_rows, len(bundle.catalog), codes)
    fresh = store.new_events(
        list(extract.users), [], received_after=extract.watermark, occurred_before=np.iinfo(np.int64).max
    )

    def past(users: Int64, as_of: int) -> Histories:
        ids, length = extract.users.ids_of(users), config.events.history_length
        histories = histories_with(extract, fresh, ids, as_of, length, visitor_ids=[None] * len(ids))
        return histories.map_items(item_rows)

    return Shop(
        first_seen=np.where(deleted, NEVER_SEEN, first_seen(extract.events)),
        purchases=purchases.select(~deleted[purchases.users]),
        past=past,
        target_codes=tuple(codes),
    )


def _learn(shop: Shop, bundle: Bundle, extract: Extract, as_of: int, config: Config, report: Report) -> BuyingModel:
    """The probabilities, learnt from the days that the bundle's pre-refit vectors have not seen."""
    if bundle.evaluation is None:
        raise BundleError(f"the bundle {bundle.version} has no vectors from before its refit; `recsys train` makes one")
    days = bundle.manifest["configuration"]["evaluation"]["holdout_days"]
    window = learning_window(extract.events, as_of, days)
    return learn(shop, bundle.evaluation, window, seed=config.training.seed, report=report)


def _only(scores: Scores, chosen: Bool) -> Scores:
    rounded = replace(scores, probability=np.round(scores.probability, _DIGITS))
    return Scores(**{name: values[chosen] for name, values in vars(rounded).items()})


def _warnings(campaign: Campaign, model: BuyingModel, extract: Extract, bundle: Bundle, members: int) -> list[str]:
    found = []
    if members < campaign.size:
        found.append(f"only {members} of the {campaign.size} users asked for are eligible")
    if campaign.as_of < extract.as_of:
        found.append(
            f"the moment asked for lies before the newest event, of {_time(extract.as_of)}, from which the bundle has "
            "learnt: the probabilities are flattered"
        )
    asked = bundle.manifest["configuration"]["evaluation"]["holdout_days"]
    if model.window.days < asked - 0.5:
        found.append(
            f"the probabilities hold for {model.window.days:.1f} days instead of {asked:g}: a window is at most a "
            "fifth of the time that the events span"
        )
    if campaign.suppressed is not None:
        among = [any(extract.users.row_of(s) >= 0 for s in spellings(name)) for name in campaign.suppressed]
        if unknown := among.count(False):
            found.append(f"{unknown} of the {len(among)} ids of the suppression file are no user's")
    return found


def _table_of(members: list[Member]) -> pa.Table:
    return pa.table(
        {
            "user_id": [member.user_id for member in members],
            "rank": [member.rank for member in members],
            "probability": [member.probability for member in members],
            "reason": [member.reason for member in members],
        }
    )


def _still_consenting(members: pa.Table, config: Config, store: Store) -> tuple[pa.Table, int]:
    """The members who may still be mailed, and how many may not any more."""
    consent = read_consent(config, store, members["user_id"].to_pylist())
    assumed = config.audience.consent == "assumed"
    if consent is None:
        consent = pa.nulls(members.num_rows, pa.bool_())
    kept = members.filter(consent.fill_null(assumed))
    if kept.num_rows == 0:
        raise RefusedError(
            f"nobody of the frozen audience may be mailed: no consent is known of {members.num_rows} members"
        )
    return kept, members.num_rows - kept.num_rows


def _deliver(record: AudienceRecord, members: pa.Table, withdrawn: int, out: Path, *, was_frozen: bool) -> Output:
    consent = "assumed" if record.consent == "assumed" else "given"
    rows = [(*row.values(), consent) for row in members.to_pylist()]
    guarded = write_csv(out, rows)
    warnings = list(record.warnings)
    if consent == "assumed":
        warnings.append('consent is assumed, not known: [audience] consent = "assumed"')
    if withdrawn:
        warnings.append(f"{withdrawn} members withdrew their consent since and are not in the file")
    if guarded:
        warnings.append(f"{guarded} ids begin as a formula would; in the file an apostrophe stands before them")
    expected = float(sum(members["probability"].to_pylist()))
    data = {
        "audience_id": record.audience_id,
        "frozen": "before" if was_frozen else "now",
        "created_at": _time(record.created_at),
        "as_of": _time(record.as_of),
        "items": record.items,
        "strategy": record.strategy,
        "consent": consent,
        "bundle": record.bundle,
        "size": record.size,
        "eligible": record.eligible,
        "members": len(rows),
        "expected_buyers": round(expected, 2),
        "window_days": round(record.window_days, 2),
        "left_out": record.left_out,
        "withdrawn": withdrawn,
        "warnings": warnings,
        "out": str(out),
    }
    return Output(data, _parts(data, rows))


def _parts(data: dict[str, Any], rows: Sequence[tuple[Any, ...]]) -> list[Table | str]:
    title = f"Audience {data['audience_id']}: the first of {data['members']} users, ranked by {data['strategy']}"
    return [
        Table(title, ("rank", "user_id", "probability", "reason", "consent"), rows[:_SHOWN]),
        f"as of {data['as_of']}, from {data['bundle']}, frozen {data['frozen']}",
        f"left out: {_listed(data['left_out'])}; eligible {data['eligible']}",
        f"expected buyers within {data['window_days']:g} days: {data['expected_buyers']:.1f}",
        *(f"warning: {warning}" for warning in data["warnings"]),
        f"written to {data['out']}",
    ]


def _listed(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "nobody"


def _time(microseconds: int) -> str:
    """A time that --as-of takes back."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest).isoformat().replace("+00:00", "Z")
