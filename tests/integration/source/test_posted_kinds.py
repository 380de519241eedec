"""Kinds that were posted and that no configuration names: they train, bounded, and are shown."""

from pathlib import Path

import numpy as np
import pytest
from shops import DAY, GOOD, NOW, Shop, check, events_of, found, load, own_events

from recsys.config.settings import Config
from recsys.data.interactions import codes_in
from recsys.source.kinds import MAX_NEW_KINDS
from recsys.store.database import Store
from recsys.store.events import insert_events
from recsys.training.pipeline import TrainingRun, training_data


def post(store: Store, kinds: list[str]) -> None:
    insert_events(
        store, own_events([(f"u{at % 5}", f"i{at % 7}", kind, NOW - DAY + at) for at, kind in enumerate(kinds)])
    )


def test_a_posted_kind_trains_with_the_smallest_weight_behind_all_others(store: Store) -> None:
    post(store, ["purchase"] * 20 + ["wish"] * 8 + ["view"] * 4)
    loaded = load(Config(), store)
    assert loaded.kinds == ("view", "cart", "purchase", "wish")
    assert [event[2] for event in events_of(loaded)].count("wish") == 8
    run = TrainingRun(Config(), loaded)
    assert training_data(run, loaded.events, run.as_of).kind_weights == (0.2, 0.5, 1.0, 0.2)
    finding = found(loaded.report, "posted kind without a weight: wish")
    assert (finding.severity, finding.rows, finding.of, finding.left_out) == ("warning", 8, 32, False)
    assert loaded.report.kinds["wish"] == {"kind": "wish", "rows": 8}


def test_it_trains_beside_the_events_of_a_shop(tmp_path: Path, sqlite_store: Store) -> None:
    shop = Shop(tmp_path)
    shop.add("events", GOOD)
    post(sqlite_store, ["wish"] * 3)
    loaded = load(shop.config({"new_kind_weight": 0.7}), sqlite_store)
    assert [event[2] for event in events_of(loaded)].count("wish") == 3
    assert loaded.new_kinds == {"wish": 0.7}


@pytest.mark.parametrize("events", [{"new_kind_weight": 0}, {"own_kinds": ["view", "purchase"]}])
def test_kinds_that_shall_not_count_are_left_out_and_refuse_nothing(store: Store, events: dict[str, object]) -> None:
    post(store, ["purchase"] * 20 + ["wish"] * 8)
    config = Config.model_validate({"events": events})
    loaded = load(config, store)
    assert (loaded.kinds, len(loaded.events), loaded.new_kinds) == (("view", "cart", "purchase"), 20, {})
    finding = found(check(config, store), "own event of a kind that is not taken")
    assert (finding.severity, finding.rows) == ("note", 8)


def test_who_invents_kinds_does_not_take_all_codes(sqlite_store: Store) -> None:
    post(sqlite_store, ["purchase"] * 20 + ["often"] * 3 + [f"kind {at}" for at in range(MAX_NEW_KINDS + 5)])
    loaded = load(Config(), sqlite_store)
    assert len(loaded.kinds) == 3 + MAX_NEW_KINDS
    assert "often" in loaded.kinds
    assert found(loaded.report, "own event of a kind that is not taken").rows == 6


def test_a_kind_with_a_weight_or_an_alias_is_not_new(sqlite_store: Store) -> None:
    post(sqlite_store, ["purchase"] * 20 + ["wish"] * 3)
    named = Config.model_validate({"events": {"aliases": {"wish": "cart"}}})
    assert load(named, sqlite_store).new_kinds == {}
    assert np.count_nonzero(load(named, sqlite_store).events.kinds == 1) == 3
    weighted = Config.model_validate({"events": {"weights": {"wish": 0.9, "purchase": 1.0}}})
    assert (load(weighted, sqlite_store).kinds, load(weighted, sqlite_store).new_kinds) == (("wish", "purchase"), {})


def test_codes_of_configured_kinds_stay() -> None:
    config = Config().with_kinds({"wish": 0.1, "view": 9.0})
    assert config.events.weights == {"view": 0.2, "cart": 0.5, "purchase": 1.0, "wish": 0.1}
    assert codes_in(tuple(config.events.weights), ("view", "cart", "purchase")).tolist() == [0, 1, 2, -1]
