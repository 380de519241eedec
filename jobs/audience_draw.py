"""Who is in an audience: who may be mailed at all, how likely each of them buys, and the first of them by rank."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.audience_files import spellings
from jobs.output import Report
from recsys.audience.model import (
    NEVER_SEEN,
    BuyingModel,
    Scores,
    Shop,
    buyers_of,
    first_seen,
    learn,
    learning_window,
    purchases_of,
    score,
)
from recsys.audience.strategies import STRATEGIES, Member, rank, rows_among, take_out
from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Bool, Int32, Int64
from recsys.data.extract import Extract, open_extract
from recsys.data.interactions import Histories
from recsys.errors import BundleError, RefusedError
from recsys.serving.fresh_items import CatalogView
from recsys.serving.history import EventLog, events_of
from recsys.source.dataset import read_consent
from recsys.store.audiences import AudienceRecord
from recsys.store.changes import NewEvents, read_changes
from recsys.store.database import Store
from recsys.store.users import read_deletions

_DIGITS = 9  # of a probability: beyond them the order would be that of rounding errors
_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Inputs:
    """What audiences are drawn from. Users U are the extract's, items the bundle's."""

    config: Config
    store: Store
    bundle: Bundle
    extract: Extract
    fresh: NewEvents  # what the own tables have received since the extract


@dataclass(frozen=True)
class Campaign:
    """What was asked for."""

    items: tuple[str, ...]  # sorted
    size: int
    as_of: int  # microseconds UTC
    strategy: str
    exclude_past_buyers: bool
    suppressed: tuple[str, ...] | None  # None: no file was given


def open_ground(config: Config, store: Store) -> Inputs:
    """The live bundle, the extract and what came since. Raises BundleError, NotFoundError."""
    bundle, extract = bundles.load(config.storage.path), open_extract(config.storage.path)
    changes = read_changes(store, list(extract.users), received_after=extract.watermark, occurred_before=_FOREVER)
    return Inputs(config, store, bundle, extract, changes.events)


def draw(
    ground: Inputs, campaign: Campaign, items: Int32, draft: AudienceRecord, report: Report
) -> tuple[AudienceRecord, pa.Table]:
    """The audience, chosen now, and its members. Raises RefusedError when nobody is eligible."""
    users = ground.extract.users
    deleted, _ = rows_among(users, read_deletions(ground.store))
    left_out: dict[str, int] = {}
    eligible = _mailable(ground, campaign, deleted, left_out)
    shop = shop_of(ground, deleted)
    model = learn_for(ground, shop, campaign.as_of, report)
    rows = np.flatnonzero(eligible)
    scores = score(model, shop, ground.bundle.vectors, rows, items, campaign.as_of, report=report)
    chosen = take_out(np.ones(len(rows), np.bool_), left_out, "users without a history", ~scores.has_history)
    if campaign.exclude_past_buyers:
        # a history may be too short to show it, and the extract too old
        bought = buyers_of(shop.purchases, items, campaign.as_of)[rows] | (scores.bought_days > 0)
        chosen = take_out(chosen, left_out, "past buyers", bought)
    _refuse_nobody(int(chosen.sum()), len(users), left_out)
    some, seed = _only(scores, chosen), ground.config.training.seed
    members = rank(some, users, rows[chosen], campaign.size, STRATEGIES[campaign.strategy], seed)
    record = replace(
        draft,
        window_days=model.window.days,
        eligible=int(chosen.sum()),
        left_out=left_out,
        warnings=_warnings(ground, campaign, model, len(members)),
    )
    return record, _table_of(members)


def still_mailable(members: pa.Table, config: Config, store: Store) -> tuple[pa.Table, int]:
    """The members of a frozen audience who may be mailed now, and how many may not any more.

    Raises RefusedError when nobody may.
    """
    consent = read_consent(config, store, members["user_id"].to_pylist())
    if consent is None:
        consent = pa.nulls(members.num_rows, pa.bool_())
    kept = members.filter(consent.fill_null(config.audience.consent == "assumed"))
    if kept.num_rows == 0:
        raise RefusedError(
            f"nobody of the frozen audience may be mailed any more: of {members.num_rows} members who are left, no "
            "consent is known"
        )
    return kept, members.num_rows - kept.num_rows


def shop_of(ground: Inputs, deleted: Bool) -> Shop:
    """The extract in the rows of the bundle, without the deleted users [U]."""
    extract, settings = ground.extract, ground.config
    bundle, targets = ground.bundle, settings.evaluation.targets
    log, view = EventLog.of(extract, bundle), CatalogView(bundle)
    bought_codes = bundle.codes_of(targets)
    purchases = purchases_of(extract.events, log.rows, len(bundle.catalog), extract.codes_of(targets))

    def past(users: Int64, as_of: int) -> Histories:
        ids, length = extract.users.ids_of(users), settings.events.history_length
        return events_of(log, view, ground.fresh, ids, as_of).histories(len(ids), as_of, length, bought_codes)

    return Shop(
        first_seen=np.where(deleted, NEVER_SEEN, first_seen(extract.events)),
        purchases=purchases.select(~deleted[purchases.users]),
        past=past,
        target_codes=tuple(bought_codes),
    )


def learn_for(ground: Inputs, shop: Shop, as_of: int, report: Report) -> BuyingModel:
    """The probabilities, learnt from the days before `as_of` that the bundle's pre-refit vectors have not seen."""
    bundle = ground.bundle
    if bundle.evaluation is None:
        raise BundleError(f"the bundle {bundle.version} has no vectors from before its refit; `recsys train` makes one")
    window = learning_window(ground.extract.events, as_of, _holdout_days(bundle))
    return learn(shop, bundle.evaluation, window, seed=ground.config.training.seed, report=report)


def time_of(microseconds: int) -> str:
    """A time that --as-of takes back."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest).isoformat().replace("+00:00", "Z")


def listed(left_out: dict[str, int]) -> str:
    """Who was left out, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "nobody"


def _mailable(ground: Inputs, campaign: Campaign, deleted: Bool, left_out: dict[str, int]) -> Bool:
    """Which users [U] may be mailed at all, and how many may not for which reason."""
    users = ground.extract.users
    consent = read_consent(ground.config, ground.store, list(users))
    assumed = ground.config.audience.consent == "assumed"
    if consent is None and not assumed:
        raise RefusedError(
            "nobody is eligible: there is no consent data. Let [source] users return email_consent, import users with "
            'that column, or, if all consented elsewhere, set [audience] consent = "assumed"; every output then says so'
        )
    eligible = take_out(np.ones(len(users), np.bool_), left_out, "deleted users", deleted)
    if consent is not None:
        said_no = np.asarray(consent.fill_null(True).to_numpy(zero_copy_only=False)) == 0
        eligible = take_out(eligible, left_out, "users who did not consent", said_no)
        if not assumed:
            said_nothing = np.asarray(consent.is_null().to_numpy(zero_copy_only=False), np.bool_)
            eligible = take_out(eligible, left_out, "users of whom no consent is known", said_nothing)
    if campaign.suppressed is not None:
        among, _ = rows_among(users, (s for name in campaign.suppressed for s in spellings(name)))
        eligible = take_out(eligible, left_out, "suppressed users", among)
    _refuse_nobody(int(eligible.sum()), len(users), left_out)
    return eligible


def _refuse_nobody(eligible: int, users: int, left_out: dict[str, int]) -> None:
    if eligible == 0:
        raise RefusedError(f"nobody is eligible; of {users} users were left out: {listed(left_out)}")


def _only(scores: Scores, chosen: Bool) -> Scores:
    rounded = replace(scores, probability=np.round(scores.probability, _DIGITS))
    return Scores(**{name: values[chosen] for name, values in vars(rounded).items()})


def _holdout_days(bundle: Bundle) -> float:
    days: float = bundle.manifest["configuration"]["evaluation"]["holdout_days"]
    return days


def _warnings(ground: Inputs, campaign: Campaign, model: BuyingModel, members: int) -> list[str]:
    found = []
    if members < campaign.size:
        found.append(f"only {members} of the {campaign.size} users asked for are eligible")
    if campaign.as_of < ground.extract.as_of:
        found.append(
            f"the moment asked for lies before the newest event, of {time_of(ground.extract.as_of)}, from which the "
            "bundle has learnt: the probabilities are flattered"
        )
    asked = _holdout_days(ground.bundle)
    if model.window.days < asked - 0.5:
        found.append(
            f"the probabilities hold for {model.window.days:.1f} days instead of {asked:g}: a window is at most a "
            "fifth of the time that the events span"
        )
    if campaign.suppressed is not None:
        users = ground.extract.users
        among = [any(users.row_of(s) >= 0 for s in spellings(name)) for name in campaign.suppressed]
        if unknown := among.count(False):
            found.append(f"{unknown} of the {len(among)} ids of the suppression file are no user's")
    return found


def _table_of(members: list[Member]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        name: [getattr(member, name) for member in members] for name in ("user_id", "rank", "probability", "reason")
    }
    return pa.table(columns)
