"""The moment of propensity is what training has seen: an event or two that came later make nobody else look silent."""

from dataclasses import replace

import numpy as np
from box_shop import DAYS, USERS, bundle_of, drawn_events, shop_of
from tiny import DAY

from recsys.data.times import rfc3339
from recsys.propensity.files import Propensity
from recsys.propensity.scorer import Predictions
from recsys.serving.propensity import score_users

IDS = [f"u{row}" for row in range(USERS)]


class Silence:
    """A scorer that tells the days since the last purchase."""

    def predict(self, days, users, _at):
        told = np.array([float(days.days[days.users == user].max()) for user in users])
        return Predictions(told, told, told, told, told)


def silence(posted, as_of):
    events = drawn_events()
    bundle = bundle_of(events)
    manifest = bundle.manifest | {"data": {"last": rfc3339(int(events.times.max()))}}
    known = Propensity({30: Silence()}, {30: 0}, [], {})
    shop = shop_of(events, bundle=replace(bundle, manifest=manifest, propensity=known), posted=posted)
    snapshot = shop.snapshot
    users, (scored,) = score_users(snapshot.log, snapshot.view, shop.posted, IDS, round(as_of * DAY))
    return dict(zip(users.tolist(), scored.predictions.probability.tolist(), strict=True))


def test_a_later_event_counts_for_its_user_and_changes_nobody_else():
    before = silence((), DAYS)
    after = silence([("u3", False, "i1", "purchase", DAYS + 40.0)], DAYS + 50)
    assert after.pop(3) == -1.0  # the day just before the moment
    assert before.pop(3) < -1.0
    assert after == before


def test_an_earlier_moment_is_itself():
    before, earlier = silence((), DAYS), silence((), DAYS - 20)
    shared = before.keys() & earlier.keys()
    assert any(earlier[user] != before[user] for user in shared)
