"""What is frozen with a campaign beside its members: which effect it could find, and its members by segment."""

from dataclasses import asdict
from typing import Any

import polars as pl
import pyarrow as pa

from recsys.experiments.planning import plan

_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
_MAX_VALUES = 12  # of a column that makes segments
_NO_SEGMENTS = {"user_id", "email", "email_consent"}


def could_find(rate: float, members: int, share: float) -> list[dict[str, Any]]:
    """The smallest effects that are found, by the share that is held back; that of the campaign is among them.

    rate: expected conversion without a mailing.
    """
    shares = sorted({*_SHARES, share} - {0.0})
    return [{"control_share": one, **asdict(plan(rate, members, one)), "chosen": one == share} for one in shares]


def segments_of(members: pa.Table, people: pl.DataFrame | None) -> dict[str, dict[str, int]]:
    """Count the members by reason, and by each column of the users that has few values: column -> value -> members."""
    frame = pl.DataFrame({name: members[name].to_pylist() for name in ("user_id", "reason")})
    if people is not None:
        frame = frame.join(people.drop(*({*frame.columns} - {"user_id"}), strict=False), on="user_id", how="left")
    counted = {name: _counts(frame[name]) for name in frame.columns if name not in _NO_SEGMENTS}
    return {name: counts for name, counts in counted.items() if 1 < len(counts) <= _MAX_VALUES or name == "reason"}


def _counts(column: pl.Series) -> dict[str, int]:
    if column.n_unique() > _MAX_VALUES:
        return {}
    texts = column.cast(pl.String, strict=False).fill_null("–")
    return dict(texts.value_counts(sort=True).iter_rows())
