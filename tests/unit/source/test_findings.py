"""Findings, the report, and how values of every form become numbers and text."""

import json

import polars as pl
import pytest

from recsys.data.times import rfc3339
from recsys.source import findings as check
from recsys.source.findings import Finding, SourceReport, left_out
from recsys.source.values import read_lists, read_numbers, read_texts

NOON = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC, microseconds


def test_numbers_and_texts() -> None:
    assert read_numbers(pl.Series(["1.5", "x", "inf", None])).to_list() == [1.5, None, None, None]
    assert read_texts(pl.Series([17850, None])).to_list() == ["17850", None]
    assert read_texts(pl.Series([b"a"])).to_list() == [None]


@pytest.mark.parametrize(("rows", "severity"), [(1, "warning"), (10, "warning"), (11, "error")])
def test_a_fault_is_an_error_above_the_share_that_is_allowed(rows: int, severity: str) -> None:
    [finding] = left_out({check.NO_USER: rows}, {}, 1_000, 0.01)
    assert (finding.severity, finding.rows, finding.of, finding.left_out) == (severity, rows, 1_000, True)


def test_texts_that_are_all_json_lists_become_lists() -> None:
    assert read_lists(pl.Series(['["a", "b"]', None, "[]"])).to_list() == [["a", "b"], None, []]
    assert read_lists(pl.Series(["[1, 2.5]"])).to_list() == [[1.0, 2.5]]
    for others in (['["a"]', "b"], ['["a"'], ["[1]", '["a"]'], ['[{"a": 1}]'], [None], ["[" * 50_000]):
        texts = pl.Series(others, dtype=pl.String)
        assert read_lists(texts).to_list() == others


def test_every_reason_has_advice() -> None:
    findings = left_out(dict.fromkeys(check.LEFT_OUT, 1), {}, 10, 0.5)
    assert [finding.reason for finding in findings] == list(check.LEFT_OUT)
    assert all(finding.advice for finding in findings)


def report() -> SourceReport:
    findings = (
        Finding("error", check.UNKNOWN_KIND, 20, 1_000, ("user_id=anna",), "map it"),
        Finding("note", "time without a zone", 1_000, 1_000),
    )
    kinds = {"view": {"kind": "view", "rows": 980}, "anna@example.com": {"kind": None, "rows": 20}}
    return SourceReport({}, kinds, {"events": 980}, 0, NOON, findings)


def test_a_refusal_names_the_reason_and_how_many_rows_but_nobody() -> None:
    text = report().refusal()
    assert "unknown kind: 20 of 1,000 rows" in text
    assert "time without a zone" not in text
    assert "anna" not in text


def test_what_a_bundle_keeps_names_nobody() -> None:
    assert "anna" not in json.dumps(report().summary())
    assert report().summary()["events"] == 980
    assert (set(report().summary()["kinds"]), report().summary()["unknown_kinds"]) == ({"view"}, 1)


def test_the_report_is_json() -> None:
    values = json.loads(json.dumps(report().to_dict()))
    assert values["first"] == "1970-01-01T00:00:00+00:00"
    assert values["findings"][0]["examples"] == ["user_id=anna"]
    assert rfc3339(None) is None
    assert rfc3339(2**62) == str(2**62)
