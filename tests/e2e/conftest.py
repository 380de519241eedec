"""A small sample shop, generated and trained once a worker; each test gets copies of its own."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run_apart, run_here
from road import QUICK
from tiny import quiet

from jobs.init_file import sample
from jobs.train import train
from recsys.config.loading import load_config

Recsys = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "shop"
    sample(folder, users=1500, items=300, events=30_000, seed=1, progress=quiet)
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
    train(load_config(folder / "recsys.toml", {}), progress=quiet)
    return folder


@pytest.fixture
def trained_shop(trained: Path, tmp_path: Path) -> Path:
    """The folder of a shop with one published bundle; a test may name other tables, so it is nobody's yet."""
    folder = Path(shutil.copytree(trained, tmp_path / "shop"))
    (folder / "recsys-data" / "SHOP").unlink()
    return folder


@pytest.fixture
def recsys() -> Recsys:
    """Run a command in this process."""
    return run_here


@pytest.fixture
def recsys_apart() -> Recsys:
    """Run a command as a process of its own."""
    return run_apart
