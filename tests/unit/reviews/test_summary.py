"""Items are summed up by their reviews: few reviews are no verdict, a fall is found, and its words are named."""

import re

import numpy as np
import polars as pl
import pytest

from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.reviews.report import Judged, write_report
from recsys.reviews.summary import Reviews, count_words, judge, summarize, telling_sentences, telling_words

NOW = 1_800_000_000 * 1_000_000


def frame_of(rows: list[tuple[str, str, float | None, float | None]]) -> pl.DataFrame:
    """item, text, stars, days ago."""
    return pl.DataFrame(
        {
            "item_id": [row[0] for row in rows],
            "text": [row[1] for row in rows],
            "stars": [row[2] for row in rows],
            "time": [None if row[3] is None else NOW - round(row[3] * MICROSECONDS_PER_DAY) for row in rows],
        },
        schema={"item_id": pl.String, "text": pl.String, "stars": pl.Float64, "time": pl.Int64},
    )


@pytest.fixture(scope="module")
def reviews() -> Reviews:
    """Thirty items of which one falls, one was always bad, and one has a single bad review."""
    random = np.random.default_rng(0)
    rows: list[tuple[str, str, float | None, float | None]] = []
    for number in range(30):
        for _ in range(40):
            days = random.uniform(1, 700)
            bad = random.random() < (0.9 if number == 1 or (number == 0 and days < 90) else 0.1)
            fault = "The hinge broke at once. " if number == 0 else "It is not what I wanted. "
            rows.append((f"i{number}", fault if bad else "Works as it should, all of it.", 1.0 if bad else 5.0, days))
    rows.append(("single", "The hinge is bad and cheap.", 1.0, 5.0))
    return judge(frame_of(rows), None)


def test_the_item_that_falls_comes_first_and_few_reviews_are_no_verdict(reviews: Reviews) -> None:
    found = summarize(reviews, now=NOW)
    assert found["item_id"][0] == "i0"
    assert found["trend"][0] > 0.2
    shares = dict(found.select("item_id", "negative_share").iter_rows())
    assert shares["i1"] == max(shares.values()) > 0.7
    assert shares["single"] < 0.6
    assert dict(found.select("item_id", "trend").iter_rows())["single"] is None
    stars = dict(found.select("item_id", "stars").iter_rows())
    assert stars["i1"] < 2.2 < 4 < stars["i5"]


def test_words_and_sentences_behind_complaints(reviews: Reviews) -> None:
    own = reviews.of("i0")
    words = telling_words(own, count_words(reviews.frame["text"]))
    assert {"hinge", "broke"} <= set(words)
    assert "works" not in words
    assert telling_sentences(own, words, None) == ["The hinge broke at once."]


def test_reviews_without_stars_are_judged_by_their_text() -> None:
    class Always:
        def probabilities(self, texts: list[str]) -> np.ndarray:
            return np.full(len(texts), 0.7)

    frame = frame_of([("a", "x", 5.0, 1), ("a", "y", None, 1), ("a", "z", 2.0, None)])
    assert judge(frame, Always()).negative.tolist() == [0.0, 0.7, 1.0]
    assert judge(frame, None).negative.tolist() == [0.0, 1.0]


def test_the_report_shows_texts_as_they_are(reviews: Reviews) -> None:
    titles = {"i0": "<script>alert(1)</script>", "i1": 'a"b'}
    page = write_report(reviews, summarize(reviews, now=NOW), titles, Judged("by <stars>", None, None), now=NOW)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "by &lt;stars&gt;" in page
    assert not re.search(r'(src|href)="', page)
    assert "<mark>hinge</mark>" in page


def test_strange_reviews_do_no_harm() -> None:
    texts = ["", "😀" * 100, "one " * 1000, "<b>" * 1000, "x" * 1_000_000, "плохо", "悪い"]
    found = judge(frame_of([("a", text, 1.0, 1.0) for text in texts]), None)
    summary = summarize(found, now=NOW)
    assert summary["reviews"].to_list() == [7]
    assert len(write_report(found, summary, {}, Judged("by stars", None, None), now=NOW)) < 100_000
