"""Values of the configuration as TOML writes them."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that TOML takes without quotes


def toml_value(value: Any) -> str:
    """The value as it stands on the right of a key."""
    if isinstance(value, dict):
        pairs = [f"{key if _BARE.fullmatch(key) else json.dumps(key)} = {toml_value(v)}" for key, v in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(v) for v in value)}]"
    if isinstance(value, str) and "\n" in value and "'''" not in value:
        return f"'''\n{value}'''"  # as it is, without escapes
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
