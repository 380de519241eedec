from dataclasses import replace

import pyarrow as pa
import pytest

from recsys.errors import RefusedError
from recsys.store.audiences import AudienceRecord, find_audience, list_members, save_audience
from recsys.store.users import delete_user

RECORD = AudienceRecord(
    audience_id="a1",
    as_of=1_600_000_000_000_000,
    items=["i1", "📦"],
    size=3,
    strategy="affinity",
    options={"exclude_past_buyers": True, "suppressed": None},
    bundle="20260101T000000.000000Z-mf-00000000",
    consent="required",
    window_days=28.0,
    eligible=7,
    left_out={"deleted": 1, "no consent": 2},
    warnings=["only 2"],
)


def members(*ids):
    return pa.table(
        {
            "user_id": ids,
            "rank": range(1, len(ids) + 1),
            "probability": [1 / n for n in range(2, len(ids) + 2)],
            "reason": ["taste"] * len(ids),
            "score": pa.array([0.5, *[None] * (len(ids) - 1)], pa.float64()),
            "best_item": pa.array(["📦", *[None] * (len(ids) - 1)], pa.string()),
            "runners_up": pa.array(['["i1"]', *[None] * (len(ids) - 1)], pa.string()),
        }
    )


def ids_of(store, audience_id="a1"):
    return list_members(store, audience_id)["user_id"].to_pylist()


def test_a_frozen_audience_comes_back_as_it_was(store):
    assert save_audience(store, RECORD, members("zoë", "=1+1", "😀"))
    found = find_audience(store, "a1")
    assert found.created_at > RECORD.as_of
    assert replace(found, created_at=0) == RECORD
    assert list_members(store, "a1").to_pydict() == {
        "rank": [1, 2, 3],
        "user_id": ["zoë", "=1+1", "😀"],
        "probability": [1 / 2, 1 / 3, 1 / 4],
        "reason": ["taste"] * 3,
        "score": [0.5, None, None],
        "best_item": ["📦", None, None],
        "runners_up": ['["i1"]', None, None],
    }


def test_an_audience_that_nobody_froze_is_not_found(store):
    assert find_audience(store, "a1") is None
    assert list_members(store, "a1").num_rows == 0


def test_freezing_again_changes_nothing(store):
    save_audience(store, RECORD, members("u1", "u2"))
    assert not save_audience(store, replace(RECORD, size=99), members("u3"))
    assert find_audience(store, "a1").size == 3
    assert ids_of(store) == ["u1", "u2"]


def test_ids_that_differ_in_case_or_trailing_blanks_are_members_of_their_own(store):
    save_audience(store, RECORD, members("u", "U", "u "))
    assert ids_of(store) == ["u", "U", "u "]


def test_a_deleted_user_leaves_every_audience_and_ranks_stay(store):
    for audience_id in ("a1", "a2"):
        save_audience(store, replace(RECORD, audience_id=audience_id), members("u1", "u2", "u3"))
    delete_user(store, "u2", now=1)
    for audience_id in ("a1", "a2"):
        assert list_members(store, audience_id)["rank"].to_pylist() == [1, 3]
        assert ids_of(store, audience_id) == ["u1", "u3"]


def test_a_user_who_is_deleted_while_the_audience_is_drawn_is_no_member(store):
    delete_user(store, "u1", now=1)
    save_audience(store, RECORD, members("u1", "u2"))
    assert ids_of(store) == ["u2"]


def test_a_row_that_an_overlapping_deletion_left_behind_is_no_member(store):
    save_audience(store, RECORD, members("u1", "u2"))
    with store.writing() as connection:  # the tombstone is there, the member too
        connection.execute(store.tables.deletions.insert().values(user_id="u1", deleted_at=1))
    assert ids_of(store) == ["u2"]


def test_a_member_that_cannot_be_stored_leaves_no_half_of_an_audience(store):
    with pytest.raises(RefusedError, match="user_id"):
        save_audience(store, RECORD, members("u1", "a\x00b"))
    assert find_audience(store, "a1") is None


def test_a_write_that_breaks_off_leaves_no_half_of_an_audience(store):
    def break_off(_step, _share):
        raise RuntimeError("the plug is pulled")

    with pytest.raises(RuntimeError):
        save_audience(store, RECORD, members("u1"), progress=break_off)
    assert find_audience(store, "a1") is None
    assert ids_of(store) == []
