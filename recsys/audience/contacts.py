"""Frequency caps: who was mailed too often lately.

Shapes: U users.
"""

import numpy as np
import polars as pl

from recsys.audience.suppression import Directory
from recsys.data.arrays import Bool
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary


def find_capped(
    contacts: pl.DataFrame, users: Vocabulary, directory: Directory, *, most: int, days: float, now: int
) -> Bool:
    """Mark the users [U] who had `most` mails or more within the `days` before now (microseconds UTC).

    contacts: user_id (an id or an address) and at, a row for each mail. One with a time after `now` counts too: it is
    planned, or the clocks differ.
    """
    counts = np.zeros(len(users), np.int64)
    since = now - round(days * MICROSECONDS_PER_DAY)
    recent = contacts.filter(pl.col("at") > since).group_by("user_id").len()
    rows = np.asarray(users.rows_of(recent["user_id"].to_list()), np.int64)
    mails = recent["len"].cast(pl.Int64).to_numpy()
    np.add.at(counts, rows[rows >= 0], mails[rows >= 0])
    for name, mailed in zip(recent["user_id"].filter(pl.Series(rows < 0)), mails[rows < 0].tolist(), strict=True):
        meant = users.rows_of(list(dict.fromkeys(directory.find((name,)))))
        np.add.at(counts, meant[meant >= 0], mailed)
    return counts >= most
