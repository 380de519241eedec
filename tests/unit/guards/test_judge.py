"""Guards refuse a bad night and none that is as usual, and each bound of the configuration decides."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from guarded_shop import DAYS, FIRST, ITEMS, Rows, judged, night_of, nights_before, refused, shop

from recsys.config.settings import Config, GuardSettings
from recsys.data.times import MICROSECONDS_PER_DAY as DAY
from recsys.guards.bases import judge_beside
from recsys.guards.comparison import Known, compare
from recsys.guards.figures import Figures, form_of
from recsys.guards.judge import Night, expected_volume, judge
from recsys.guards.verdicts import softened

SHOP = shop()
END = (FIRST + DAYS) * DAY


def newest(days: float) -> np.ndarray:
    return SHOP.times >= END - round(days * DAY)


def some(share: float) -> np.ndarray:
    return np.random.default_rng(1).random(len(SHOP.times)) < share


def of_catalog(**columns: list[object]) -> Rows:
    return replace(SHOP, catalog={**SHOP.catalog, **columns})


def random_events(count: int, *, days: float = DAYS, **columns: int) -> Rows:
    random = np.random.default_rng(2)
    found = {
        "users": random.integers(0, len(SHOP.user_ids), count).astype(np.int32),
        "items": random.integers(0, ITEMS, count).astype(np.int32),
        "kinds": random.integers(0, 3, count).astype(np.int8),
        "times": END - random.integers(1, round(days * DAY), count),
    }
    found |= {name: np.full(count, value, found[name].dtype) for name, value in columns.items()}
    return SHOP.plus(replace(SHOP, **found))


def catalog_of(rows: int) -> Rows:
    return replace(SHOP, catalog={name: column[:rows] for name, column in SHOP.catalog.items()})


FAULTS: dict[str, tuple[Callable[[], Rows], str]] = {
    "everything is sold out": (lambda: of_catalog(available=[False] * ITEMS), "available items"),
    "the catalog query returns 30 items": (lambda: catalog_of(30), "catalog size"),
    "half of all orders are gone": (lambda: SHOP.keep((SHOP.kinds != 2) | some(0.5)), "past purchase"),
    "the feed stopped three weeks ago": (lambda: SHOP.keep(~newest(21)), "freshness view"),
    "a kind stopped two days ago": (lambda: SHOP.keep((SHOP.kinds != 1) | ~newest(2)), "freshness cart"),
    "a past day came twice": (
        lambda: SHOP.plus(
            (late := SHOP.keep(newest(21) & ~newest(20))) and replace(late, times=late.times + 3_600_000_000)
        ),
        "past days",
    ),
    "the newest day came twice, an hour later": (
        lambda: SHOP.plus(
            (late := SHOP.keep(newest(1.5) & (SHOP.times < END - 3 * 3_600_000_000)))
            and replace(late, times=late.times + 3_600_000_000)
        ),
        "repeated events",
    ),
    "the newest day came twice as it was": (lambda: replace(SHOP, duplicates=240), "duplicates"),
    "one event in twenty is random": (lambda: random_events(len(SHOP.times) // 20), "past view"),
    "one user has most events": (lambda: random_events(30_000, users=7), "heaviest user"),
    "one item has most events": (lambda: random_events(30_000, items=7), "heaviest item"),
    "nothing is new": (lambda: SHOP.until(DAYS - 1), "freshness purchase"),
    "the newest day has a tenth": (lambda: SHOP.keep(~newest(1) | some(0.1)), "volume view"),
    "the newest day has twenty times": (lambda: random_events(5_000, days=0.9), "volume view"),
    "titles are gone": (lambda: of_catalog(title=[None] * ITEMS), "titled items"),
    "prices are gone": (lambda: of_catalog(price=[None] * ITEMS), "priced items"),
    "prices are in cents": (lambda: of_catalog(price=[200.0 + 100 * row for row in range(ITEMS)]), "prices"),
    "every item is in one category": (lambda: of_catalog(category=["Shelf 0"] * ITEMS), "categories"),
    "user ids are decimals": (
        lambda: replace(SHOP, user_ids=tuple(f"{user}.0" for user in SHOP.user_ids)),
        "user ids",
    ),
    "users are renumbered": (
        lambda: replace(SHOP, user_ids=tuple(str(int(user) + 5000) for user in SHOP.user_ids)),
        "vanished users",
    ),
    "all items are new": (
        lambda: replace(SHOP, item_ids=tuple(item.replace("P", "Q") for item in SHOP.item_ids)),
        "new items",
    ),
    "most events are cut off": (lambda: SHOP.keep(newest(50)), "events"),
    "all times are five hours later": (lambda: replace(SHOP, times=SHOP.times - 18_000_000_000), "past purchase"),
    "the catalog is there three times": (
        lambda: replace(
            SHOP,
            item_ids=tuple(f"{item}{end}" for end in ("", "A", "B") for item in SHOP.item_ids),
            catalog={name: column * 3 for name, column in SHOP.catalog.items()},
        ),
        "catalog growth",
    ),
}


@pytest.mark.parametrize("days", [30, 45, DAYS])
def test_a_night_as_usual_has_nothing_against_it(days: int) -> None:
    verdicts = judged(SHOP.until(days), days)
    assert [str(verdict) for verdict in verdicts if verdict.deviates] == []
    assert len(verdicts) > 20


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_night_is_refused_by_the_guard_that_it_is_for(fault: str) -> None:
    make, guard = FAULTS[fault]
    verdicts = judged(make())
    assert guard in refused(verdicts), [str(verdict) for verdict in verdicts]
    found = next(verdict for verdict in verdicts if verdict.guard == guard)
    assert found.remedy in str(found)
    assert guard not in refused(softened(verdicts))


BOUNDS = {
    "max_silence_hours": ("nothing is new", "freshness purchase", 40.0),
    "max_volume_drop": ("the newest day has a tenth", "volume view", 0.98),
    "max_volume_factor": ("the newest day has twenty times", "volume view", 100.0),
    "max_day_change": ("a past day came twice", "past days", 2.0),
    "max_past_change": ("one event in twenty is random", "past view", 0.5),
    "max_repeated": ("the newest day came twice as it was", "duplicates", 2.0),
    "max_catalog_drop": ("the catalog query returns 30 items", "catalog size", 0.9),
    "max_catalog_growth": ("the catalog is there three times", "catalog growth", 3.0),
    "max_available_drop": ("the catalog query returns 30 items", "available items", 0.9),
    "max_text_drop": ("titles are gone", "titled items", 1.0),
    "max_price_drift": ("prices are in cents", "prices", 1.0),
    "max_category_drift": ("every item is in one category", "categories", 0.95),
    "max_user_share": ("one user has most events", "heaviest user", 1.0),
    "max_item_share": ("one item has most events", "heaviest item", 1.0),
    "max_vanished": ("users are renumbered", "vanished users", 1.0),
    "max_new": ("all items are new", "new items", 1.0),
    "max_form_change": ("user ids are decimals", "user ids", 1.0),
    "max_data_drop": ("most events are cut off", "events", 0.5),
}


@pytest.mark.parametrize("key", BOUNDS)
def test_every_bound_decides(key: str) -> None:
    fault, guard, value = BOUNDS[key]
    make, _ = FAULTS[fault]
    assert guard in refused(judged(make()))
    assert GuardSettings.model_fields.keys() - BOUNDS.keys() == {"max_same_item", "min_overlap"}
    bound = {"max_data_drop": value} if key == "max_data_drop" else {"settings": GuardSettings(**{key: value})}
    assert guard not in refused(judged(make(), **bound))


def test_the_first_night_has_no_verdict() -> None:
    figures = night_of(SHOP, DAYS)
    assert judge(figures, compare(SHOP.data(), figures, None), [], GuardSettings(), max_data_drop=0.3) == []


def test_a_young_shop_is_not_judged_by_volume_and_freshness() -> None:
    verdicts = judged(SHOP.until(17), 20)
    assert not any(verdict.guard.startswith(("volume", "freshness")) for verdict in verdicts)


def test_a_source_that_forgets_old_events_is_not_refused_for_that() -> None:
    kept = SHOP.keep(SHOP.times >= (FIRST + DAYS - 40) * DAY)
    before = SHOP.keep(SHOP.times >= (FIRST + DAYS - 41) * DAY)
    assert refused(judged(kept, before=before)) == set()


def test_a_shop_that_is_closed_on_two_days_a_week_may_be_closed_on_two_more() -> None:
    weekday = SHOP.times // DAY % 7
    open_days = SHOP.keep(weekday < 5)
    last = int(open_days.times.max()) // DAY - FIRST
    assert refused(judged(open_days, last + 4, before=open_days, good_until=last + 2)) == set()
    assert "freshness view" in refused(judged(open_days, last + 30, before=open_days, good_until=last + 2))


def test_a_shop_that_corrects_its_past_every_night_is_measured_by_that() -> None:
    data = SHOP.keep(some(0.95)).data()
    before = night_of(SHOP.until(DAYS - 1), DAYS - 1)
    usual = [Night(before, {"past view": 0.04, "past cart": 0.04, "past purchase": 0.04})]
    figures = night_of(SHOP.keep(some(0.95)), DAYS)
    verdicts = judge(figures, compare(data, before, None), usual, GuardSettings(), max_data_drop=0.3)
    assert not {v.guard for v in verdicts if v.deviates} & {"past view", "past cart", "past purchase"}
    assert next(v for v in verdicts if v.guard == "past view").earlier == (0.04,)


def test_growth_is_carried_forward() -> None:
    counts = [round(1000 * 0.98**day) for day in range(63)]
    expected, spread = expected_volume(counts, 63)
    assert expected == pytest.approx(1000, rel=0.02)
    assert spread < 0.05


def test_weekdays_are_compared_with_weekdays() -> None:
    counts = [100 if day % 7 == 0 else 1000 for day in range(63)]
    assert expected_volume(counts, 63)[0] == pytest.approx(100, rel=0.02)


def test_figures_come_back_from_the_ledger_and_those_of_another_version_do_not() -> None:
    figures = night_of(SHOP, DAYS)
    assert Figures.from_dict(figures.to_dict()) == figures
    assert Figures.from_dict({"events": 3}) is None


@pytest.mark.parametrize(
    ("identifier", "form"),
    [("17850", "digits"), ("17850.0", "digits .0"), ("017850", "0 digits"), ("P1", "digits upper")],
)
def test_the_form_of_an_id_says_what_it_is_made_of(identifier: str, form: str) -> None:
    assert form_of(identifier) == form


def test_a_bad_night_that_no_guard_noticed_does_not_block_the_next_good_one() -> None:
    doubled, _ = FAULTS["a past day came twice"]
    unnoticed = Night(night_of(doubled().until(DAYS - 1), DAYS - 1))
    good = [unnoticed, *nights_before(SHOP, DAYS - 1)]
    data, figures = SHOP.data(), night_of(SHOP, DAYS)
    verdicts, beside = judge_beside(figures, data, good, [], lambda _: None, Config())
    assert (refused(verdicts), beside) == (set(), good[1:])
    verdicts, beside = judge_beside(figures, data, good[:1], [], lambda _: None, Config())
    assert ("past days" in refused(verdicts), beside) == (True, good[:1])
    verdicts, beside = judge_beside(figures, data, good[:1], good[1:2], lambda _: None, Config())
    assert (refused(verdicts), beside) == (set(), good[1:2])


def test_a_fall_of_the_number_of_events_is_not_forgiven_by_an_older_night_of_a_shop_that_grows() -> None:
    newest, older = nights_before(SHOP, DAYS, 1), nights_before(SHOP, DAYS - 20, 3)
    cut = SHOP.keep(SHOP.times >= np.quantile(SHOP.times, 0.35))
    data, figures = cut.data(), night_of(cut, DAYS)
    verdicts, beside = judge_beside(figures, data, [*newest, *older], [], lambda _: None, Config())
    assert (refused(verdicts), beside) == ({"events"}, [*newest, *older])
    verdicts, beside = judge_beside(figures, data, older, [], lambda _: None, Config())
    assert (refused(verdicts), beside) == (set(), older)  # it is the newest night alone that tells
    verdicts, beside = judge_beside(figures, data, newest, [Night(figures)], lambda _: None, Config())
    assert (refused(verdicts), beside[0].figures) == (set(), figures)  # a person has accepted that number


def test_a_past_that_has_lost_rows_is_forgiven_by_no_older_night() -> None:
    newest, older = nights_before(SHOP, DAYS, 1), nights_before(SHOP, DAYS - 20, 3)
    lost = SHOP.keep((np.arange(len(SHOP.times)) % 3 > 0) | (SHOP.times > newest[0].figures.past_until))
    verdicts, beside = judge_beside(night_of(lost, DAYS), lost.data(), [*newest, *older], [], lambda _: None, Config())
    assert {"events", "past view"} <= refused(verdicts)
    assert beside == [*newest, *older]


def test_what_only_the_newest_night_can_tell_is_not_forgiven_by_an_older_one() -> None:
    make, guard = FAULTS["users are renumbered"]
    good, rows = nights_before(SHOP, DAYS), make()
    known = Known(SHOP.data().users, SHOP.data().catalog.ids)
    newest = {id(good[0]): known}
    verdicts, _ = judge_beside(night_of(rows, DAYS), rows.data(), good, [], lambda n: newest.get(id(n)), Config())
    assert guard in refused(verdicts)
