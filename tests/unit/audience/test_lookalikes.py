import numpy as np
import pytest
from test_audience_model import SIDES, shop, simulated
from tiny import DAY, vectors

from recsys.audience.features import Block, compute_user_features
from recsys.audience.lookalikes import learn_likeness
from recsys.errors import RefusedError

NOW = 300 * DAY


def test_users_are_like_a_list_when_they_buy_what_it_buys():
    found = shop(simulated().before(NOW))
    side = (np.arange(600) // 3) % 2  # which half of the catalog a user buys
    known = np.flatnonzero(found.first_seen < NOW)
    seeds = np.zeros(600, bool)
    seeds[known[side[known] == 1][:30]] = True
    likeness = learn_likeness(found, vectors(SIDES), seeds, NOW, 0)
    others = known[~seeds[known]]
    histories = found.histories_at(others, NOW)
    users = compute_user_features(histories, found.bought_codes)
    measured = likeness.measure(Block(others, histories, users, found.bought_codes))
    first = others[np.argsort(-measured)[:100]]
    assert (side[first] == 1).mean() > 0.85 > (side[others] == 1).mean() + 0.2


def test_too_short_a_list_is_refused():
    found = shop(simulated(days=100))
    nine = np.isin(np.arange(600), np.flatnonzero(found.first_seen < NOW)[:9])
    with pytest.raises(RefusedError, match="9 users of the list have a history"):
        learn_likeness(found, vectors(SIDES), nine, NOW, 0)
