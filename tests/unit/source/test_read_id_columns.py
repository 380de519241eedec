"""Ids of every type become the same text."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from recsys.errors import SourceError
from recsys.source.ids import read_ids, refuse_rounded
from recsys.source.values import frame_of_objects


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([17850, None]),
        pl.Series([17850.0, None]),
        pl.Series([17850.0, float("nan")]),
        pl.Series([17850.0, float("inf")]),
        pl.Series([17850.0, None], dtype=pl.Float32),
        pl.Series([Decimal("17850.00"), None]),
        pl.Series(["17850", "NULL"]),
        pl.Series(["17850.0", "nan"]),
        pl.Series(["17850.00", "\\N"]),
        pl.Series(["17850", "NaN"], dtype=pl.Categorical),
    ],
)
def test_a_whole_number_is_its_decimals(values: pl.Series) -> None:
    assert read_ids(values.alias("user_id"), "a.csv").to_list() == ["17850", None]


def test_what_is_no_whole_number_stays() -> None:
    texts = ["v1.0", "1.05", "1.0.0", "007", "-1", "none", "a.0", "20.50"]
    assert read_ids(pl.Series(texts), "a.csv").to_list() == texts
    assert read_ids(pl.Series([20.5, 7.0]), "a.csv").to_list() == ["20.5", "7"]
    assert read_ids(pl.Series([date(2020, 1, 1)]), "a.csv").to_list() == ["2020-01-01"]


def test_own_ids_are_exact() -> None:
    assert read_ids(pl.Series(["17850.0", "NULL"]), "own", exact=True).to_list() == ["17850.0", None]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (pl.Series("user_id", [1.0, 2.0**53 + 2]), "9007199254740994.0"),
        (pl.Series("user_id", [1.0, -(2.0**25)], dtype=pl.Float32), "33554432.0"),
        (pl.Series("user_id", [b"a"]), r"HEX\(user_id\), in PostgreSQL encode\(user_id, 'hex'\)"),
    ],
)
def test_an_id_that_is_no_longer_whole_is_refused(values: pl.Series, named: str) -> None:
    with pytest.raises(SourceError, match=rf"user_id of a\.parquet holds .*{named}"):
        read_ids(values, "a.parquet")


def test_one_float_among_large_numbers_changes_none_of_them() -> None:
    given = [9007199254740993, Decimal("7.0"), 2**64, Decimal("9007199254740995.0"), None]
    read = frame_of_objects(["id"], [{"id": value} for value in given])["id"]
    ids = ["9007199254740993", "7", "18446744073709551616", "9007199254740995", None]
    assert read_ids(read, "a.jsonl").to_list() == ids


@pytest.mark.parametrize("word", ["NA", "#N/A", "#REF!", "(not set)", "n/a"])
def test_errors_of_spreadsheets_and_words_for_nothing_are_no_ids(word: str) -> None:
    assert read_ids(pl.Series("user_id", [word, "Nathalie"]), "a.csv").to_list() == [None, "Nathalie"]


@pytest.mark.parametrize("number", ["1.23457E+15", "1E+15", "1.2345678901234568e+16", "1.2345678E7"])
def test_numbers_that_lost_their_digits_are_no_ids(number: str) -> None:
    with pytest.raises(SourceError, match=r"user_id of a\.csv holds .* rounded"):
        refuse_rounded(pl.Series("user_id", ["17850", None, number]), "a.csv")


def test_words_with_an_e_are_ids() -> None:
    refuse_rounded(pl.Series("item_id", ["4.7E6", "1E5", "E+10", "A-1.234E+10", "1e10", None]), "a.csv")
    refuse_rounded(pl.Series("item_id", [1, 2]), "a.csv")
