from types import SimpleNamespace

import numpy as np
import pytest
from tiny import CART, PURCHASE, VIEW

from recsys.audience import measures
from recsys.audience.features import Block, compute_user_features
from recsys.data.interactions import Histories

ITEMS = 4
NOT_MEANT = -np.inf


def block(*users):
    """Users from their events (item, kind, days ago), newest last."""
    offsets = np.concatenate([[0], np.cumsum([len(events) for events in users])]).astype(np.int64)
    columns = list(zip(*[event for events in users for event in events], strict=True)) or [[], [], []]
    histories = Histories(
        offsets, np.array(columns[0], np.int32), np.array(columns[1], np.int8), np.array(columns[2], np.float32)
    )
    rows = np.arange(len(users))
    return Block(rows, histories, compute_user_features(histories, (PURCHASE,)), (PURCHASE,))


def facts(*targets, **others):
    given = {
        "is_target": np.isin(np.arange(ITEMS), targets or range(ITEMS)),
        "recent_days": 30.0,
        "cart_codes": [CART],
        "drops": np.zeros(ITEMS),
        "days_since_drop": np.full(ITEMS, np.inf),
        "is_restocked": np.zeros(ITEMS, bool),
        "item_gap_days": np.full(ITEMS, 30.0),
        "usual_gap_days": 30.0,
    }
    return SimpleNamespace(**given | others)


def test_a_cart_is_abandoned_when_its_target_was_not_bought_since_and_lately():
    users = block(
        [(0, CART, 9.0), (0, CART, 3.0)],  # twice: the last one tells
        [(0, CART, 9.0), (0, PURCHASE, 8.0)],  # bought
        [(0, PURCHASE, 9.0), (0, CART, 8.0)],  # bought before, and wanted again
        [(0, CART, 31.0)],  # too long ago
        [(1, CART, 3.0)],  # no target
        [(0, VIEW, 3.0)],
        [],
    )
    expected = [3.0, NOT_MEANT, 8.0, NOT_MEANT, NOT_MEANT, NOT_MEANT, NOT_MEANT]
    assert measures.abandoned(users, facts(0)).tolist() == expected
    assert measures.abandoned(users, facts())[4] == 3.0  # about anything


def test_a_cart_of_one_item_stays_open_when_another_was_bought():
    users = block([(0, CART, 9.0), (1, CART, 9.0), (1, PURCHASE, 8.0)])
    assert measures.abandoned(users, facts()).tolist() == [9.0]
    assert measures.abandoned(users, facts(1)).tolist() == [NOT_MEANT]


def test_a_look_is_left_open_until_its_item_is_bought():
    users = block([(2, VIEW, 5.0)], [(2, VIEW, 5.0), (2, PURCHASE, 1.0)], [(3, VIEW, 5.0)])
    assert measures.viewed(users, facts(2)).tolist() == [5.0, NOT_MEANT, NOT_MEANT]


def test_a_lower_price_counts_for_those_who_saw_the_higher_one():
    about = facts(0, 1, drops=np.array([0.2, 0.5, 0.9, 0.0]), days_since_drop=np.array([4.0, 4.0, 4.0, np.inf]))
    users = block(
        [(0, VIEW, 9.0), (1, VIEW, 8.0)],  # the largest drop tells
        [(0, VIEW, 2.0)],  # saw the lower price already
        [(2, VIEW, 9.0)],  # no target
        [(0, VIEW, 9.0), (0, PURCHASE, 2.0)],
    )
    assert measures.cheaper(users, about).tolist() == [0.5, NOT_MEANT, NOT_MEANT, NOT_MEANT]


def test_who_looked_at_what_was_sold_out_is_told_that_it_is_back():
    users = block([(0, VIEW, 50.0)], [(1, VIEW, 5.0)], [(0, CART, 9.0), (0, PURCHASE, 1.0)])
    about = facts(is_restocked=np.array([True, False, False, False]))
    assert measures.restocked(users, about).tolist() == [50.0, NOT_MEANT, NOT_MEANT]


def test_a_purchase_is_due_by_the_users_own_rhythm():
    every_ten = [(0, PURCHASE, 100.0 - 10 * n) for n in range(9)]  # the last 20 days ago
    users = block(every_ten, [(0, PURCHASE, 20.0)], [(0, PURCHASE, 30.0)], [(1, PURCHASE, 30.0)], [(0, VIEW, 30.0)])
    found = measures.due(users, facts(0))
    # nine purchases span 80 days, and two usual gaps of 30: 140 / 10 = 14 days
    assert found[0] == pytest.approx(20 / 14)
    assert found[1:].tolist() == [NOT_MEANT, 1.0, NOT_MEANT, NOT_MEANT]


def test_who_is_silent_for_twice_the_own_gap_has_lapsed():
    often = [(0, PURCHASE, 60.0 + 5 * n) for n in range(8)][::-1]  # silent for 60 days
    seldom = [(0, PURCHASE, 400.0), (0, PURCHASE, 230.0), (0, PURCHASE, 60.0)]
    users = block(often, seldom, [(0, VIEW, 300.0)])
    # 35 days and two usual gaps of 30, by nine: 10.6; 340 and 60, by four: 100
    assert measures.lapsed(users, facts()).tolist() == [pytest.approx(60 / (95 / 9)), NOT_MEANT, NOT_MEANT]


def test_cross_selling_means_who_bought_the_other_item():
    users = block([(3, PURCHASE, 40.0), (3, PURCHASE, 7.0)], [(3, VIEW, 1.0)], [(2, PURCHASE, 1.0)])
    about = facts(0, is_owned=np.array([False, False, False, True]))
    assert measures.owned(users, about).tolist() == [7.0, NOT_MEANT, NOT_MEANT]


def test_newcomers_came_lately_or_have_no_history_yet():
    users = block([(0, VIEW, 3.0)], [(0, VIEW, 99.0)], [], [])
    days = np.array([3.0, 99.0, 0.0, -5.0])  # the last one came after the moment
    assert measures.new(users, facts(first_seen_days=days)).tolist() == [3.0, NOT_MEANT, 0.0, NOT_MEANT]


def test_who_is_of_the_list_is_not_like_it():
    about = facts(seeds=np.array([True, False]), likeness=SimpleNamespace(measure=lambda _: np.array([0.9, 0.4])))
    assert measures.alike(block([], []), about).tolist() == [NOT_MEANT, 0.4]


def test_what_is_at_risk_is_the_spend_that_silence_has_cost():
    figures = {
        "value": np.array([30.0, 100.0, np.nan, np.nan]),
        "probability": np.array([0.1, 0.5, 0.2, np.nan]),
        "churn_risk": np.array([0.7, 0.0, 0.5, np.nan]),
    }
    about = facts(expected=lambda _: figures)
    users = block([], [], [], [])
    # 30 of 100 are left, so 70 are lost; without values 0.2 of 0.4 is lost; nothing is known of the last one
    assert measures.at_risk(users, about).tolist() == [pytest.approx(70), 0.0, pytest.approx(0.2), NOT_MEANT]
    assert measures.value(users, about).tolist() == [30.0, 100.0, 0.2, NOT_MEANT]
