"""The report on reviews as one HTML file: which items fall, the words behind it, examples, and how it was judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import polars as pl

from recsys.data.times import MICROSECONDS_PER_DAY, readable
from recsys.reviews.sentiment import Judge
from recsys.reviews.summary import RECENT_DAYS, Reviews, count_words, telling_sentences, telling_words

MOST_ITEMS = 30
_MONTHS, _MONTH_DAYS = 12, 30.4375
_WIDTH, _HEIGHT = 150, 36

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1rem; color: #1c2733; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { margin: 0 0 .3rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; list-style: none; }
.cards li { border: 1px solid #d5dde5; border-radius: .5rem; padding: .6rem 1rem; flex: 1 1 9rem; }
.cards b { display: block; font-size: 1.4rem; }
article { border: 1px solid #d5dde5; border-radius: .5rem; padding: .8rem 1rem; margin: .8rem 0; }
article { overflow-wrap: anywhere; }
article p, blockquote { margin: .3rem 0; } blockquote { border-left: 3px solid #c9483a; padding-left: .7rem; }
mark { background: #fbe3df; border-radius: .3rem; padding: 0 .35rem; white-space: nowrap; }
table { border-collapse: collapse; }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #e3e9ef; text-align: right; }
td:first-child, th:first-child { text-align: left; } .wide { overflow-x: auto; } small { color: #55636f; }
"""


@dataclass(frozen=True)
class Judged:
    """How reviews without stars were judged, and how well."""

    how: str  # in a sentence
    judge: Judge | None
    figures: Mapping[str, Any] | None  # of what was learned: see `figures_of`


def write_report(
    reviews: Reviews, summary: pl.DataFrame, titles: Mapping[str, str], judged: Judged, *, now: int
) -> str:
    """The report as HTML, without anything from elsewhere. summary: see `summarize`. now: microseconds UTC."""
    words = count_words(reviews.frame["text"])
    falling = summary.filter(pl.col("trend") > 0).head(MOST_ITEMS)
    worst = summary.sort("negative_share", descending=True).head(MOST_ITEMS)
    parts = [
        f"<h1>Reviews, {escape(readable(now) or '')[:10]}</h1>",
        _overview(reviews, summary),
        f"<h2>Items that fall</h2><p>A larger share of the reviews of the last {RECENT_DAYS:g} days complains than "
        "before. Bars: reviews of the last twelve months, complaints in red.</p>",
        *[
            _item(row, reviews.of(row["item_id"]), titles, words, judged.judge, now)
            for row in falling.iter_rows(named=True)
        ],
        "" if len(falling) else "<p>None.</p>",
        "<h2>Most complaints</h2>",
        _table(worst, titles),
        "<h2>How reviews were judged</h2>",
        f"<p>{escape(judged.how)}</p>",
        _quality(judged.figures) if judged.figures is not None else "",
    ]
    metas = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    head = f"<head>{metas}<title>Reviews</title><style>{_STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}\n<body>{body}</body></html>\n'


def _overview(reviews: Reviews, summary: pl.DataFrame) -> str:
    stars = reviews.frame["stars"].drop_nulls()
    cards = {
        "reviews": f"{len(reviews.frame):,}",
        "items": f"{len(summary):,}",
        "complain": f"{reviews.negative.mean():.1%}" if len(reviews.frame) else "–",
        "mean stars": f"{float(stars.to_numpy().mean()):.2f}" if len(stars) else "–",
        "without stars": f"{reviews.frame['stars'].null_count():,}",
    }
    return '<ul class="cards">' + "".join(f"<li><b>{value}</b>{name}</li>" for name, value in cards.items()) + "</ul>"


def _item(
    row: Mapping[str, Any], own: Reviews, titles: Mapping[str, str], words: Any, judge: Judge | None, now: int
) -> str:
    telling = telling_words(own, words)
    quotes = telling_sentences(own, telling, judge)
    title = escape(titles.get(row["item_id"], row["item_id"]))
    said = " ".join(f"<mark>{escape(word)}</mark>" for word in telling)
    return (
        f"<article><h3>{title}{_id(row['item_id'], titles)}</h3>"
        f"<p>{row['reviews']:,} reviews{_stars(row['stars'])}, {row['negative_share']:.0%} complain, "
        f"{100 * row['trend']:+.0f} points lately {_months(own, now)}</p>"
        + (f"<p>Words behind it: {said}</p>" if said else "")
        + "".join(f"<blockquote>{escape(quote)}</blockquote>" for quote in quotes)
        + "</article>"
    )


def _id(item_id: str, titles: Mapping[str, str]) -> str:
    return f" <small>{escape(item_id)}</small>" if item_id in titles else ""


def _stars(stars: float | None) -> str:
    return "" if stars is None else f", {stars:.2f} stars"


def _months(own: Reviews, now: int) -> str:
    """Complaints and all reviews of the last twelve months, a bar each, as SVG."""
    times = own.frame["time"].fill_null(0).to_numpy()
    age = ((now - times) / (_MONTH_DAYS * MICROSECONDS_PER_DAY)).astype(np.int64)
    recent = (times > 0) & (age >= 0) & (age < _MONTHS)
    total = np.bincount(_MONTHS - 1 - age[recent], minlength=_MONTHS)
    negative = np.bincount(_MONTHS - 1 - age[recent], own.negative[recent], minlength=_MONTHS)
    if not total.sum():
        return ""
    step, scale = _WIDTH / _MONTHS, _HEIGHT / total.max()
    bars = "".join(
        f'<rect x="{at * step:.1f}" width="{step - 2:.1f}" y="{_HEIGHT - height * scale:.1f}" '
        f'height="{height * scale:.1f}" fill="{color}"/>'
        for color, heights in (("#c7d3de", total), ("#c9483a", negative))
        for at, height in enumerate(heights)
    )
    label = f"complaints (red) and reviews of the last {_MONTHS} months, oldest first"
    return (
        f'<svg role="img" aria-label="{label}" width="{_WIDTH}" height="{_HEIGHT}"><title>{label}</title>{bars}</svg>'
    )


def _table(rows: pl.DataFrame, titles: Mapping[str, str]) -> str:
    head = "<tr><th>item</th><th>reviews</th><th>stars</th><th>complain</th><th>points lately</th></tr>"
    lines = "".join(
        f"<tr><td>{escape(titles.get(row['item_id'], row['item_id']))}</td><td>{row['reviews']:,}</td>"
        f"<td>{'–' if row['stars'] is None else format(row['stars'], '.2f')}</td><td>{row['negative_share']:.0%}</td>"
        f"<td>{'–' if row['trend'] is None else format(100 * row['trend'], '+.0f')}</td></tr>"
        for row in rows.iter_rows(named=True)
    )
    return f'<div class="wide"><table>{head}{lines}</table></div>'


def _quality(figures: Mapping[str, Any]) -> str:
    """How well complaints are told from other reviews, on reviews that were not learned from."""
    named = {
        "rated reviews": f"{figures['reviews']:,}",
        "of them complain": f"{figures['negative']:,}",
        "area under the ROC curve": f"{figures['auc']:.3f}",
        f"accuracy, called a complaint from {figures['threshold']:.0%} on": f"{figures['accuracy']:.1%}",
        "F1 there": f"{figures['f1']:.2f}",
        "log loss": f"{figures['log_loss']:.3f}",
        **{name: f"{count:,}" for name, count in figures["confusion"].items()},
    }
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{value}</td></tr>" for name, value in named.items())
    return f'<div class="wide"><table>{lines}</table></div>{_calibration(figures["calibration"])}'


def _calibration(points: Sequence[Mapping[str, float]]) -> str:
    size, pad = 220, 30
    drawn = "".join(
        f'<circle cx="{pad + point["expected"] * size:.1f}" cy="{size + 5 - point["actual"] * size:.1f}" r="4" '
        f'fill="#2b6cb0"><title>{point["customers"]} reviews: expected {point["expected"]:.1%}, '
        f"actual {point['actual']:.1%}</title></circle>"
        for point in points
    )
    return (
        "<p>Expected share of complaints (across) and actual share (up), in tenths of the reviews. On the line, "
        "probabilities are right.</p>"
        f'<svg role="img" aria-label="calibration" width="{size + pad + 20}" height="{size + pad}">'
        f'<rect x="{pad}" y="5" width="{size}" height="{size}" fill="none" stroke="#c7d3de"/>'
        f'<line x1="{pad}" y1="{size + 5}" x2="{size + pad}" y2="5" stroke="#c7d3de"/>{drawn}'
        f'<text x="{pad}" y="{size + 24}" font-size="12">0 %</text>'
        f'<text x="{size}" y="{size + 24}" font-size="12">100 %</text></svg>'
    )
