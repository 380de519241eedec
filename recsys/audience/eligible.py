"""Which users may be mailed: consent, suppression, deletions; and how many were left out for which reason.

Shapes: U users.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.audience.contacts import find_capped
from recsys.audience.features import Float64
from recsys.audience.filters import find_meeting
from recsys.audience.inputs import Inputs, Rules
from recsys.audience.suppression import Directory, SuppressionList, find_suppressed, find_users
from recsys.data.arrays import Bool
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RefusedError
from recsys.experiments.assignment import EVERY_MAILING, hold_back
from recsys.source.lists import read_contacts, read_lists
from recsys.source.people import CONSENT_AT, consent_times
from recsys.store.users import read_deletions

WITHDRAWN = "withdrew their consent"
UNKNOWN = "have no known consent any more"
FILTERED = "are no longer among those whom the query of users returns"
DELETED = "were deleted"
HELD_BACK = "users held back from every mailing"


@dataclass(frozen=True)
class Reason:
    """Why users must not be mailed."""

    name: str  # as `left_out` counts them
    later: str  # what has changed, where it was not so when an audience was frozen
    excluded: Bool  # [U]


@dataclass(frozen=True)
class Mailable:
    """Who must not be mailed, and why, as of now."""

    users: Vocabulary  # U
    reasons: list[Reason]  # a user with several counts for the first
    warnings: list[str]
    has_consent: bool  # whether anybody's is known, or all is assumed


def check_people(inputs: Inputs, rules: Rules) -> Mailable:
    """Find out who must not be mailed: consent, lists, caps and filters.

    Raises RefusedError when a list is refused.
    """
    users, config, warnings = inputs.users, inputs.config.audience, list[str]()
    deletions = read_deletions(inputs.store)
    deleted = find_users(users, deletions)
    reasons = [Reason("deleted users", DELETED, deleted), *_consent_reasons(inputs)]
    directory = Directory(users, inputs.people, deletions)
    kept = [
        SuppressionList(name, tuple(of), "the list") for name, of in read_lists(inputs.config, inputs.store).items()
    ]
    for one in (*kept, *(rules.suppressed or ())):
        named, found = find_suppressed(
            one, users, directory, config.max_unknown_share, allow_empty=rules.allow_empty_suppression
        )
        name = Path(one.name).name
        reasons.append(Reason(f"users on the list {name}", f"were put on the list {name}", named))
        warnings += found
    most = config.max_contacts if rules.max_contacts is None else rules.max_contacts
    if most is not None:
        days = config.contact_days if rules.contact_days is None else rules.contact_days
        contacts = pl.concat([read_contacts(inputs.config, inputs.store), *rules.contacts])
        capped = find_capped(contacts, users, directory, most=most, days=days, now=inputs.store.now())
        cap = f"{most} mails or more within {days:g} days"
        reasons.append(Reason(f"users who had {cap}", f"have had {cap}", capped))
    if rules.user_filters:
        met = find_meeting(users, inputs.people, rules.user_filters)
        reasons.append(Reason("users who do not meet --user-filter", "do not meet --user-filter any more", ~met))
    if config.control_share:
        back = hold_back(users, EVERY_MAILING, config.control_share)
        reasons.append(Reason(HELD_BACK, "are held back from every mailing", back))
    has_consent = config.consent == "assumed" or inputs.consent_of(()) is not None
    return Mailable(users, reasons, warnings, has_consent)


def find_mailable(mailable: Mailable, left_out: dict[str, int]) -> Bool:
    """Mark the users [U] who may be mailed; write the number left out for each reason to `left_out`.

    Raises RefusedError when there is no consent data, and when no user may be mailed.
    """
    if not mailable.has_consent:
        raise RefusedError(
            "nobody is eligible: there is no consent data. Let [source] users return email_consent, import users "
            'with that column, or, if all consented elsewhere, set [audience] consent = "assumed"; every output '
            "then says so"
        )
    eligible = np.ones(len(mailable.users), np.bool_)
    for reason in mailable.reasons:
        eligible = exclude(eligible, left_out, reason.name, reason.excluded)
    refuse_if_nobody(int(eligible.sum()), len(mailable.users), left_out)
    return eligible


def _consent_reasons(inputs: Inputs) -> list[Reason]:
    assumed, ids = inputs.config.audience.consent == "assumed", list(inputs.users)
    consent, nothing = inputs.consent_of(ids), "users of whom no consent is known"
    if consent is None:
        return [] if assumed else [Reason(nothing, UNKNOWN, np.ones(len(ids), np.bool_))]
    assert inputs.people is not None  # there is consent
    refused = np.asarray(consent.fill_null(True).to_numpy(zero_copy_only=False)) == 0
    reasons = [Reason("users who did not consent", WITHDRAWN, refused)]
    if not assumed:
        unknown = np.asarray(consent.is_null().to_numpy(zero_copy_only=False), np.bool_)
        gone = ~find_users(inputs.users, inputs.people["user_id"])
        reasons += [Reason(nothing, FILTERED, unknown & gone), Reason(nothing, UNKNOWN, unknown)]
    days = inputs.config.audience.max_consent_age_days
    if days is None:
        return reasons
    if CONSENT_AT not in inputs.people.columns:
        raise RefusedError(f"[audience] max_consent_age_days: [source] users has to return {CONSENT_AT}")
    given: Float64 = consent_times(inputs.people, ids, inputs.config)
    old = ~(given > inputs.store.now() - days * MICROSECONDS_PER_DAY)  # NaN, a consent without a date, is old
    told = f"a consent of more than {days:g} days ago, or without a date"
    return [*reasons, Reason(f"users with {told}", f"have {told}", old)]


def keep_mailable(members: pa.Table, frozen: int, mailable: Mailable) -> tuple[pa.Table, dict[str, int]]:
    """Keep the members of a frozen audience who may still be mailed; and count the others by what has changed.

    frozen: how many members there were. Raises RefusedError when none is left.
    """
    rows = mailable.users.rows_of(members["user_id"].to_pylist())
    gone = {DELETED: frozen - members.num_rows}
    kept = np.ones(len(rows), np.bool_)
    for reason in mailable.reasons:
        # Of who is neither in the query nor in the extract any more, everything is unknown.
        excluded = np.append(reason.excluded, reason.later in (FILTERED, UNKNOWN))[rows]
        gone[reason.later] = gone.get(reason.later, 0) + int((kept & excluded).sum())
        kept &= ~excluded
    if not kept.any():
        raise RefusedError(
            f"nobody of the frozen audience may be mailed any more; of {frozen} members since then "
            f"{describe_changes(gone)}"
        )
    return members.filter(pa.array(kept)), {reason: count for reason, count in gone.items() if count}


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
