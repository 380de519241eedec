"""A small sample shop, generated and trained once a worker; each test gets copies of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from road import QUICK
from tiny import quiet

from jobs.init_file import sample
from jobs.train import train
from recsys.config.loading import load_config


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "shop"
    sample(folder, users=1500, items=300, events=30_000, seed=1, report=quiet)
    settings = folder / "recsys.toml"
    settings.write_text(settings.read_text() + QUICK + '[training]\nmodels = ["mf"]\n')
    return folder


@pytest.fixture
def shop(generated: Path, tmp_path: Path) -> Path:
    """The folder of a shop that has never been trained."""
    return Path(shutil.copytree(generated, tmp_path / "shop"))


@pytest.fixture(scope="session")
def trained(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(generated, tmp_path_factory.mktemp("trained") / "shop"))
    train(load_config(folder / "recsys.toml", {}), report=quiet)
    return folder


@pytest.fixture
def trained_shop(trained: Path, tmp_path: Path) -> Path:
    """The folder of a shop with one published bundle."""
    return Path(shutil.copytree(trained, tmp_path / "shop"))


@pytest.fixture
def recsys(monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a process of its own."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
            timeout=300,
        )

    return run
