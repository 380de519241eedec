"""What the tests of the whole road share."""

import json
import subprocess
from pathlib import Path
from typing import Any

import tiny

from recsys.config.loading import load_config
from recsys.config.settings import Config

# Small grids: what these tests prove does not depend on the best settings.
QUICK = f"""
[models.mf]
n_factors = [32]
{tiny.PLAIN_MF}
[models.two_tower]
dim = 16
epochs = 2
[models.sequence]
dim = 16
epochs = 1
[propensity]
windows_days = []
"""


def configured(folder: Path, **environment: str) -> Config:
    """The shop's configuration, with keys overridden as by environment variables."""
    return load_config(folder / "recsys.toml", environment)


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON that a command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
