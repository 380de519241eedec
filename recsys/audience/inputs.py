"""What an audience is drawn from, and the campaign that asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.audience.model import NEVER_SEEN, Shop, first_seen, purchases_of
from recsys.audience.sizes import Size
from recsys.audience.suppression import SuppressionList
from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Bool, Int64
from recsys.data.extract import Extract, open_extract
from recsys.data.interactions import Histories
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RefusedError
from recsys.serving.fresh_items import CatalogView
from recsys.serving.history import EventLog, events_of
from recsys.serving.propensity import trained_until
from recsys.source.people import consent_of, read_people
from recsys.store.changes import NewEvents, read_changes
from recsys.store.database import Store

_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Rules:
    """Who must not be mailed, beside those without consent and those on the lists of the configuration."""

    suppressed: tuple[SuppressionList, ...] | None = None  # None: no file was given
    allow_empty_suppression: bool = False
    user_filters: tuple[str, ...] = ()  # who does not meet them all; on columns of the users, in the catalog's grammar
    max_contacts: int | None = None  # who had so many mails within contact_days; None: as [audience] says
    contact_days: float | None = None
    contacts: tuple[pl.DataFrame, ...] = ()  # mails beside those of [source] contacts: user_id, at


@dataclass(frozen=True)
class Campaign:
    """What was asked for."""

    items: tuple[str, ...]  # sorted; none: the mailing is about anything
    size: Size
    as_of: int  # microseconds UTC
    strategy: str  # a key of STRATEGIES
    exclude_past_buyers: bool
    rules: Rules
    conditions: tuple[str, ...] = ()  # on what is expected of a user, as given, sorted
    bought_within_days: float | None = None  # who bought one of the items so recently is left out
    min_purchases: int = 0  # who has fewer is left out
    min_events: int = 0  # the same of events of any kind
    recent_days: float = (
        30.0  # how long ago a strategy's occasion may lie: a cart, a look, a lower price, a first visit
    )
    owned: tuple[str, ...] = ()  # for cross_sell: who bought one of these
    seeds: SuppressionList | None = None  # for lookalikes: whom the members are to be like


@dataclass(frozen=True)
class Inputs:
    """What audiences are drawn from. User rows U are those of `users`, item rows the bundle's."""

    config: Config
    store: Store
    bundle: Bundle
    extract: Extract
    fresh: NewEvents  # what the own tables have received since the extract
    people: pl.DataFrame | None  # the users as the shop knows them now; None: it has no query of users

    @cached_property
    def users(self) -> Vocabulary:
        """All known users [U]: those of the extract in its order, then those whom only the query of users knows."""
        return all_users(self.extract, self.people)

    @property
    def trained_until(self) -> int:
        """The moment up to which training has seen the events, in microseconds UTC.

        Newer events count as history. They set no level: an event or two say nothing of how much the shop sells.
        """
        return trained_until(self.bundle, self.extract)

    def consent_of(self, user_ids: Sequence[str]) -> pa.BooleanArray | None:
        """Whether each of the users may be mailed now: true, false, or null where unknown. [B] -> [B].

        None when the shop has no consent of any user.
        """
        if self.people is None or self.people["email_consent"].null_count() == self.people.height:
            return None
        return consent_of(self.people, pl.Series(user_ids, dtype=pl.String))


def open_inputs(config: Config, store: Store) -> Inputs:
    """Open the live bundle and the extract, and read the events since and the users.

    Raises BundleError, NotFoundError, SourceError.
    """
    bundle, extract = bundles.load(config.storage.path), open_extract(config.storage.path)
    since, known = extract.complete_until, extract.recent or ()
    people = read_people(config, store)
    everybody = list(all_users(extract, people))
    changes = read_changes(store, everybody, received_after=since, known=known, occurred_before=_FOREVER)
    return Inputs(config, store, bundle, extract, changes.events, people)


def all_users(extract: Extract, people: pl.DataFrame | None) -> Vocabulary:
    """The users of the extract in its order, then those whom only the query of users knows."""
    if people is None:
        return extract.users
    known = pl.Series(list(extract.users), dtype=pl.String)
    others = people["user_id"].filter(~people["user_id"].is_in(known.implode()))
    return Vocabulary.from_ids([*known, *others]) if len(others) else extract.users


def check_lag(inputs: Inputs, as_of: int) -> None:
    """Raises RefusedError when the moment lies too far behind what training has seen: the level would be a guess."""
    lag = (as_of - inputs.trained_until) / MICROSECONDS_PER_DAY
    allowed = inputs.config.audience.max_lag_days
    if lag > allowed:
        raise RefusedError(
            f"the moment {rfc3339(as_of)} lies {lag:.1f} days after {rfc3339(inputs.trained_until)}, up to which the "
            f"live bundle {inputs.bundle.version} has seen events; at most {allowed:g} days are allowed ([audience] "
            "max_lag_days). `recsys train` brings both together; --as-of asks for an earlier moment"
        )


def newest_moment(inputs: Inputs) -> int:
    """Just after the newest known event, in microseconds UTC."""
    now = inputs.store.now()
    return max([inputs.extract.as_of, *(time + 1 for time in inputs.fresh.times if time < now)])


def build_shop(inputs: Inputs, deleted: Bool) -> Shop:
    """Translate the extract to the rows of the bundle, without the deleted users [U].

    Users whom the extract does not know have no purchase, and a history only of what was posted since.
    """
    extract, config, bundle = inputs.extract, inputs.config, inputs.bundle
    log, view, bought_codes = EventLog.of(extract, bundle, config), CatalogView(bundle), bundle.codes_of(config.bought)
    purchases = purchases_of(extract.events, log.rows, len(bundle.catalog), extract.codes_of(config.bought))

    def histories_at(users: Int64, as_of: int) -> Histories:
        ids, length = inputs.users.ids_of(users), config.events.history_length
        found = events_of(log, view, inputs.fresh, ids, as_of)
        histories = found.histories(len(ids), min(as_of, extract.as_of), length, bought_codes)
        return replace(histories, ages_days=np.maximum(histories.ages_days, np.float32(0)))

    further = len(inputs.users) - len(extract.users)
    seen = np.concatenate([first_seen(extract.events), np.full(further, NEVER_SEEN)])
    padded = replace(purchases, offsets=np.pad(purchases.offsets, (0, further), mode="edge"))
    return Shop(
        first_seen=np.where(deleted, NEVER_SEEN, seen),
        purchases=padded.select(~deleted[padded.users]),
        histories_at=histories_at,
        bought_codes=tuple(bought_codes),
        known_until=extract.as_of,
    )
