"""Campaigns in the own tables: states, two people at once, and the register that names who holds a deleted user."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from test_store_audiences import RECORD, members

from recsys.errors import NotFoundError, RefusedError
from recsys.store.audiences import find_audience, save_audience
from recsys.store.campaigns import (
    TRANSITIONS,
    CampaignRecord,
    begin_export,
    campaign_changes,
    change_campaign,
    check_campaign,
    create_campaign,
    delete_campaign,
    find_campaign,
    find_same,
    finish_export,
    is_held_back,
    list_campaigns,
    list_exports,
)
from recsys.store.users import delete_user

DEFINITION = {"name": "lamps", "purpose": "Lamps 😀 <b>", "audience": {"size": 3}}
CAMPAIGN = CampaignRecord("lamps", "", DEFINITION, "a1", 0.0, {"members": 3}, None, 0, "Ann")


def handed_out(store, name="lamps", *, by="Ben", share=0.0, audience_id="a1"):
    export = begin_export(
        store, campaign=name, audience_id=audience_id, control_share=share, destination="x.csv", members=3, by=by
    )
    finish_export(store, export, name, by=by)
    return export


def test_a_campaign_lives_from_draft_to_measured_and_its_log_stays(store):
    save_audience(store, RECORD, members("u1", "u2", "u3"))
    assert create_campaign(store, CAMPAIGN)
    assert not create_campaign(store, CAMPAIGN)
    assert find_campaign(store, "lamps").definition == DEFINITION
    assert find_same(store, "lamps", DEFINITION).state == "draft"
    assert find_same(store, "other", DEFINITION) is None
    with pytest.raises(RefusedError, match="with another definition, draft since"):
        find_same(store, "lamps", {**DEFINITION, "purpose": "chairs"})
    with pytest.raises(RefusedError, match=r"is draft since .*, by Ann; export takes one that is approved or exported"):
        handed_out(store)
    assert list_exports(store) == []
    assert change_campaign(store, "lamps", "approve", by="Cleo").changed_by == "Cleo"
    handed_out(store)
    handed_out(store)
    assert [one.exported_by for one in list_exports(store, "lamps")] == ["Ben", "Ben"]
    assert change_campaign(store, "lamps", "measure", by="Ann", measurement={"a": 1}).measurement == {"a": 1}
    with pytest.raises(RefusedError, match="approve takes one that is draft"):
        change_campaign(store, "lamps", "approve", by="Cleo")
    assert [one.destination for one in delete_campaign(store, "lamps", by="Ann")] == ["x.csv", "x.csv"]
    assert find_audience(store, "a1") is None
    assert list_campaigns(store) == []
    with pytest.raises(NotFoundError, match="there is no campaign 'lamps'"):
        find_campaign(store, "lamps")
    log = [(one.action, one.changed_by) for one in campaign_changes(store, "lamps")]
    assert log == [
        ("create", "Ann"),
        ("approve", "Cleo"),
        ("export", "Ben"),
        ("export", "Ben"),
        ("measure", "Ann"),
        ("delete", "Ann"),
    ]


@pytest.mark.parametrize("action", ["approve", "export", "measure", "cancel", "delete"])
def test_every_action_is_refused_in_every_state_that_the_table_does_not_name(store, action):
    for state in {target for _, target in TRANSITIONS.values() if target}:
        create_campaign(store, CAMPAIGN)
        with store.writing() as connection:
            connection.execute(store.tables.campaigns.update().values(state=state))
        if state in TRANSITIONS[action][0]:
            assert check_campaign(store, "lamps", action).state == state
        else:
            with pytest.raises(RefusedError, match=f"is {state} since"):
                check_campaign(store, "lamps", action)


def test_of_people_who_act_at_once_one_wins_and_the_others_are_told_who(store):
    create_campaign(store, CAMPAIGN)

    def act(number):
        try:
            return change_campaign(store, "lamps", "cancel" if number % 2 else "approve", by=f"person {number}")
        except RefusedError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(act, range(6)))
    approved = [one for one in campaign_changes(store, "lamps") if one.action == "approve"]
    cancelled = [one for one in campaign_changes(store, "lamps") if one.action == "cancel"]
    assert (len(approved) <= 1, len(cancelled)) == (True, 1)  # an approved one may still be cancelled
    refused = [one for one in done if isinstance(one, RefusedError)]
    assert len(refused) == 6 - len(approved) - len(cancelled)
    assert all("by person " in str(one) for one in refused)


def test_of_two_who_create_at_once_one_wins(store):
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: create_campaign(store, CAMPAIGN), range(4))) == [False, False, False, True]
    assert len(campaign_changes(store, "lamps")) == 1


def test_a_deletion_names_the_exports_that_hold_the_user_each_time_and_no_others(store):
    people = [f"u{number}" for number in range(40)]
    save_audience(store, RECORD, members(*people))
    create_campaign(store, CAMPAIGN)
    create_campaign(store, CampaignRecord("chairs", "", {}, "a1", 0.5, {}, None, 0, "Ann"))
    for name in ("lamps", "chairs"):
        change_campaign(store, name, "approve", by="Ann")
    lamps, chairs = handed_out(store), handed_out(store, "chairs", share=0.5)
    broken_off = begin_export(
        store, campaign=None, audience_id="a1", control_share=0.0, destination="y.csv", members=40, by="Ann"
    )
    back = next(user for user in people if is_held_back(user, "chairs", 0.5))
    mailed = next(user for user in people if not is_held_back(user, "chairs", 0.5))
    assert delete_user(store, back, now=1).exports == (lamps, broken_off)
    for now in (2, 3):  # the members are gone with the first deletion; it is told again
        assert delete_user(store, mailed, now=now).exports == (lamps, chairs, broken_off)
    assert delete_user(store, "nobody", now=1).exports == ()


def test_members_stay_while_another_campaign_has_the_same(store):
    save_audience(store, RECORD, members("u1", "u2", "u3"))
    for name in ("lamps", "chairs"):
        create_campaign(store, CampaignRecord(name, "", {}, "a1", 0.0, {}, None, 0, "Ann"))
    delete_campaign(store, "lamps", by="Ann")
    assert find_audience(store, "a1") is not None
    delete_campaign(store, "chairs", by="Ann")
    assert find_audience(store, "a1") is None


def test_names_are_data(store):
    evil = "x'; DROP TABLE recsys_campaigns; --"
    with pytest.raises(NotFoundError):
        change_campaign(store, evil, "approve", by=evil)
    create_campaign(store, CampaignRecord(evil, "", {"a": evil}, evil, 0.0, {}, None, 0, evil))
    assert change_campaign(store, evil, "approve", by=evil).changed_by == evil
