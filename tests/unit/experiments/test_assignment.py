import numpy as np

from recsys.experiments.assignment import hold_back

USERS = [f"u{number}" for number in range(20_000)]


def test_the_same_users_are_held_back_each_time_and_about_as_many_as_asked_for() -> None:
    held = hold_back(USERS, "autumn", 0.1)
    assert abs(held.mean() - 0.1) < 0.007
    assert (hold_back(USERS, "autumn", 0.1) == held).all()
    assert (hold_back(USERS[::-1], "autumn", 0.1) == held[::-1]).all()
    # As it was when the first campaigns were sent: another hash would mix both groups.
    assert [user for user, is_held in zip(USERS[:60], held, strict=False) if is_held] == EXPECTED


def test_a_larger_share_holds_back_the_same_users_and_more() -> None:
    fewer, more = hold_back(USERS, "autumn", 0.1), hold_back(USERS, "autumn", 0.3)
    assert (more[fewer]).all()
    assert abs(more.mean() - 0.3) < 0.01
    assert not hold_back(USERS, "autumn", 0.0).any()
    assert hold_back(USERS, "autumn", 1.0).all()


def test_experiments_hold_back_independently() -> None:
    one, other = hold_back(USERS, "autumn", 0.5), hold_back(USERS, "winter", 0.5)
    assert abs((one & other).mean() - 0.25) < 0.01
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


EXPECTED = ["u12", "u48"]
