"""A plan of several campaigns that go out together: a TOML file, and what each campaign may expect of each user.

Shapes: U users, C campaigns.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, StringConstraints, ValidationError, model_validator

from recsys.audience.allocation import Limits
from recsys.config.settings import Section
from recsys.data.arrays import Float64
from recsys.errors import ConfigError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$")]  # becomes the name of a file


class PlannedCampaign(Section):
    """One campaign: a frozen audience, what a purchase brings, what a mail costs, and how many users it may have."""

    audience: str
    value: float = Field(1.0, gt=0)
    cost: float = Field(0.0, ge=0)
    min_size: int = Field(0, ge=0)
    max_size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _sizes(self) -> "PlannedCampaign":
        if self.max_size is not None and self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size} is above max_size {self.max_size}")
        return self

    @property
    def limits(self) -> Limits:
        """Its sizes."""
        return Limits(self.min_size, self.max_size)


class Plan(Section):
    """What goes out together."""

    per_user: int = Field(1, ge=1)
    campaigns: dict[Name, PlannedCampaign] = Field(min_length=1, max_length=100)


@dataclass(frozen=True)
class Expected:
    """What each mailing is expected to bring."""

    user_ids: list[str]  # [U], sorted
    probability: Float64  # [U, C], NaN where the user is no member
    values: Float64  # [U, C] value of a purchase times its probability, less the cost of a mail


def read_plan(path: Path) -> Plan:
    """Read a plan. Raises ConfigError that names the key, what was found and what is allowed."""
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the plan {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the plan {path} is no TOML: {error}") from None
    try:
        return Plan.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the plan"
        raise ConfigError(f"the plan {path}: {place}: {first['msg']}") from None


def expect(plan: Plan, members: Mapping[str, pa.Table]) -> Expected:
    """Put the members of all campaigns side by side. members: by campaign, user_id and probability."""
    ids = sorted({user for table in members.values() for user in table["user_id"].to_pylist()})
    rows = {user: row for row, user in enumerate(ids)}
    probability = np.full((len(ids), len(plan.campaigns)), np.nan)
    values = probability.copy()
    for number, (name, campaign) in enumerate(plan.campaigns.items()):
        own = members[name]
        at = np.fromiter((rows[user] for user in own["user_id"].to_pylist()), np.int64, own.num_rows)
        probability[at, number] = own["probability"].to_numpy()
        values[at, number] = campaign.value * probability[at, number] - campaign.cost
    return Expected(ids, probability, values)
