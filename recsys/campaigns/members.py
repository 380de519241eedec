"""The members of a campaign, and which of them are held back. Loads nothing that reads the shop's database."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Bool
from recsys.store.audiences import list_members
from recsys.store.campaigns import CampaignRecord, is_held_back
from recsys.store.database import Store


def held_back(campaign: str, share: float, user_ids: Sequence[str]) -> Bool:
    """Mark the members [N] who are held back."""
    return np.array([is_held_back(user_id, campaign, share) for user_id in user_ids], np.bool_)


def members_of(store: Store, campaign: CampaignRecord) -> pa.Table:
    """The members of a campaign by rank, as `list_members`; not those that the audience was refilled with since."""
    members = list_members(store, campaign.audience_id)
    return members.filter(pc.less_equal(members["rank"], campaign.facts["last_rank"]))
