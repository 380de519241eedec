"""`recsys reviews report`: which items' reviews fall, and why."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jobs.commands import open_configured
from jobs.output import Output, Table
from recsys.audience.export import guard_id
from recsys.config.settings import Config
from recsys.data.folder import replace_text
from recsys.errors import ConfigError, RefusedError
from recsys.imports import resolve
from recsys.progress import Progress
from recsys.reviews.report import MOST_ITEMS, Judged, write_report
from recsys.reviews.sentiment import learn
from recsys.reviews.summary import Reviews, judge, summarize
from recsys.source.catalog import Entries
from recsys.source.reviews import read_reviews, read_titles

_LEXICON = "recsys.reviews.lexicon:Lexicon"  # of an optional package
_FORMS = (".html", ".csv")


def report(config: Config, *, out: Path | None, progress: Progress, now: int | None = None) -> Output:
    """Judge all reviews, sum them up by item, and write what was found.

    out: .html is a report, .csv holds a row for each item. now: microseconds UTC.
    Raises ConfigError for another form, RefusedError without reviews.
    """
    now = now if now is not None else time.time_ns() // 1000
    if out is not None and (out.suffix not in _FORMS or not out.parent.is_dir()):
        raise ConfigError(f"--out {out}: expected a name in an existing folder that ends with {', '.join(_FORMS)}")
    progress("read reviews", 0.0)
    with closing(open_configured(config)) as store:
        found = read_reviews(config, store)
        titles = read_titles(config, store)
    progress("read reviews", 1.0)
    if found.frame.is_empty():
        raise RefusedError("there are no reviews: name a query in [source] reviews, or `recsys import --what reviews`")
    progress("judge", 0.0)
    judged = _judge(found, config.training.seed)
    reviews = judge(found.frame, judged.judge)
    summary = summarize(reviews, now=now)
    progress("judge", 1.0)
    written = [] if out is None else [_write(out, reviews, summary, titles, judged, now)]
    falling = summary.filter(summary["trend"] > 0).head(MOST_ITEMS)
    data: dict[str, Any] = {
        "reviews": len(reviews.frame),
        "items": summary.height,
        "negative_share": float(np.mean(reviews.negative)),
        "judged": judged.how,
        "quality": judged.figures,
        "findings": [vars(finding) for finding in found.findings],
        "falling": falling.to_dicts(),
    }
    rows = [[titles.get(item, item), *others] for item, *others in falling.iter_rows()]
    columns = ["item", "reviews", "stars", "complain", "lately"]
    warnings = [f"{finding.severity}: {finding}" for finding in found.findings]
    return Output(data, [Table("Items that fall", columns, rows), judged.how, *warnings, *written])


def _judge(found: Entries, seed: int) -> Judged:
    """Learn from the rated reviews; where there are too few, a list of English words stands in."""
    rated = found.frame.filter(found.frame["stars"].is_not_null() & (found.frame["text"] != ""))
    unrated = int(found.frame["stars"].is_null().sum())
    try:
        learned = learn(rated["text"].to_list(), rated["stars"].to_numpy(), seed=seed)
    except RefusedError as error:
        if not unrated:
            return Judged("Each review has stars: at most two of five complain.", None, None)
        try:
            lexicon = resolve(_LEXICON)()
        except ConfigError:
            how = f"{unrated:,} reviews without stars are left out: {error}, and vaderSentiment is not installed."
            return Judged(how, None, None)
        how = f"{unrated:,} reviews without stars were judged by a list of English words (VADER): {error}."
        return Judged(how, lexicon, None)
    how = f"Reviews of at most two stars complain. Words learned from {rated.height:,} rated reviews judge the others"
    return Judged(f"{how}, {unrated:,} without stars.", learned.sentiment, learned.figures)


def _write(out: Path, reviews: Reviews, summary: pl.DataFrame, titles: dict[str, str], judged: Judged, now: int) -> str:
    if out.suffix == ".html":
        replace_text(out, write_report(reviews, summary, titles, judged, now=now))
    else:
        ids = [guard_id(item_id)[0] for item_id in summary["item_id"]]
        replace_text(out, summary.with_columns(item_id=pl.Series(ids, dtype=pl.String)).write_csv())
    return f"written: {out}"
