"""A small sample shop, generated and trained once; each test gets copies of its own."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run_apart, run_here
from once import made_once
from road import QUICK
from tiny import quiet

from jobs.init_file import sample
from jobs.train import train
from recsys.config.loading import load_config

Recsys = Callable[..., subprocess.CompletedProcess[str]]


def generate(folder: Path) -> None:
    sample(folder, users=1500, items=300, events=30_000, seed=1, progress=quiet)
    settings = folder / "recsys.toml"
    settings.write_text(settings.read_text() + QUICK + '[training]\nmodels = ["mf"]\n')


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "generated", generate)


@pytest.fixture
def shop(generated: Path, tmp_path: Path) -> Path:
    """The folder of a shop that has never been trained."""
    return Path(shutil.copytree(generated, tmp_path / "shop"))


@pytest.fixture(scope="session")
def trained(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        shutil.copytree(generated, folder, dirs_exist_ok=True)
        train(load_config(folder / "recsys.toml", {}), progress=quiet)

    return made_once(tmp_path_factory, "trained", make)


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
