"""What a campaign says of itself: a file of TOML, or the same keys as JSON over HTTP."""

import json
import tomllib
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from recsys.config.settings import Section
from recsys.errors import ConfigError

MAX_BYTES = 2_000_000  # of a definition


class Definition(Section):
    """The keys of a campaign. The table `audience` has those of `recsys audience`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    purpose: Annotated[str, Field(min_length=1, max_length=1_000)]
    legal_basis: Literal["consent", "legitimate_interest", "contract"]  # of the mailing, as article 6 of the GDPR lists
    retention_days: Annotated[int, Field(ge=1, le=3_650)]  # after the export, until the members are to be deleted
    control_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # of the members, held back
    window_days: Annotated[float, Field(gt=0, le=365)] | None = None  # to be measured; unset: that of the audience
    worth: Annotated[float, Field(gt=0, le=10)] = 0.1  # the smallest relative rise of conversion that matters
    audience: dict[str, Any]


def read_definition(text: str, where: str) -> Definition:
    """Parse a definition, which is JSON when it begins with a brace, else TOML. Raises ConfigError, naming `where`."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: {len(text):,} characters; at most {MAX_BYTES:,} are allowed")
    try:
        values = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: it is neither TOML nor JSON: {error}") from None
    try:
        return Definition.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Say which keys are wrong, and how."""
    faults = [f"{'.'.join(map(str, fault['loc']))}: {_words(fault)}" for fault in error.errors()]
    return "; ".join(faults[:5])


def _words(fault: Any) -> str:
    unknown = fault["type"] in ("extra_forbidden", "unexpected_keyword_argument")
    return "there is no such key" if unknown else str(fault["msg"])
