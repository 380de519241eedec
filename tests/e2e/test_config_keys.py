"""For every key of the configuration: changing it changes an outcome."""

import ast
from pathlib import Path

import pytest
from key_checks import CHECKS
from key_checks_models import MODEL_CHECKS
from pydantic import BaseModel

from recsys.config.settings import Config

ALL = CHECKS | MODEL_CHECKS
TESTS = Path(__file__).parents[1]
INDEX, SCHEDULER, ALERTS = "unit/test_index.py", "integration/test_scheduler.py", "integration/test_alerts.py"
AUDIENCE, SOURCE = "e2e/test_campaign.py", "integration/test_source.py"
# Keys that need a server, a clock or an index of its own: the test that changes them, beside what they set.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "training.processes": (
        "e2e/test_torchrun.py",
        "test_two_processes_are_as_accurate_as_one_within_the_spread_of_seeds",
    ),
    "source.time_format": (SOURCE, "test_times_as_text_are_read_in_the_configured_form"),
    "index.min_recall": (INDEX, "test_an_index_below_the_asked_recall_gives_way_to_the_exact_one"),
    "schedule.timeout_minutes": (
        SCHEDULER,
        "test_a_run_over_its_limit_is_ended_with_its_group_has_failed_and_is_not_tried_again",
    ),
    "schedule.grace_seconds": (
        SCHEDULER,
        "test_an_end_asked_for_ends_the_job_with_its_group_and_leaves_the_night_to_the_next_start",
    ),
    "schedule.max_attempts": (
        SCHEDULER,
        "test_a_job_that_dies_every_time_is_given_up_in_the_ledger_after_three_attempts",
    ),
    "alerts.webhook_url": (ALERTS, "test_the_scheduler_posts_what_its_runs_come_to"),
    "audience.consent": (AUDIENCE, "test_assumed_consent_is_stated_everywhere_and_a_no_stays_a_no"),
    "alerts.max_age_hours": (ALERTS, "test_a_job_without_success_for_too_long_is_told_of_once_until_it_succeeds"),
}


def keys(section: BaseModel, prefix: str = "") -> list[str]:
    found = []
    for name, value in section:
        found += keys(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [prefix + name]
    return found


def test_every_key_has_a_test_and_only_keys_that_exist() -> None:
    wanted = [key for key in keys(Config()) if not key.startswith("api.")]  # the service's own tests are elsewhere
    assert sorted([*ALL, *ELSEWHERE]) == sorted(wanted)


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_test_of_the_key_exists(key: str) -> None:
    file, name = ELSEWHERE[key]
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("key", ALL)
def test_changing_the_key_changes_an_outcome(key: str, trained_shop: Path) -> None:
    ALL[key](trained_shop)
