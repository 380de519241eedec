"""The files that other programs read, held against the code: Dockerfile, compose.yaml, the workflow, versions."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from api.routes import health
from jobs.cli import app
from recsys.config.loading import load_config

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Stage -> its instructions with those of the stages it begins from, the earliest first."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in DOCKERFILE.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = list(found.get(parent, []))
        elif name and word.isupper():
            found[name].append((word, rest))
    return found


def last(target: str, word: str) -> str:
    return [rest for found, rest in stages()[target] if found == word][-1]


@pytest.mark.parametrize("target", ["serve", "train"])
def test_an_image_runs_as_nobody_in_particular_and_gets_signals(target: str) -> None:
    user = last(target, "USER").partition(":")[0]
    assert user.isdigit(), "a number, so that a cluster can see that it is not root"
    assert int(user) > 0
    assert json.loads(last(target, "ENTRYPOINT")) == ["tini", "--", "recsys"]  # without a shell in between
    assert json.loads(last(target, "CMD"))[0] in COMMANDS


def test_the_health_check_asks_a_route_at_the_port_that_the_image_serves() -> None:
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", last("serve", "HEALTHCHECK"))
    assert asked
    command = json.loads(last("serve", "CMD"))
    assert asked[1] == command[command.index("--port") + 1] == last("serve", "EXPOSE")
    assert asked[2] in {route.path for route in health.router.routes}  # type: ignore[attr-defined]


def test_every_lock_file_that_is_named_is_there() -> None:
    for file in ("Dockerfile", "compose.yaml", "Makefile", "docs/deploy.md"):
        named = set(re.findall(r"requirements-[a-z]+\.lock", (ROOT / file).read_text(encoding="utf-8")))
        assert named, file
        assert [lock for lock in sorted(named) if not (ROOT / lock).exists()] == [], file


def test_what_the_wheel_is_made_of_reaches_the_build() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert sent >= packages | {PROJECT["project"]["readme"], "LICENSE", "pyproject.toml", "requirements-*.lock"}


def test_one_version_everywhere() -> None:
    changes = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changes[0] == VERSION
    wheels = re.findall(r"recsys-([\d.]+)-py3", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"))
    assert set(wheels) == {VERSION}
    assert "0.1.0" in changes
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == VERSION
    assert ("ARG", f"VERSION={VERSION}") in stages()["serve"]
    assert {service["image"].partition(":")[2] for service in OURS.values()} == {VERSION}


def test_a_version_has_one_date_or_is_unreleased_everywhere() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(rf"^## {re.escape(VERSION)} \((.+)\)$", changes, re.MULTILINE)
    assert heading, "the newest entry says when it was released, or (unreleased)"
    released = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")).get("date-released")
    assert heading[1] == ("unreleased" if released is None else str(released))


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_strict_and_runs_a_command_of_ours(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["build"]["target"] in stages()
    command = service.get("command") or json.loads(last(service["build"]["target"], "CMD"))
    if "entrypoint" in service:
        command = re.findall(r"\bexec recsys ([a-z-]+)", service["entrypoint"][-1])
    assert command[0] in COMMANDS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        other = SERVICES[needed]
        if how["condition"] == "service_healthy":
            assert "test" in other["healthcheck"]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert other["restart"] == "no", f"{needed} would start again and never be done"


def test_the_sample_shop_shares_neither_files_nor_tables_with_the_shop() -> None:
    volumes = {name: service["volumes"] for name, service in OURS.items()}
    prefixes = {name: service["environment"].get("RECSYS_STORE__TABLE_PREFIX") for name, service in OURS.items()}
    sample = {name for name, service in OURS.items() if service.get("profiles") == ["sample"]}
    assert sample == {"sample-shop", "sample-train", "sample-api"}
    for name in OURS:
        assert (volumes[name] == ["sample:/data"]) == (name in sample)
        assert prefixes[name] == ("sample_" if name in sample else None)


def test_every_build_of_the_image_that_trains_is_told_where_torch_for_a_cpu_lies() -> None:
    for name, service in OURS.items():
        if service["build"]["target"] == "train":
            assert service["build"]["args"]["CPU_INDEX"] == "${CPU_INDEX:-}", name
    assert ("ARG", "CPU_INDEX=") in stages()["train-libraries"]
    assert WORKFLOW["env"]["CPU_INDEX"] == WORKFLOW["env"]["PIP_EXTRA_INDEX_URL"]
    assert (
        "CPU_INDEX" in re.findall(r"for name in (.+); do", (ROOT / "docker" / "check.sh").read_text("utf-8"))[0].split()
    )


def test_no_password_has_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{\w*PASSWORD(:.)", text)) == {":?"}
    passwords = re.findall(r"(?:PASSWORD: |://\w+:)(.)", text)
    assert passwords
    assert set(passwords) == {"$"}


def test_the_configuration_of_compose_is_valid() -> None:
    config = load_config(ROOT / "docker" / "recsys.toml", {})
    assert str(config.storage.path) == "/data"
    assert config.schedule.train


def test_the_workflow_runs_what_anybody_can_run() -> None:
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert "bash .ci/run" in commands
    targets = {target for command in commands for target in re.findall(r"\bmake ([a-z-]+)", command)}
    assert {"docs-site", "images", "release", "test-slow", "wheel-test"} <= targets
    there = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets <= set(there)
    supported = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)
    for job in ("checks", "wheel"):
        assert WORKFLOW["jobs"][job]["strategy"]["matrix"]["python"] == supported


def test_the_bots_see_every_lock_file() -> None:
    pattern = json.loads((ROOT / "renovate.json").read_text(encoding="utf-8"))["pip_requirements"][
        "managerFilePatterns"
    ]
    locks = [path.name for path in ROOT.glob("requirements-*")]
    assert locks
    assert [name for name in locks if not re.fullmatch(pattern[0].strip("/^$"), name)] == []
