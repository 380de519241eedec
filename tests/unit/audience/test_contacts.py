import numpy as np
import polars as pl
import pytest
from tiny import DAY

from recsys.audience.contacts import find_capped
from recsys.audience.suppression import Directory
from recsys.data.vocabulary import Vocabulary

USERS = Vocabulary.from_ids(["a", "b", "c"])
PEOPLE = pl.DataFrame({"user_id": ["a", "b"], "email": ["Ann@Example.com", None]})
NOW = 100 * DAY


def capped(*mails, most=2, days=7):
    contacts = pl.DataFrame(
        {"user_id": [whom for whom, _ in mails], "at": [round(NOW - ago * DAY) for _, ago in mails]},
        schema={"user_id": pl.String, "at": pl.Int64},
    )
    marked = find_capped(contacts, USERS, Directory(USERS, PEOPLE), most=most, days=days, now=NOW)
    return np.flatnonzero(marked).tolist()


def test_who_had_as_many_mails_as_the_cap_gets_no_further_one():
    assert capped(("a", 1), ("a", 6.9), ("b", 1), ("c", 1), ("c", 2), ("c", 3)) == [0, 2]
    assert capped(("a", 1), ("b", 8), most=1) == [0]
    assert capped() == []


def test_mails_to_the_id_and_to_the_address_add_up():
    assert capped(("a", 1), (" ann@example.COM", 2), ("nobody@x.y", 1), ("nobody@x.y", 1)) == [0]


@pytest.mark.parametrize(("ago", "counts"), [(7.0, False), (6.999, True), (-3, True)])
def test_a_mail_counts_for_the_days_of_the_cap_and_one_that_is_planned_too(ago, counts):
    assert bool(capped(("a", ago), most=1)) == counts
