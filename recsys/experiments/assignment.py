"""Who is held back from a mailing: a stable hash of the user decides, so nobody has to remember it."""

import hashlib
from collections.abc import Iterable

import numpy as np

from recsys.data.arrays import Bool

EVERY_MAILING = "every mailing"  # the experiment of those who are held back from all mailings


def hold_back(user_ids: Iterable[str], experiment: str, share: float) -> Bool:
    """Mark the users [B] who are held back in an experiment: about `share` of them, the same ones each time.

    Experiments of different names hold back independently of each other. A larger share holds back the same users and
    more.
    """
    limit = round(share * 2**64)
    key = hashlib.blake2b(experiment.encode(), digest_size=16).digest()
    return np.array([_number(user_id, key) < limit for user_id in user_ids], np.bool_)


def _number(user_id: str, key: bytes) -> int:
    digest = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big")
