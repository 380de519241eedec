"""Expected and actual buyers of past weeks: nothing later is seen, what came is counted, and the picture says so."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from road import configured
from test_campaign import ITEMS, opened
from tiny import quiet

from jobs.backtest import backtest
from recsys.audience.backtest import look_back
from recsys.audience.inputs import open_inputs
from recsys.audience.model import first_seen
from recsys.config.settings import Config
from recsys.data.extract import open_extract
from recsys.data.times import MICROSECONDS_PER_DAY, parse_time
from recsys.errors import NotFoundError, RefusedError


def look(config: Config, **others: Any) -> dict[str, Any]:
    found: dict[str, Any] = backtest(config, progress=quiet, **others).data
    return found


def test_eight_past_weeks_are_compared_with_who_really_bought(trained_shop: Path) -> None:
    config = configured(trained_shop)
    data = look(config, items=ITEMS, out=trained_shop / "plot.svg")
    extract = open_extract(config.storage.path)
    bought = extract.events.of_kinds(config.target_codes)
    mine = np.isin(bought.items, extract.items.rows_of(ITEMS))
    firsts = first_seen(extract.events)
    for week in data["weeks"]:
        start = parse_time(week["as_of"])
        inside = mine & (bought.times >= start) & (bought.times < start + 7 * MICROSECONDS_PER_DAY)
        known = firsts < start
        assert week["actual"] == len({user for user in bought.users[inside].tolist() if known[user]})
        assert week["users"] == known.sum()
    assert len(data["weeks"]) == 8
    assert data["actual"] > 20
    assert 0.6 < data["expected"] / data["actual"] < 1.6
    assert sum(one["users"] for one in data["calibration"]) == sum(week["users"] for week in data["weeks"])
    drawn = ElementTree.parse(trained_shop / "plot.svg").getroot()
    marks = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    assert marks.count("circle") == len(data["calibration"])
    assert marks.count("rect") == 1 + 2 * 8


def test_what_came_later_changes_nothing_that_was_told_before(trained_shop: Path) -> None:
    config = configured(trained_shop)
    with closing(opened(config)) as store:
        inputs = open_inputs(config, store)
        items = inputs.bundle.catalog.ids.rows_of(ITEMS)
        before = look_back(inputs, items, weeks=2, days=7, size=100, progress=quiet)
        events = inputs.extract.events
        late = (events.times >= before[1].as_of) & np.isin(events.kinds, config.target_codes)
        views = replace(events, kinds=np.where(late, inputs.extract.kinds.index("view"), events.kinds).astype(np.int8))
        other = replace(inputs, extract=replace(inputs.extract, events=views))
        after = look_back(other, items, weeks=2, days=7, size=100, progress=quiet)
    assert before[1].bought.any()
    assert not after[1].bought.any()
    assert np.array_equal(after[0].bought, before[0].bought)
    for then, now in zip(before, after, strict=True):
        assert np.array_equal(then.probability, now.probability)


def test_too_short_a_past_and_unknown_items_are_refused(trained_shop: Path) -> None:
    config = configured(trained_shop)
    with pytest.raises(RefusedError, match="the first of 90 moments; fewer --weeks"):
        look(config, weeks=90)
    with pytest.raises(NotFoundError, match="'nope'"):
        look(config, items=["nope"])
