"""Boxes of baskets beside the plain ways of their kind: bought together, cart, buy again.

    python -m benchmarks.baskets --data DIR [--days 28] [--seed 0]

DIR holds `online_retail.csv.gz` (UCI Online Retail), or `events.csv` or `events.csv.gz` with the columns user_id,
item_id, timestamp (unix seconds) and, where there are any, order_id and event. The last days test; settings are chosen
on as many days before them. A basket is an order (without order_id: events of a user within 30 minutes of each other)
with at least two items that occur before the test. One item of each asks for the rest (bought together), or half of
them do (cart).
Each row shows recall@10 and NDCG@10, and the lead over the first row with the 95 % interval of 10,000 paired resamples.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.memory import peak_gib
from benchmarks.paired import interval
from recsys.data.arrays import Int32
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.related import buy_again, cart, together, training
from recsys.related.counts import Counted
from recsys.related.questions import K, Quality, Questions, ask, fill, judge
from recsys.related.repeats import decayed_frequency, score_repeats
from recsys.related.tables import Related, Table
from recsys.related.training import RelatedData

_END = 2**62


def main() -> None:
    """Train before the test days, and print a table a box."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--days", type=int, default=28, help="days that test, and days before them that choose")
    parser.add_argument("--seed", type=int, default=0, help="which items of a basket ask")
    arguments = parser.parse_args()
    data, cut = read(arguments.data, arguments.days)
    window = arguments.days * MICROSECONDS_PER_DAY
    started = time.process_time()
    choices = training.choose(data, start=cut - window, end=cut)
    chosen = time.process_time()
    related = training.fit(data, choices, now=cut)
    print(f"{len(data.events):,} events, {len(data.catalog):,} items, {len(data.baskets):,} baskets; ", end="")
    print(f"chosen in {chosen - started:.0f} s, fitted in {time.process_time() - chosen:.0f} s of one core, ", end="")
    print(f"{peak_gib():.2f} GiB at most\n")
    for name, facts in choices.facts.items():
        print(f"{name}: {facts['method']}, {facts.get('counting', facts.get('settings', ''))}")
    boxes = baskets_tables(data, related, cut=cut, seed=arguments.seed)
    boxes["buy again"] = repeats_table(data, related, cut=cut)
    for box, rows in boxes.items():
        print_table(box, rows)


def read(folder: Path, days: int) -> tuple[RelatedData, int]:
    """The events of a folder, without items that occur in the test days alone, and when those begin."""
    rows = read_online_retail(folder) if (folder / "online_retail.csv.gz").exists() else read_events(folder)
    rows = rows.sort("time")
    last = int(rows["time"][-1])
    # The first midnight of the test days, so that a day is not cut in two.
    cut = -(-(last - days * 86_400) // 86_400) * 86_400
    first = rows.filter(pl.col("time") < cut).group_by("item").agg(pl.col("title", "price").last()).sort("item")
    rows = rows.join(first.select("item").with_row_index("row"), on="item")
    users, orders = (rows[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in ("user", "order"))
    events = Interactions.from_rows(
        users.astype(np.int32),
        rows["row"].to_numpy().astype(np.int32),
        rows["kind"].to_numpy().astype(np.int8),
        rows["time"].to_numpy().astype(np.int64) * 1_000_000,
        np.full(len(rows), np.nan, np.float32),
        user_count=int(users.max()) + 1,
        item_count=len(first),
        orders=orders if rows["has_order"][0] else None,
    )
    columns = pa.table({"title": first["title"].to_arrow(), "price": first["price"].to_arrow()})
    catalog = Catalog(Vocabulary.from_ids(first["item"].to_list()), columns)
    return RelatedData(events, catalog, [0], seed=0), cut * 1_000_000


def read_online_retail(folder: Path) -> pl.DataFrame:
    """Sales of products to customers: quantity and price above 0, a code of five digits."""
    rows = pl.read_csv(folder / "online_retail.csv.gz", infer_schema=False, encoding="utf8-lossy")
    rows = rows.with_columns(pl.col("Quantity", "UnitPrice").cast(pl.Float64))
    rows = rows.filter(
        pl.col("CustomerID").is_not_null()
        & (pl.col("Quantity") > 0)
        & (pl.col("UnitPrice") > 0)
        & pl.col("StockCode").str.contains(r"^\d{5}")
    )
    return rows.select(
        user="CustomerID",
        item="StockCode",
        time=pl.col("InvoiceDate").str.to_datetime("%Y-%m-%d %H:%M:%S").dt.epoch("s"),
        order="InvoiceNo",
        has_order=pl.lit(value=True),
        title="Description",
        price="UnitPrice",
        kind=pl.lit(0),
    )


def read_events(folder: Path) -> pl.DataFrame:
    """Purchases and, of a file with the column event, what else happened; titles and prices are unknown."""
    [path] = [path for path in (folder / "events.csv", folder / "events.csv.gz") if path.exists()]
    rows = pl.read_csv(path, infer_schema=False)
    has_order, has_kind = "order_id" in rows.columns, "event" in rows.columns
    bought = pl.col("event").is_in(["purchase", "buy", "order"]) if has_kind else pl.lit(value=True)
    return rows.select(
        user="user_id",
        item="item_id",
        time=pl.col("timestamp").cast(pl.Int64),
        order="order_id" if has_order else "user_id",
        has_order=pl.lit(value=has_order),
        title=pl.lit(None, pl.String),
        price=pl.lit(None, pl.Float64),
        kind=pl.when(bought).then(0).otherwise(1),
    )


@dataclass(frozen=True)
class Row:
    """One way to answer, and how it did."""

    name: str
    quality: Quality


def baskets_tables(data: RelatedData, related: Related, *, cut: int, seed: int) -> dict[str, list[Row]]:
    """What answers the questions of the test baskets, each box beside its plain ways."""
    counted = Counted(data.baskets.before(cut), cut)
    later = data.baskets.between(cut, _END).of_items(counted.total > 0)
    popular = np.argsort(-counted.recent, kind="stable").astype(np.int32)
    found = {}
    for box, share, table in (
        ("bought together", 0.0, related.bought_together),
        ("cart", 0.5, related.cart),
    ):
        questions = ask(later, share=share, most=_END, seed=seed)

        def row(name: str, table: Table, questions: Questions = questions) -> Row:
            return Row(name, judge(answers(table, questions, popular), questions.wanted))

        plain = {name: plain_table(data, counting, cut) for name, counting in together.PLAIN.items()}
        rows = [row(name, one) for name, one in plain.items()]
        nothing = np.full((len(questions), K), -1, np.int32)
        rows.append(Row("popularity, 28 days", judge(fill(nothing, popular, questions.asked), questions.wanted)))
        rows.append(row("served", table))
        first = "cosine" if box == "cart" else "co-occurrence"
        found[box] = sorted(rows, key=lambda one: one.name != first)
    return found


def plain_table(data: RelatedData, counting: together.Counting, cut: int) -> Table:
    """All pairs, scored by a plain way of counting."""
    counted = Counted(data.baskets.before(cut), cut)
    pairs, scores = together.candidates(
        counted, np.arange(len(data.catalog)), counting, len(data.catalog), with_features=False
    )
    return Table(pairs.offsets, pairs.items, scores)


def answers(table: Table, questions: Questions, popular: Int32) -> Int32:
    """The first ten of a table for each question, short lists filled with popular items."""
    return fill(cart.answer(table, questions), popular, questions.asked)


def repeats_table(data: RelatedData, related: Related, *, cut: int) -> list[Row]:
    """Customers who bought an item again in the test days, among what each had bought."""
    asked = buy_again.ask_customers(data.purchases, cut, _END, most=_END, seed=0)
    plain = {
        name: decayed_frequency(asked.purchases, asked.items, *settings)
        for name, settings in reversed(buy_again.PLAIN.items())
    }
    scored = {**plain, "served": score_repeats(related.repeats, asked.purchases)}
    return [Row(name, buy_again.judge_scores(asked, scores)) for name, scores in scored.items()]


def print_table(box: str, rows: Sequence[Row]) -> None:
    """A table of one box, each row beside the first."""
    print(f"\n| {box}, {len(rows[0].quality.ndcg):,} questions | recall@10 | NDCG@10 | times the first |")
    print("|---|---|---|---|")
    for row in rows:
        cells = [row.name]
        for ours, first in (
            (row.quality.recall, rows[0].quality.recall),
            (row.quality.ndcg, rows[0].quality.ndcg),
        ):
            low, high = interval((ours - first).astype(np.float64))
            beside = "" if row is rows[0] else f" ({(ours - first).mean():+.4f}: {low:+.4f} to {high:+.4f})"
            cells.append(f"{ours.mean():.4f}{beside}")
        cells.append(f"{row.quality.ndcg.mean() / rows[0].quality.ndcg.mean():.3f}")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
