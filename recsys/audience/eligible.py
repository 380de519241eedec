"""Which users may be mailed: consent, suppression, deletions; and how many were left out for which reason.

Shapes: U users.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from recsys.audience.export import spellings
from recsys.audience.inputs import Campaign, Inputs
from recsys.config.settings import Config
from recsys.data.arrays import Bool
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RefusedError
from recsys.source.dataset import read_consent
from recsys.store.database import Store


def find_mailable(inputs: Inputs, campaign: Campaign, deleted: Bool, left_out: dict[str, int]) -> Bool:
    """Mark the users [U] who may be mailed; write the number left out for each reason to `left_out`.

    Raises RefusedError when there is no consent data, and when no user may be mailed.
    """
    users = inputs.extract.users
    consent = read_consent(inputs.config, inputs.store, list(users))
    assumed = inputs.config.audience.consent == "assumed"
    if consent is None and not assumed:
        raise RefusedError(
            "nobody is eligible: there is no consent data. Let [source] users return email_consent, import users with "
            'that column, or, if all consented elsewhere, set [audience] consent = "assumed"; every output then says so'
        )
    eligible = exclude(np.ones(len(users), np.bool_), left_out, "deleted users", deleted)
    if consent is not None:
        said_no = np.asarray(consent.fill_null(True).to_numpy(zero_copy_only=False)) == 0
        eligible = exclude(eligible, left_out, "users who did not consent", said_no)
        if not assumed:
            unknown = np.asarray(consent.is_null().to_numpy(zero_copy_only=False), np.bool_)
            eligible = exclude(eligible, left_out, "users of whom no consent is known", unknown)
    if campaign.suppressed is not None:
        suppressed = find_users(users, (s for name in campaign.suppressed for s in spellings(name)))
        eligible = exclude(eligible, left_out, "suppressed users", suppressed)
    refuse_if_nobody(int(eligible.sum()), len(users), left_out)
    return eligible


def keep_mailable(members: pa.Table, config: Config, store: Store) -> tuple[pa.Table, int]:
    """Keep the members of a frozen audience who may still be mailed; return them and the number of the others.

    Raises RefusedError when none is left.
    """
    consent = read_consent(config, store, members["user_id"].to_pylist())
    if consent is None:
        consent = pa.nulls(members.num_rows, pa.bool_())
    kept = members.filter(consent.fill_null(config.audience.consent == "assumed"))
    if kept.num_rows == 0:
        raise RefusedError(
            f"nobody of the frozen audience may be mailed any more: of {members.num_rows} members who are left, no "
            "consent is known"
        )
    return kept, members.num_rows - kept.num_rows


def exclude(eligible: Bool, left_out: dict[str, int], reason: str, excluded: Bool) -> Bool:
    """Return the eligible users [U] without the excluded ones; write how many that were to `left_out`.

    A user with several reasons counts for the first.
    """
    left_out[reason] = int((eligible & excluded).sum())
    return eligible & ~excluded


def find_users(users: Vocabulary, ids: Iterable[str]) -> Bool:
    """Mark the users [U] whose ids are among these; ids of nobody are ignored."""
    rows = users.rows_of(list(dict.fromkeys(ids)))
    among = np.zeros(len(users), np.bool_)
    among[rows[rows >= 0]] = True
    return among


def refuse_if_nobody(eligible: int, users: int, left_out: dict[str, int]) -> None:
    """Raise RefusedError, with the reasons, when no user is eligible."""
    if eligible == 0:
        raise RefusedError(f"nobody is eligible; of {users} users were left out: {describe_left_out(left_out)}")


def describe_left_out(left_out: dict[str, int]) -> str:
    """Describe who was left out: counts and reasons in a row."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "nobody"
