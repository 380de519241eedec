"""How trending and bestsellers rank, chosen on events with a known answer."""

import tiny
from tiny import KINDS, PURCHASE

from recsys.config.settings import Config
from recsys.data.demand import count_events
from recsys.training.box_choice import choose_ways, told

ITEMS = 60


def chosen(rows, *, end):
    demand = count_events(tiny.events(rows, users=1, items=ITEMS), kind_count=3, half_life_days=7.0)
    return choose_ways(Config(), KINDS, demand, ITEMS, end)


def bought(*rows):
    return [(0, item, PURCHASE, day + at / 1000) for item, day, count in rows for at in range(count)]


def test_where_demand_moves_by_the_week_windows_are_short_and_trending_beats_bestsellers():
    steady = [(50 + at, day, 9 - at) for at in range(8) for day in range(140)]
    rising = [
        (week + late, 7 * week + day, 3 * (1 + late)) for week in range(20) for day in range(7) for late in (0, 1)
    ]
    found = chosen(bought(*steady, *rising), end=140)
    assert (found["trending"]["way"], found["trending"]["weeks"]) == ("trending", 12)
    assert found["trending"]["window_days"] <= 14
    said = told("trending", found["trending"])
    assert said.startswith(f"trending ranks as trending of {found['trending']['window_days']} days: NDCG@20 0.")
    assert " in the 12 weeks before, bestsellers of 7 days 0." in said


def test_where_demand_returns_by_the_quarter_the_plain_ways_serve():
    sold = [(item, day, 8) for day in range(182) for item in range(50) if item % 13 == day // 7 % 13]
    found = chosen(bought(*sold), end=182)
    assert (found["bestsellers"]["way"], found["bestsellers"]["window_days"]) == ("bestsellers", 91)
    best = found["trending"]
    assert best["way"] != "trending"
    assert " weeks before, trending of " in told("trending", best)
    ndcg = best["ndcg@20"]
    assert max(ndcg.values()) == max(value for name, value in ndcg.items() if not name.startswith("trending"))


def test_later_weeks_choose_nothing_and_a_shop_without_weeks_keeps_what_is_usual():
    quiet = [(1, day, 2) for day in range(60)]
    assert chosen(bought(*quiet), end=60) == chosen(bought(*quiet, *((2, day, 50) for day in range(60, 90))), end=60)
    assert chosen(bought(*quiet), end=7) == {}
