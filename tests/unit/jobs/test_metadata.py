"""What the package says of itself agrees with the lock files, the doctor and what is installed."""

import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from jobs.doctor.libraries import PYTHONS
from recsys.training.libraries import OTHERS, TRIO

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lock(name):
    lines = (ROOT / f"requirements-{name}.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def needed_by(texts):
    """Every distribution that these requirements bring, by the metadata of what is installed here."""
    found, rest = set(), [Requirement(text) for text in texts]
    while rest:
        asked = rest.pop()
        name = canonicalize_name(asked.name)
        if (name, str(asked.extras)) in found:
            continue
        found.add((name, str(asked.extras)))
        for extra in asked.extras or {""}:
            inner = [Requirement(text) for text in requires(name) or ()]
            rest += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def test_the_lock_to_serve_is_what_the_base_needs_and_nothing_else():
    assert set(lock("serve")) == needed_by(PROJECT["dependencies"])


def test_the_lock_to_serve_is_a_part_of_those_to_train():
    assert lock("serve").items() <= lock("cpu").items()
    assert lock("serve").items() <= lock("cuda").items()


def test_nothing_that_trains_is_in_the_base():
    assert set(lock("serve")).isdisjoint({"torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "tensordict", *OTHERS})


def test_the_extra_to_train_asks_for_the_three_that_belong_together():
    extra = {r.name: str(r.specifier) for r in map(Requirement, PROJECT["optional-dependencies"]["train"])}
    assert {name.replace("-", "_"): version for name, version in extra.items() if version} == {
        name: f"=={version}" for name, version in TRIO.items()
    }
    assert set(extra) == {"torch", "torchrec", "fbgemm-gpu", *OTHERS}
    assert set(extra) <= set(lock("cuda"))


@pytest.mark.parametrize("name", ["serve", "cpu", "cuda"])
def test_every_version_of_a_lock_is_one_that_the_metadata_allows(name):
    locked = lock(name)
    texts = PROJECT["dependencies"] + (PROJECT["optional-dependencies"]["train"] if name == "cuda" else [])
    for asked in map(Requirement, texts):
        assert asked.specifier.contains(locked[canonicalize_name(asked.name)])


def test_the_versions_of_python_are_the_same_everywhere():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(30) if allowed.contains(f"3.{minor}.5")] == list(PYTHONS)
    mark = "Programming Language :: Python :: 3."
    assert [f"3.{c.removeprefix(mark)}" for c in PROJECT["classifiers"] if c.startswith(mark)] == list(PYTHONS)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"foreach name,{' '.join(f'python{version}' for version in PYTHONS)} python3," in makefile
    first, last = (f"({version.replace('.', ', ')})" for version in (PYTHONS[0], PYTHONS[-1]))
    assert f"{first} <= sys.version_info[:2] <= {last}" in makefile
