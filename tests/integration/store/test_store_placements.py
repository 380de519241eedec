"""Placements: the last change of a name counts, and every change is kept."""

import threading

import pytest

from recsys.errors import NotFoundError
from recsys.store.placements import delete_placement, list_placements, placement_history, put_placement

HOME = {"box": "for_you", "rules": {"pin": [{"item_id": "Ä 1", "place": 1}]}}


def test_the_last_change_counts_and_all_are_kept(store):
    assert put_placement(store, "home", HOME, by="Anna (1a2b)")
    assert put_placement(store, "cart", {"box": "popular"}, by="Anna (1a2b)")
    assert not put_placement(store, "home", HOME, by="Ben (3c4d)")  # it is that already
    assert put_placement(store, "home", {"box": "trending"}, by="Ben (3c4d)")
    found = list_placements(store)
    assert {name: change.definition for name, change in found.items()} == {
        "cart": {"box": "popular"},
        "home": {"box": "trending"},
    }
    assert found["home"].changed_by == "Ben (3c4d)"
    delete_placement(store, "home", by="Anna (1a2b)")
    assert list(list_placements(store)) == ["cart"]
    changes = placement_history(store, "home")
    assert [(change.definition, change.changed_by) for change in changes] == [
        (None, "Anna (1a2b)"),
        ({"box": "trending"}, "Ben (3c4d)"),
        (HOME, "Anna (1a2b)"),
    ]
    times = [change.changed_at for change in changes]
    assert times == sorted(times, reverse=True)
    assert abs(times[0] - store.now()) < 60_000_000
    assert placement_history(store, "home", limit=1) == changes[:1]


def test_what_is_not_stored_cannot_be_deleted(store):
    with pytest.raises(NotFoundError, match="no stored placement 'home'"):
        delete_placement(store, "home", by="Anna")
    put_placement(store, "home", HOME, by="Anna")
    delete_placement(store, "home", by="Anna")
    with pytest.raises(NotFoundError):
        delete_placement(store, "home", by="Anna")
    assert len(placement_history(store, "home")) == 2
    assert put_placement(store, "home", HOME, by="Anna")


def test_several_may_change_placements_at_once(store):
    def change(number):
        for turn in range(5):
            put_placement(store, f"place{number % 2}", {"k": 1 + number * 5 + turn}, by=str(number))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_placements(store)) == 2
    assert sum(len(placement_history(store, f"place{number}")) for number in range(2)) == 20
