"""Training says how to get its libraries, before it reads anything; the message is the line that installs them."""

import pytest
from command_line import run_here

from recsys.errors import RecsysError
from recsys.training import libraries

LINE = "pip install --no-deps -r requirements-cpu.lock"
SOUND = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0", "optuna": "5", "onnx": "1"}
SOUND["onnxscript"] = "0.7"


@pytest.fixture
def installed(monkeypatch):
    """The versions that the installation has, to be changed by a test."""
    versions = dict(SOUND)
    monkeypatch.setattr(libraries, "version_of", versions.get)
    monkeypatch.setattr(libraries, "cuda_of_torch", lambda: versions.get("cuda of torch"))
    return versions


def message():
    with pytest.raises(RecsysError) as caught:
        libraries.check_installed()
    assert "\n" not in str(caught.value)
    assert LINE in str(caught.value)
    return str(caught.value)


def test_the_versions_of_the_lock_are_right_in_either_build(installed):
    libraries.check_installed()
    del installed["fbgemm-gpu-cpu"]
    installed |= {"torch": "2.13.0+cu130", "fbgemm-gpu": "1.8.0", "cuda of torch": "13.0"}
    libraries.check_installed()
    assert not libraries.is_base()


def test_a_base_installation_has_none_of_the_three_whatever_else_it_has(installed):
    for name in ("torch", "torchrec", "fbgemm-gpu-cpu"):
        assert not libraries.is_base()
        del installed[name]
    assert libraries.is_base()
    assert "found none of torch, torchrec, fbgemm_gpu; " in message()


def test_a_fbgemm_of_another_version_is_named(installed):
    installed["fbgemm-gpu-cpu"] = "1.9.0"
    assert "found torch 2.13.0+cpu, torchrec 1.8.0, fbgemm-gpu-cpu 1.9.0; " in message()
    assert "wrong: fbgemm_gpu; `recsys install-lock cpu`, then" in message()


def test_a_build_that_the_lock_does_not_replace_has_to_go_first(installed):
    del installed["fbgemm-gpu-cpu"]
    installed["fbgemm-gpu"] = "1.9.0"  # what torchrec's own metadata brings
    assert "wrong: fbgemm_gpu; `pip uninstall fbgemm-gpu`, `recsys install-lock cpu`, then" in message()
    installed["fbgemm-gpu-cpu"] = "1.8.0"
    assert "not both: `pip uninstall fbgemm-gpu-cpu fbgemm-gpu`, then" in message()


def test_builds_of_two_kinds_are_told_apart_though_their_versions_are_right(installed):
    installed["cuda of torch"] = "13.0"
    said = message()
    assert "found torch for CUDA 13.0, fbgemm-gpu-cpu; " in said
    assert "`pip uninstall torch fbgemm-gpu-cpu`, for a CPU set PIP_EXTRA_INDEX_URL to the CPU wheel index" in said
    assert "page, then `recsys install-lock cpu`" in said


@pytest.mark.parametrize("name", libraries.OTHERS)
def test_what_else_training_needs_is_asked_for(installed, name):
    del installed[name]
    assert f"training needs {name}, not installed" in message()


@pytest.mark.parametrize("command", [("train",), ("evaluate",), ("tune", "mf")], ids=lambda words: words[0])
@pytest.mark.parametrize("wrong", [{"fbgemm-gpu-cpu": "1.9.0"}, dict.fromkeys(SOUND)], ids=["another", "none"])
def test_every_command_that_trains_prints_the_line_and_ends(installed, wrong, command, tmp_path):
    installed |= wrong
    config = tmp_path / "recsys.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/own.db"\n[storage]\npath = "{tmp_path}/files"\n')
    done = run_here(*command, "--config", config)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("failed: training needs other libraries than are installed: ")
    assert LINE in done.stderr.splitlines()[-1]
    assert not (tmp_path / "files").exists()


def test_a_failed_night_says_in_the_ledger_what_to_install(installed, tmp_path):
    installed.clear()
    config = tmp_path / "recsys.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/own.db"\n')
    run_here("train", "--config", config)
    assert LINE in run_here("runs", "--json", "--config", config).stdout
