import json
import logging
import re
import sys

import pytest

from jobs import logs
from jobs.logs import FORMS


@pytest.fixture(autouse=True)
def without_runs(monkeypatch):
    monkeypatch.setattr(logs, "_runs", [])


def record(error=None):
    return logging.LogRecord("jobs.schedule", logging.WARNING, __file__, 1, "train: %s", ("late",), error)


def test_lines_for_people_are_in_utc():
    line = FORMS["text"]().format(record())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WARNING \d+ train: late", line)


def test_lines_for_programs_are_json_each_on_one_line_even_with_a_traceback():
    try:
        raise ValueError("x")
    except ValueError:
        line = FORMS["json"]().format(record(sys.exc_info()))
    values = json.loads(line)
    assert "\n" not in line
    assert (values["level"], values["message"], values["logger"]) == ("WARNING", "train: late", "jobs.schedule")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", values["time"])
    assert values["traceback"].endswith("ValueError: x")


def test_every_line_of_a_run_has_its_id_and_a_line_about_another_run_has_that_ones():
    logs.note_run(12)
    other = record()
    other.run_id = 7
    text, objects = FORMS["text"](), FORMS["json"]()
    assert text.format(record()).endswith(" run 12: train: late")
    assert text.format(other).endswith(" run 7: train: late")
    assert [json.loads(objects.format(one))["run"] for one in (record(), other)] == [12, 7]
