"""The users as the shop knows them now: who may be mailed, and every further column of the query of users."""

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.config.settings import Config
from recsys.data.arrays import Float64
from recsys.source.catalog import read_user_columns, read_users
from recsys.source.results import open_shop
from recsys.source.times import TimeReader
from recsys.store.database import Store
from recsys.store.tables import own_queries

CONSENT_AT, CONSENT_SOURCE = "email_consent_at", "email_consent_source"  # columns of the query of users


def query_of_users(config: Config, store: Store) -> str | None:
    """The query that says who the users are; None: the shop has none."""
    return own_queries(store.tables)[2] if config.source.interactions is None else config.source.users


def read_people(config: Config, store: Store) -> pl.DataFrame | None:
    """Read the users: user_id (String, unique), email_consent (Boolean, null: unknown) and the query's other columns.

    None without a query of users. Raises SourceError when they cannot be read.
    """
    query, is_own = query_of_users(config, store), config.source.interactions is None
    if query is None:
        return None
    with closing(open_shop(config, store)) as shop:
        users = read_users(shop, query, "users", config.source, own=is_own).frame
        further = read_user_columns(shop, query, "users", config.source, own=is_own)
    if further is None:
        return users
    return users.join(further.drop("email_consent", strict=False), on="user_id", how="left", maintain_order="left")


def consent_times(users: pl.DataFrame, ids: Sequence[str], config: Config) -> Float64:
    """When each user consented, in microseconds UTC; NaN where nobody knows. ids [U] -> [U]."""
    reader = TimeReader(zone=config.source.timezone, form=config.source.time_format)
    times = users.select("user_id", at=reader.read(users[CONSENT_AT]).microseconds.cast(pl.Float64))
    wanted = pl.DataFrame({"user_id": pl.Series(ids, dtype=pl.String)})
    found = wanted.join(times, on="user_id", how="left", maintain_order="left")["at"]
    return np.asarray(found.fill_null(float("nan")).to_numpy(), np.float64)


def consent_of(users: pl.DataFrame, ids: pl.Series) -> pa.BooleanArray:
    """Look up whether each user may be mailed: true, false, or null where unknown. ids [U] -> [U]."""
    joined = pl.DataFrame({"user_id": ids}).join(users, on="user_id", how="left", maintain_order="left")
    return pa.array(joined["email_consent"].to_list(), pa.bool_())
