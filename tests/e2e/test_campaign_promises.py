"""Months of random campaigns: nobody who must not be mailed ever is, and reasons add up to all users."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from road import configured
from test_campaign import opened
from tiny import DAY, quiet

from recsys.audience.draw import draw, learn_model
from recsys.audience.eligible import check_people, keep_mailable
from recsys.audience.inputs import Campaign, Inputs, Rules, build_shop, newest_moment, open_inputs
from recsys.audience.sizes import parse_size
from recsys.audience.strategies import STRATEGIES
from recsys.audience.suppression import SuppressionList
from recsys.errors import RefusedError
from recsys.source.lists import CONTACTS
from recsys.store.audiences import AudienceRecord
from recsys.store.database import Store

UNAVAILABLE = ("churn_risk", "high_value", "lookalikes", "back_in_stock")  # need more than this shop has
DRAFT = AudienceRecord("a", 0, [], 0, "affinity", {}, "", "required", 0.0, 0, {}, [])
MONTHS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "strategy": st.sampled_from([name for name in STRATEGIES if name not in UNAVAILABLE]),
        "size": st.sampled_from(["1", "40", "5000", "3%", "60%", "buyers:2", "profit:30:1"]),
        "items": st.sampled_from([(), ("P00207",), ("P00207", "P00288", "P00100")]),
        "filters": st.sampled_from([(), ("country:in:DE,AT",), ("country:exists:true",)]),
        "exclude_past_buyers": st.booleans(),
        "min_purchases": st.integers(0, 2),
        "days": st.integers(1, 40),
    }
)


@dataclass
class World:
    """What the shop knows of people, and what it did; changed by chance."""

    everybody: list[str]
    countries: dict[str, str | None]
    consent: dict[str, bool | None]
    now: int
    lists: dict[str, set[str]] = field(default_factory=lambda: {"unsubscribed": set(), "bounced": set()})
    mails: list[tuple[str, int]] = field(default_factory=list)
    deleted: dict[str, int] = field(default_factory=dict)

    def shake(self, random: np.random.Generator) -> None:
        """Some people change their mind, bounce, leave the query, or are deleted."""
        some = [str(user) for user in random.choice(self.everybody, int(random.integers(0, 200)))]
        for user in some:
            match int(random.integers(7)):
                case 0 | 1 | 2:
                    self.consent[user] = (True, False, None)[int(random.integers(3))]
                case 3:
                    self.lists["unsubscribed"].add(user)
                case 4:
                    self.lists["bounced"].add(f"{user}@x.com")
                case 5:
                    self.consent.pop(user, None)
                case _:
                    self.deleted[user] = self.now

    def people(self) -> pl.DataFrame:
        """The query of users, as it answers now."""
        users = list(self.consent)
        columns = {
            "user_id": users,
            "email_consent": [self.consent[user] for user in users],
            "country": [self.countries.get(user) for user in users],
            "email": [f"{user}@X.com" for user in users],
        }
        kinds = {"user_id": pl.String, "email_consent": pl.Boolean, "country": pl.String, "email": pl.String}
        return pl.DataFrame(columns, schema=kinds)

    def allows(self, user: str, filters: tuple[str, ...], cap: int, days: float) -> bool:
        """Whether a user may be mailed, by the plainest reading of the rules."""
        recent = [at for whom, at in self.mails if whom == user and at > self.now - days * DAY]
        country = self.countries.get(user)
        listed = user in self.lists["unsubscribed"] or f"{user}@x.com" in self.lists["bounced"]
        here = {"country:in:DE,AT": country in ("DE", "AT"), "country:exists:true": country is not None}
        met = all(here[one] for one in filters)
        return self.consent.get(user) is True and not listed and user not in self.deleted and len(recent) < cap and met


@pytest.fixture(scope="module")
def shop(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inputs, Any]]:
    """A trained shop, and what was learned of who buys: the same in every month."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("promises") / "shop"))
    (folder / "recsys-data" / "SHOP").unlink(missing_ok=True)
    config = configured(folder, RECSYS_AUDIENCE__MAX_UNKNOWN_SHARE="1.0")
    with closing(opened(config)) as store:
        inputs = open_inputs(config, store)
        nobody = np.zeros(len(inputs.users), np.bool_)
        yield inputs, learn_model(inputs, build_shop(inputs, nobody), newest_moment(inputs), quiet)


def live_through(shop: tuple[Inputs, Any], months: list[dict[str, Any]], cap: int, cap_days: float) -> None:
    """One campaign a month; each audience is written a while after it was frozen, and mailed."""
    inputs, model = shop
    assert inputs.people is not None
    given_people = inputs.people.select("user_id", "email_consent", "country").rows()
    world = World(
        everybody=sorted({*inputs.extract.users, *(user for user, _, _ in given_people), "new1", "new2"}),
        countries={user: country for user, _, country in given_people} | {"new1": "DE"},
        consent={user: consent for user, consent, _ in given_people} | {"new1": True},
        now=inputs.store.now(),
    )
    patches: dict[str, Callable[..., Any]] = {
        "recsys.audience.eligible.read_lists": lambda *_: {n: [(one,) for one in of] for n, of in world.lists.items()},
        "recsys.audience.eligible.read_contacts": lambda *_: pl.DataFrame(world.mails, schema=CONTACTS, orient="row"),
        "recsys.audience.eligible.read_deletions": lambda *_: world.deleted,
        "recsys.audience.draw.read_deletions": lambda *_: world.deleted,
        "recsys.audience.draw.learn_model": lambda *_: model,
    }
    with ExitStack() as stack:
        for name, new in patches.items():
            stack.enter_context(patch(name, new))
        stack.enter_context(patch.object(Store, "now", lambda _: world.now))
        for month in months:
            random = np.random.default_rng(month["seed"])
            world.now += month["days"] * DAY
            world.shake(random)
            _mail(inputs, world, month, random, cap, cap_days)
    for user in {whom for whom, _ in world.mails}:
        times = np.sort([at for whom, at in world.mails if whom == user])
        within = np.searchsorted(times, times + cap_days * DAY) - np.arange(len(times))
        assert within.max() <= cap


def _mail(
    inputs: Inputs, world: World, month: dict[str, Any], random: np.random.Generator, cap: int, days: float
) -> None:
    if month["strategy"] == "cross_sell" and not month["items"]:
        return  # nothing goes with anything
    unwanted = {str(user) for user in random.choice(world.everybody, 20)}
    rules = Rules(
        suppressed=(SuppressionList("file.txt", tuple((user,) for user in unwanted)),),
        allow_empty_suppression=True,
        user_filters=month["filters"],
        max_contacts=cap,
        contact_days=days,
    )
    campaign = Campaign(
        items=month["items"],
        size=parse_size(month["size"]),
        as_of=newest_moment(inputs),
        strategy=month["strategy"],
        exclude_past_buyers=month["exclude_past_buyers"],
        rules=rules,
        min_purchases=month["min_purchases"],
    )
    rows = inputs.bundle.catalog.ids.rows_of(campaign.items)
    now = replace(inputs, people=world.people())
    allowed = {user for user in world.everybody if world.allows(user, month["filters"], cap, days)} - unwanted
    try:
        record, members = draw(now, check_people(now, rules), campaign, rows, DRAFT, quiet)
    except RefusedError as error:
        if not any(told in str(error) for told in ("nobody is eligible", "expected to buy", "no mail pays")):
            raise
        return
    ids = members["user_id"].to_pylist()
    assert set(ids) <= allowed
    assert len(set(ids)) == len(ids) == min(record.size, record.eligible)
    assert members["rank"].to_pylist() == list(range(1, len(ids) + 1))
    assert min(record.left_out.values()) >= 0
    assert sum(record.left_out.values()) + record.eligible == len(now.users)
    if month["strategy"] == "random" and not (month["exclude_past_buyers"] or month["min_purchases"]):
        assert record.eligible == len(allowed) - record.left_out["users without a history"]
    world.shake(random)  # until the file is written
    later = replace(inputs, people=world.people())
    allowed = {user for user in world.everybody if world.allows(user, month["filters"], cap, days)}
    try:
        kept, gone = keep_mailable(members, len(ids), check_people(later, rules))
    except RefusedError:
        assert not set(ids) & allowed
        return
    assert set(kept["user_id"].to_pylist()) == set(ids) & allowed
    assert kept.num_rows + sum(gone.values()) == len(ids)
    world.mails += [(user, world.now) for user in kept["user_id"].to_pylist()]


@settings(max_examples=5, deadline=None)
@given(months=st.lists(MONTHS, min_size=2, max_size=3), cap=st.integers(1, 3), days=st.sampled_from([7.0, 30.0]))
def test_no_rule_is_broken_in_any_month(shop: tuple[Inputs, Any], months: Any, cap: int, days: float) -> None:
    live_through(shop, months, cap, days)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(months=st.lists(MONTHS, min_size=6, max_size=18), cap=st.integers(1, 4), days=st.sampled_from([1.0, 7.0, 60.0]))
def test_no_rule_is_broken_in_years(shop: tuple[Inputs, Any], months: Any, cap: int, days: float) -> None:
    live_through(shop, months, cap, days)
