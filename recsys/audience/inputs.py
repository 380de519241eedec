"""What an audience is drawn from, and the campaign that asks for it."""

from dataclasses import dataclass

import numpy as np

from recsys.audience.model import NEVER_SEEN, Shop, first_seen, purchases_of
from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Bool, Int64
from recsys.data.extract import Extract, histories_with, open_extract
from recsys.data.interactions import Histories, codes_in
from recsys.store.database import Store
from recsys.store.events import NewEvents, new_events

_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Campaign:
    """What was asked for."""

    items: tuple[str, ...]  # sorted
    size: int
    as_of: int  # microseconds UTC
    strategy: str  # a key of STRATEGIES
    exclude_past_buyers: bool
    suppressed: tuple[str, ...] | None  # ids that must not be mailed; None: no file was given


@dataclass(frozen=True)
class Inputs:
    """What audiences are drawn from. User rows U are the extract's, item rows the bundle's."""

    config: Config
    store: Store
    bundle: Bundle
    extract: Extract
    fresh: NewEvents  # what the own tables have received since the extract


def open_inputs(config: Config, store: Store) -> Inputs:
    """Open the live bundle and the extract, and read the events since. Raises BundleError, NotFoundError."""
    bundle, extract = bundles.load(config.storage.path), open_extract(config.storage.path)
    fresh = new_events(
        store, list(extract.users), [], received_after=extract.watermark, occurred_before=_FOREVER
    )  # for many users this returns everybody's
    return Inputs(config, store, bundle, extract, fresh)


def build_shop(inputs: Inputs, deleted: Bool) -> Shop:
    """Translate the extract to the rows of the bundle, without the deleted users [U]."""
    extract, config, bundle = inputs.extract, inputs.config, inputs.bundle
    targets = config.evaluation.targets
    item_rows = extract.items.rows_in(bundle.catalog.ids)
    codes = codes_in(extract.kinds, bundle.kinds)
    purchases = purchases_of(extract.events, item_rows, len(bundle.catalog), extract.codes_of(targets))

    def past(users: Int64, as_of: int) -> Histories:
        ids, length = extract.users.ids_of(users), config.events.history_length
        nobody = [None] * len(ids)
        histories = histories_with(extract, inputs.fresh, ids, as_of, length, visitor_ids=nobody, always=targets)
        return histories.translate(item_rows, codes)

    return Shop(
        first_seen=np.where(deleted, NEVER_SEEN, first_seen(extract.events)),
        purchases=purchases.select(~deleted[purchases.users]),
        past=past,
        target_codes=tuple(bundle.codes_of(targets)),
    )
