"""The wheel is whole: what it holds, and what an installation of it alone can do, without torch and the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import run_here
from road import QUICK, parsed
from tiny import quiet

from jobs.init_file import sample
from jobs.install_lock import LOCKS
from jobs.train import train
from recsys.config.loading import load_config

ROOT = Path(__file__).parents[2]
ROOMS = ("recsys", "jobs", "api", "migrations")
# The interpreters that the installation is tried with: paths, separated by colons.
PYTHONS = [
    str(Path(path).absolute()) for path in os.environ.get("RECSYS_TEST_PYTHONS", sys.executable).split(os.pathsep)
]
# None of them may lie on the disk of an installation that only answers.
TO_TRAIN = ("torch", "torchrec", "fbgemm_gpu", "tensordict", "optuna", "onnx", "onnxscript", "triton", "nvidia")
AS_OF = ("--as-of", "2026-07-01T00:00:00Z")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive, and that from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "checkout"
    source.mkdir()
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", *map("requirements-{}.lock".format, LOCKS)):
        shutil.copy(ROOT / file, source)
    with tarfile.open(_build("sdist", source, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return _build("wheel", next((folder / "unpacked").iterdir()), folder)


def _build(what: str, source: Path, out: Path) -> Path:
    program = f"import sys; from setuptools import build_meta as b; print(b.build_{what}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def test_the_wheel_holds_every_file_of_the_program_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        locks = {name: archive.read(f"jobs/locks/requirements-{name}.lock") for name in LOCKS}
    files = {path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()}
    assert names == {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert {"api/static/page.html", "migrations/env.py"} <= names
    assert locks == {name: (ROOT / f"requirements-{name}.lock").read_bytes() for name in LOCKS}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose bundle was trained with the full installation; its encoder is an ONNX graph."""
    folder = tmp_path_factory.mktemp("elsewhere") / "shop"
    sample(folder, users=1500, items=300, events=30_000, seed=1, progress=quiet)
    settings = folder / "recsys.toml"
    settings.write_text(
        settings.read_text() + QUICK.replace("epochs = 1", "epochs = 3") + '[training]\nmodels = ["sequence"]\n'
    )
    train(load_config(settings, {}), progress=quiet)
    return folder


class Installed:
    """An environment of its own with the wheel and the lock to serve, and an empty folder to work in."""

    def __init__(self, python: str, wheel: Path, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir(parents=True)
        self.bin = folder / "venv" / "bin"
        begin = time.monotonic()
        self._run(python, "-m", "venv", folder / "venv")
        with zipfile.ZipFile(wheel) as archive:
            lock = archive.extract("jobs/locks/requirements-serve.lock", folder)
        self._run(self.bin / "pip", "install", "--quiet", "--no-deps", "--no-compile", "-r", lock)
        self._run(self.bin / "pip", "install", "--quiet", "--no-deps", "--no-compile", wheel)
        self._run(self.bin / "pip", "check")
        self.seconds = time.monotonic() - begin
        self.packages = next((folder / "venv" / "lib").glob("python*/site-packages"))

    def recsys(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command in the empty folder."""
        return self._process([self.bin / "recsys", *words])

    def json(self, *words: str | Path) -> Any:
        """What a command prints for programs."""
        return parsed(self.recsys(*words, "--json"))

    def environment(self) -> dict[str, str]:
        """The variables of this process without those that lead back into the checkout."""
        ours = ("PYTHON", "RECSYS_")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def _run(self, *words: str | Path) -> None:
        done = self._process(words)
        assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"

    def _process(self, words: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, words)),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


@pytest.fixture(scope="module", params=PYTHONS)
def base(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("base")
    yield Installed(request.param, wheel, folder)
    shutil.rmtree(folder)


@pytest.fixture
def shop(elsewhere: Path, base: Installed, tmp_path: Path) -> Path:
    """A copy of the shop and its bundle, for the installation to answer from."""
    return Path(shutil.copytree(elsewhere, tmp_path / "shop"))


@pytest.mark.slow
def test_an_installation_to_serve_is_small_and_has_nothing_that_trains(base: Installed) -> None:
    there = {path.name.partition("-")[0] for path in base.packages.iterdir()}
    assert {"recsys", "api", "jobs", "migrations", "faiss"} <= there
    assert there.isdisjoint(TO_TRAIN)
    size = sum(path.lstat().st_size for path in base.packages.rglob("*") if path.is_file()) / 1e6
    print(f"{base.bin}: {base.seconds:.0f} s, {size:.0f} MB")  # noqa: T201 - `make wheel-test` shows it
    assert size < 1_200


@pytest.mark.slow
def test_it_answers_as_the_full_installation_does(base: Installed, shop: Path) -> None:
    config = ("--config", shop / "recsys.toml")
    known = base.json("recommend", "2205", *AS_OF, *config)
    assert "popular" not in {hit["reason"] for hit in known[0]["hits"]}  # the encoder answered
    for words in (
        ("recommend", "2205", "1777", "nobody", "-k", "7", *AS_OF, *config),
        ("similar", "P00012", "-k", "5", "--filter", "price:between:5,50", *config),
        ("bundles", *config),
    ):
        assert base.json(*words) == parsed(run_here(*words, "--json"))
    mailed = ("audience", "--items", "P00012", "--size", "20", "--json", *config, "--out")
    (shop / "recsys-data" / "SHOP").unlink()  # the folder is another shop's for the tables of the next line
    here = run_here(*mailed, shop / "here.csv", RECSYS_STORE__URL=f"sqlite:///{shop}/other.db")  # else it is frozen
    apart = base.recsys(*mailed, shop / "apart.csv")
    assert parsed(apart)["members"] == parsed(here)["members"] == 20
    assert (shop / "apart.csv").read_text() == (shop / "here.csv").read_text()


@pytest.mark.slow
def test_it_serves_the_page_and_the_answers(base: Installed, shop: Path) -> None:
    process = subprocess.Popen(
        [base.bin / "recsys", "serve", "--port", "0", "--config", shop / "recsys.toml"],
        cwd=base.folder,
        env=base.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "running on http://" in line)
        url = line.partition("running on ")[2].split()[0]
        for path, words in (
            ("/", "<html"),
            ("/static/page.js", "function"),
            ("/v1/users/1003/recommendations", "hits"),
        ):
            with urllib.request.urlopen(f"{url}{path}", timeout=30) as answer:
                assert words in answer.read().decode()
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.slow
def test_it_sets_up_imports_and_plans(base: Installed) -> None:
    shutil.rmtree(base.folder)
    base.folder.mkdir()
    assert base.json("init")["written"] is True
    (base.folder / "events.csv").write_text("user_id,item_id,event,timestamp\nu,i,purchase,2026-01-01T00:00:00Z\n")
    assert base.json("import", "events.csv")["inserted"] == 1
    found = base.json("doctor")
    assert found["ok"]
    absent = [f["name"] for f in found["findings"] if f["found"] == "not installed: needed to train only"]
    assert {"torch", "torchrec", "fbgemm_gpu", "optuna"} <= set(absent)
    settings = base.folder / "recsys.toml"
    settings.write_text(settings.read_text().replace('# train = "0', 'train = "0'))
    assert "train" in base.recsys("schedule", "--show").stdout
    assert base.json("sample", "demo", "--users", "50", "--items", "30", "--events", "500")
    assert base.recsys("source", "check", "--config", "demo/recsys.toml").returncode == 0


@pytest.mark.slow
def test_training_says_what_to_install(base: Installed, shop: Path) -> None:
    for words in (("train",), ("evaluate",), ("tune", "mf")):
        done = base.recsys(*words, "--config", shop / "recsys.toml")
        assert done.returncode == 1
        assert "pip install --no-deps -r requirements-cpu.lock" in done.stderr.splitlines()[-1]
    assert json.loads(base.recsys("install-lock", "cpu", "--json").stdout)["file"] == "requirements-cpu.lock"
    assert (base.folder / "requirements-cpu.lock").read_bytes() == (ROOT / "requirements-cpu.lock").read_bytes()
