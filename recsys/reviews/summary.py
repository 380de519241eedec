"""What the reviews of each item come to: score, share that complains, trend, and the words and sentences behind it.

Shapes: n reviews, I items that have reviews.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.content.item_text import clean, fold
from recsys.content.words import tokenize
from recsys.data.arrays import Bool, Float64, Int64
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.reviews.sentiment import NEGATIVE, Judge

RECENT_DAYS = 90.0
_WORDS, _SENTENCES = 8, 3
_FEWEST_OF_WORD = 2  # complaints of an item that a telling word is in
_LEAST_Z = 1.96  # standard errors that a telling word is away from chance
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")
_LONGEST_SENTENCE = 240  # characters
_PRIOR_WORDS = 500.0  # of the words of all reviews, beside those of one item
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Reviews:
    """Reviews of items, each with the probability that it complains."""

    frame: pl.DataFrame  # item_id, text (String), stars (Float64, null: not rated), time (Int64 microseconds, null)
    negative: Float64  # [n]

    def of(self, item_id: str) -> "Reviews":
        """Those of an item."""
        own = (self.frame["item_id"] == item_id).to_numpy()
        return Reviews(self.frame.filter(own), self.negative[own])


def judge(frame: pl.DataFrame, sentiment: Judge | None) -> Reviews:
    """Tell how likely each review complains: by its stars where it has some, else by its text.

    frame: as in `Reviews`. sentiment: None where the texts cannot be judged; reviews without stars are left out then.
    """
    rated = frame["stars"].is_not_null().to_numpy()
    if sentiment is None:
        frame, rated = frame.filter(rated), rated[rated]
    negative = (frame["stars"].fill_null(0.0) <= NEGATIVE).to_numpy().astype(np.float64)
    if sentiment is not None and not rated.all():
        texts = frame.filter(~rated)["text"].fill_null("").to_list()
        negative[~rated] = sentiment.probabilities(texts)
    return Reviews(frame, negative)


def summarize(reviews: Reviews, *, now: int) -> pl.DataFrame:
    """Sum up the reviews of each item: a row each, the worst trend first. now: microseconds.

    Columns: item_id, reviews, stars (mean of the rated ones, drawn towards that of all), negative_share (likewise),
    trend (the share that complains in the last 90 days less that before, drawn towards 0; null without reviews before).
    An item of few reviews is drawn towards all others as strongly as items differ (empirical Bayes: Efron and Morris,
    Stein's paradox in statistics, 1977).
    """
    frame = reviews.frame.with_columns(
        negative=reviews.negative,
        is_recent=(pl.col("time") >= now - round(RECENT_DAYS * MICROSECONDS_PER_DAY)).fill_null(False),
    )
    by_item = (
        frame.group_by("item_id")
        .agg(
            pl.len().alias("reviews"),
            pl.col("stars").count().alias("rated"),
            pl.col("stars").mean().alias("mean_stars"),
            pl.col("negative").mean().alias("mean_negative"),
            pl.col("is_recent").sum().alias("recent"),
            pl.col("negative").filter(pl.col("is_recent")).mean().fill_null(0.0).alias("recent_negative"),
            pl.col("negative").filter(~pl.col("is_recent")).mean().fill_null(0.0).alias("older_negative"),
        )
        .sort("item_id")
    )
    counts = by_item["reviews"].to_numpy()
    negative = by_item["mean_negative"].to_numpy()
    recent = by_item["recent"].to_numpy()
    strength = _strength(counts, negative, frame["negative"].to_numpy())
    older = counts - recent
    # The share of a time of few reviews is drawn towards that of the other one, which stands for no change.
    certainty = recent * older / (recent * older + strength * counts)
    change = (by_item["recent_negative"] - by_item["older_negative"]).to_numpy() * certainty
    stars = frame["stars"].drop_nulls().to_numpy()
    rated = by_item["rated"].to_numpy()
    mean_stars = by_item["mean_stars"].fill_null(0.0).to_numpy()
    shrunken = _shrunken(rated, mean_stars, stars) if len(stars) else np.full(len(by_item), np.nan)
    return (
        by_item.select("item_id", "reviews")
        .with_columns(
            stars=pl.Series(shrunken).fill_nan(None),
            negative_share=pl.Series(_drawn(counts, negative, float(reviews.negative.mean()), strength)),
            trend=pl.Series(np.where((recent > 0) & (older > 0), change, np.nan)).fill_nan(None),
        )
        .sort("trend", "negative_share", descending=True, nulls_last=True)
    )


def telling_words(own: Reviews, others: Counter[str]) -> list[str]:
    """The words that the complaints about an item have more often than all reviews, the most telling first.

    others: how many of all reviews have a word, see `count_words`. Log odds with a prior of all words (Monroe,
    Colaresi and Quinn, Fightin' words, 2008); each word counts once a review.
    """
    complaints = own.frame.filter(own.negative >= 0.5)["text"]
    mine = count_words(complaints)
    n_mine, n_all = sum(mine.values()), sum(others.values())
    found = []
    for word, count in mine.items():
        if count < _FEWEST_OF_WORD or len(word) < 2 or n_all == n_mine:
            continue
        rest = max(0, others[word] - count)
        prior = _PRIOR_WORDS * (others[word] + 1) / (n_all + 1)
        odds = np.log((count + prior) / (n_mine + _PRIOR_WORDS - count - prior))
        odds -= np.log((rest + prior) / (n_all - n_mine + _PRIOR_WORDS - rest - prior))
        z = odds / np.sqrt(1 / (count + prior) + 1 / (rest + prior))
        if z >= _LEAST_Z:
            found.append((z, word))
    return [word for _, word in sorted(found, key=lambda one: (-one[0], one[1]))[:_WORDS]]


def count_words(texts: Iterable[str | None]) -> Counter[str]:
    """How many of the texts have each word."""
    return Counter(word for text in texts if text for word in set(tokenize(clean(text))))


def telling_sentences(own: Reviews, words: list[str], sentiment: Judge | None) -> list[str]:
    """Sentences of complaints about an item: of those with the most telling words the most negative ones, each once."""
    complaints = own.frame.filter(own.negative >= 0.5)["text"].drop_nulls().to_list()
    sentences: dict[str, str] = {}
    for text in complaints:
        for sentence in _SENTENCE.split(clean(text)):
            if len(tokenize(sentence)) >= 3 and len(sentence) <= _LONGEST_SENTENCE:
                sentences.setdefault(fold(sentence), sentence)
    if not sentences:
        return []
    texts = list(sentences.values())
    told = np.array([len(set(tokenize(text)) & set(words)) for text in texts], np.float64)
    likely = sentiment.probabilities(texts) if sentiment is not None else np.zeros(len(texts))
    order = np.lexsort((np.arange(len(texts)), -likely, -told))
    return [texts[at] for at in order[:_SENTENCES]]


def _shrunken(counts: Int64, means: Float64, values: Float64) -> Float64:
    """Means of items [I], drawn towards that of all values [n] by how much items differ."""
    return _drawn(counts, means, float(values.mean()), _strength(counts, means, values))


def _drawn(counts: Int64, means: Float64, overall: float, strength: float) -> Float64:
    return np.asarray((counts * means + strength * overall) / (counts + strength), np.float64)


def _strength(counts: Int64, means: Float64, values: Float64) -> float:
    """How many reviews the mean of all is worth: the variance within items over that between them."""
    several: Bool = counts >= 2
    if several.sum() < 2:
        return 5.0
    total = float(values.var())
    between = float(np.average((means[several] - values.mean()) ** 2, weights=counts[several]))
    noise = total / float(counts[several].mean())
    return float(np.clip(total / max(between - noise, _LEAST_SPREAD * total, 1e-12), 1.0, 1000.0))
