"""Which users may be mailed: consent, suppression, deletions; and how many were left out for which reason.

Shapes: U users.
"""

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.audience.filters import find_meeting
from recsys.audience.inputs import Campaign, Inputs
from recsys.audience.suppression import Directory, find_suppressed
from recsys.data.arrays import Bool
from recsys.errors import RefusedError
from recsys.source.people import consent_of

WITHDRAWN = "withdrew their consent"
UNKNOWN = "have no known consent any more"
FILTERED = "are no longer among those whom the query of users returns"
DELETED = "were deleted"


def find_mailable(
    inputs: Inputs, campaign: Campaign, deleted: Bool, left_out: dict[str, int], warnings: list[str]
) -> Bool:
    """Mark the users [U] who may be mailed; write the number left out for each reason to `left_out`.

    Raises RefusedError when there is no consent data, when a suppression list is refused, and when no user may be
    mailed.
    """
    users = inputs.users
    eligible = exclude(np.ones(len(users), np.bool_), left_out, "deleted users", deleted)
    eligible = _with_consent(inputs, eligible, left_out)
    if campaign.suppressed is not None:
        directory = Directory(users, inputs.people, (users.id_of(int(row)) for row in np.flatnonzero(deleted)))
        suppressed, found = find_suppressed(
            campaign.suppressed,
            users,
            directory,
            inputs.config.audience.max_unknown_share,
            allow_empty=campaign.allow_empty_suppression,
        )
        warnings += found
        eligible = exclude(eligible, left_out, "suppressed users", suppressed)
    if campaign.user_filters:
        met = find_meeting(users, inputs.people, campaign.user_filters)
        eligible = exclude(eligible, left_out, "users who do not meet --user-filter", ~met)
    refuse_if_nobody(int(eligible.sum()), len(users), left_out)
    return eligible


def _with_consent(inputs: Inputs, eligible: Bool, left_out: dict[str, int]) -> Bool:
    assumed = inputs.config.audience.consent == "assumed"
    consent = inputs.consent_of(list(inputs.users))
    if consent is None:
        if not assumed:
            raise RefusedError(
                "nobody is eligible: there is no consent data. Let [source] users return email_consent, import users "
                'with that column, or, if all consented elsewhere, set [audience] consent = "assumed"; every output '
                "then says so"
            )
        return eligible
    said_no = np.asarray(consent.fill_null(True).to_numpy(zero_copy_only=False)) == 0
    eligible = exclude(eligible, left_out, "users who did not consent", said_no)
    if assumed:
        return eligible
    unknown = np.asarray(consent.is_null().to_numpy(zero_copy_only=False), np.bool_)
    return exclude(eligible, left_out, "users of whom no consent is known", unknown)


def keep_mailable(
    members: pa.Table, frozen: int, people: pl.DataFrame | None, *, assumed: bool
) -> tuple[pa.Table, dict[str, int]]:
    """Keep the members of a frozen audience who may still be mailed; and count the others by what has changed.

    frozen: how many members there were. Raises RefusedError when none is left.
    """
    gone = {DELETED: frozen - members.num_rows}
    ids = pl.Series(members["user_id"].to_pylist(), dtype=pl.String)
    if people is None:
        consent, listed = pl.Series([None] * len(ids), dtype=pl.Boolean), pl.repeat(assumed, len(ids), eager=True)
    else:
        consent, listed = pl.Series(consent_of(people, ids)).cast(pl.Boolean), ids.is_in(people["user_id"].implode())
    gone[FILTERED] = 0 if assumed else int((~listed).sum())
    gone[WITHDRAWN] = int((consent == False).sum())  # noqa: E712  a column
    kept = consent.fill_null(assumed)
    gone[UNKNOWN] = int((~kept).sum()) - gone[FILTERED] - gone[WITHDRAWN]
    if not kept.any():
        raise RefusedError(
            f"nobody of the frozen audience may be mailed any more; of {frozen} members since then "
            f"{describe_changes(gone)}"
        )
    return members.filter(pa.array(kept.to_list(), pa.bool_())), {
        reason: count for reason, count in gone.items() if count
    }


def describe_changes(gone: dict[str, int]) -> str:
    """Describe why members of a frozen audience are not in the file: counts and reasons in a row."""
    return ", ".join(f"{count} {reason}" for reason, count in gone.items() if count) or "none"


def exclude(eligible: Bool, left_out: dict[str, int], reason: str, excluded: Bool) -> Bool:
    """Return the eligible users [U] without the excluded ones; write how many that were to `left_out`.

    A user with several reasons counts for the first.
    """
    left_out[reason] = left_out.get(reason, 0) + int((eligible & excluded).sum())
    return eligible & ~excluded


def refuse_if_nobody(eligible: int, users: int, left_out: dict[str, int]) -> None:
    """Raise RefusedError, with the reasons, when no user is eligible."""
    if eligible == 0:
        raise RefusedError(f"nobody is eligible; of {users} users were left out: {describe_left_out(left_out)}")


def describe_left_out(left_out: dict[str, int]) -> str:
    """Describe who was left out: counts and reasons in a row."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "nobody"
