"""What strategies may know beside a user's history: prices and stock as they changed, rhythms, spend, seeds.

Each fact is computed on first use, so a strategy pays for its own alone. Shapes: U users, B users in a block, I items.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.audience import propensity
from recsys.audience.features import Block, Float64
from recsys.audience.inputs import Campaign, Inputs
from recsys.audience.lookalikes import Likeness, learn_likeness
from recsys.audience.model import NEVER_SEEN, BuyingModel, Shop
from recsys.audience.suppression import Directory, find_users
from recsys.bundle.versions import earlier_availability
from recsys.data.arrays import Bool, Int32
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import ConfigError, RefusedError
from recsys.related.repeats import GAP
from recsys.serving.propensity import FIGURES

CART = "cart"  # the kind of an event that puts an item into the cart
_USUAL_GAP_DAYS = 60.0  # between two purchases, where the shop cannot tell
_COMPANIONS = 20  # items that stand for what goes with the targets, where the campaign names none


@dataclass(frozen=True)
class Facts:
    """The campaign's targets, and what is known of items and users at its moment."""

    inputs: Inputs
    campaign: Campaign
    shop: Shop
    items: Int32  # the targets; none: anything
    model: BuyingModel
    deleted: Bool  # [U]

    @property
    def recent_days(self) -> float:
        """How long ago the occasion of a strategy may lie."""
        return self.campaign.recent_days

    @property
    def now(self) -> int:
        """The moment from which ages in histories count, in microseconds UTC."""
        return min(self.campaign.as_of, self.shop.known_until)

    @cached_property
    def is_target(self) -> Bool:
        """[I]: whether the mailing is about an item."""
        return self._mark(self.items) if len(self.items) else np.ones(len(self.inputs.bundle.catalog), np.bool_)

    @cached_property
    def cart_codes(self) -> list[int]:
        """The codes of events that put items into the cart. Raises RefusedError when the shop has none."""
        found = self.inputs.bundle.codes_of([CART])
        if not found:
            kinds = ", ".join(self.inputs.bundle.kinds)
            raise RefusedError(f"there are no events of the kind {CART!r}; the live bundle knows {kinds}")
        return found

    @cached_property
    def drops(self) -> Float64:
        """[I]: by what share of it the price fell within the recent days; 0: it did not."""
        return self._drops[0]

    @cached_property
    def days_since_drop(self) -> Float64:
        """[I]: days since the last change of the price; infinite where there was none lately."""
        return self._drops[1]

    @cached_property
    def _drops(self) -> tuple[Float64, Float64]:
        count, changes = len(self.inputs.bundle.catalog), self.inputs.bundle.prices
        shares, ages = np.zeros(count), np.full(count, np.inf)
        if changes is None or not len(changes):
            return shares, ages
        since = self.now - round(self.recent_days * MICROSECONDS_PER_DAY)
        inside = (changes.times > since) & (changes.times <= max(self.now, self.campaign.as_of))
        rows, first = np.unique(changes.rows[inside], return_index=True)
        last = np.append(first[1:], np.count_nonzero(inside)) - 1 if len(rows) else first
        former, current = changes.former[inside][first], changes.current[inside][last]
        shares[rows] = np.where(former > 0, np.maximum(1 - current / np.where(former > 0, former, 1), 0), 0)
        ages[rows] = np.maximum(self.now - changes.times[inside][last], 0) / MICROSECONDS_PER_DAY
        return shares, ages

    @cached_property
    def is_restocked(self) -> Bool:
        """[I]: whether an item is available now, and was sold out at a training of the recent days.

        Only bundles that are still kept are known. Raises RefusedError when none of those days is.
        """
        since = self.inputs.bundle.manifest["created_at"] - round(self.recent_days * MICROSECONDS_PER_DAY)
        bundle = self.inputs.bundle
        earlier = earlier_availability(self.inputs.config.storage.path, bundle, since)
        if not earlier:
            raise RefusedError(
                f"no bundle of the {self.recent_days:g} days before {bundle.version} says what was available then "
                "([storage] keep_bundles; the catalog needs the column available)"
            )
        sold_out = np.any([~one for one in earlier], axis=0)
        available = np.array(bundle.catalog.columns.column("available").to_pylist()) == True  # noqa: E712  an array
        return np.asarray(available & sold_out, np.bool_)

    @cached_property
    def usual_gap_days(self) -> float:
        """Days between two purchases of a user, as is usual in the shop."""
        purchases = self.shop.purchases.before(self.campaign.as_of)
        days = np.unique(purchases.users.astype(np.int64) * 2**17 + purchases.times // MICROSECONDS_PER_DAY)
        gaps = np.diff(days)[np.diff(days >> 17) == 0]
        return float(np.expm1(np.log1p(gaps).mean())) if len(gaps) else _USUAL_GAP_DAYS

    @cached_property
    def item_gap_days(self) -> Float64:
        """[I]: days until buyers of an item usually buy it again."""
        related = self.inputs.bundle.related
        found = np.zeros(0) if related is None else np.asarray(related.repeats.items[:, GAP], np.float64)
        gaps = np.full(len(self.inputs.bundle.catalog), _USUAL_GAP_DAYS)
        gaps[: len(found)] = np.where(found > 0, found, _USUAL_GAP_DAYS)
        return gaps

    @cached_property
    def is_owned(self) -> Bool:
        """[I]: the items of which somebody bought one whom cross-selling means.

        Those that the campaign names, else what is most often in one basket with the targets. Raises ConfigError when
        neither says anything.
        """
        ids, related = self.inputs.bundle.catalog.ids, self.inputs.bundle.related
        if self.campaign.owned:
            rows = ids.rows_of(self.campaign.owned)
            if (rows < 0).any():
                unknown = [item for item, row in zip(self.campaign.owned, rows, strict=True) if row < 0]
                raise ConfigError(f"--bought: {', '.join(map(repr, unknown[:20]))} are not in the live bundle")
            return self._mark(rows)
        found = np.zeros(0, np.int32) if related is None else related.bought_together.of(self.items)[0][:_COMPANIONS]
        if not len(found):
            raise ConfigError(
                "cross_sell: --bought has to say what its members have bought; no basket says what goes with the items"
            )
        return self._mark(found)

    @cached_property
    def spend(self) -> Float64:
        """[U]: what each user has spent before the moment; a purchase without a value counts 0."""
        purchases = self.shop.purchases.before(self.campaign.as_of)
        sums = np.bincount(purchases.users, np.nan_to_num(purchases.values), purchases.user_count)
        return np.asarray(sums, np.float64)

    @cached_property
    def first_seen_days(self) -> Float64:
        """[U]: days since each user's first event; 0 where there is none, negative where it came later."""
        days = (self.now - self.shop.first_seen.astype(np.float64)) / MICROSECONDS_PER_DAY
        return np.where(self.shop.first_seen == NEVER_SEEN, 0.0, days)

    @cached_property
    def seeds(self) -> Bool:
        """[U]: the users whom the members are to be like. Raises ConfigError without a list."""
        if self.campaign.seeds is None:
            raise ConfigError("lookalikes: --seeds has to name a file of users whom the members are to be like")
        users, people = self.inputs.users, self.inputs.people
        directory = Directory(users, people)
        found = find_users(users, [user for entry in self.campaign.seeds.entries for user in directory.find(entry)])
        return found & ~self.deleted

    @cached_property
    def likeness(self) -> Likeness:
        """How like the seeds a user is. Raises RefusedError when too few of them have a history."""
        return learn_likeness(
            self.shop, self.inputs.bundle.vectors, self.seeds, self.campaign.as_of, self.inputs.config.training.seed
        )

    def expected(self, block: Block) -> dict[str, Float64]:
        """The figures of propensity [B] of the window nearest to that of the probabilities, NaN where unknown.

        Raises RefusedError when the live bundle has none.
        """
        windows = propensity.windows_of(self.inputs)
        if not windows:
            raise RefusedError("the live bundle does not know who buys again; `recsys train` learns it")
        nearest = min(windows, key=lambda window: abs(window - self.model.window.days))
        found = propensity.expected(self.inputs, self.inputs.users.ids_of(block.rows), self.campaign.as_of)
        return {name: found[f"{name}_{nearest}"] for name in FIGURES}

    def _mark(self, rows: Int32) -> Bool:
        marked = np.zeros(len(self.inputs.bundle.catalog), np.bool_)
        marked[rows] = True
        return marked
