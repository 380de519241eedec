import json
from pathlib import Path

import pytest
from command_line import run_here

from jobs.install_lock import LOCKS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_of_this_version_is_written(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("install-lock", name)
    assert done.returncode == 0
    file = f"requirements-{name}.lock"
    assert f"next: pip install --no-deps -r {file}\n" in done.stdout
    text = (ROOT / file).read_text(encoding="utf-8")
    assert (tmp_path / file).read_text(encoding="utf-8") == text
    packages = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert f"{len(packages)} packages" in done.stdout


def test_it_goes_where_it_is_told_to_and_replaces_what_is_there(tmp_path):
    out = tmp_path / "here.txt"
    out.write_text("old")
    done = run_here("install-lock", "cpu", "--out", out, "--json")
    assert json.loads(done.stdout)["install"] == f"pip install --no-deps -r {out}"
    assert "torch==" in out.read_text()


def test_another_name_is_wrong_usage_and_the_right_ones_are_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("install-lock", "gpu")
    assert (done.returncode, done.stderr) == (
        2,
        "configuration: there is no lock 'gpu'; allowed are serve, cpu, cuda\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    done = run_here("install-lock", "cpu", "--out", tmp_path / "nowhere" / "lock")
    assert done.returncode == 1
    assert f"{tmp_path}/nowhere/lock cannot be written: No such file or directory" in done.stderr
