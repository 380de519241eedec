"""Who gets picks: the members of a frozen audience, or everybody who may be mailed."""

import numpy as np
import pyarrow as pa

from recsys.audience.eligible import check_people, find_mailable, keep_mailable
from recsys.audience.inputs import Inputs, Rules
from recsys.errors import NotFoundError
from recsys.store.audiences import find_audience, list_members


def members_of(inputs: Inputs, audience_id: str) -> tuple[pa.Table, dict[str, int]]:
    """The members of a frozen audience who may still be mailed, as list_members, and how many may not any more.

    Raises NotFoundError for an unknown audience, RefusedError when none is left.
    """
    record = find_audience(inputs.store, audience_id)
    if record is None:
        raise NotFoundError(f"there is no audience {audience_id!r}; `recsys audience` prints the id of each it freezes")
    return keep_mailable(list_members(inputs.store, audience_id), record.members, check_people(inputs, Rules()))


def subscribers(inputs: Inputs, rules: Rules) -> tuple[list[str], dict[str, int], list[str]]:
    """Everybody who may be mailed, also without any event; how many may not, by reason; and warnings.

    Raises RefusedError when nobody may be mailed, or a list is refused.
    """
    mailable, left_out = check_people(inputs, rules), dict[str, int]()
    eligible = find_mailable(mailable, left_out)
    return inputs.users.ids_of(np.flatnonzero(eligible)), left_out, mailable.warnings
