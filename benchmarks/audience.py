"""Ranks the customers of Online Retail for its best sellers, beside simpler ways, with the product's own code.

    python -m benchmarks.audience --csv online_retail.csv.gz [--seed 0] [--days 28]

Rows with a customer, quantity and price above 0 and a stock code beginning with five digits count. The cut is the last
of them minus 28 days: everything is learnt from the rows up to it, settings of the model too. For each of the 100 items
bought most in the 28 days before the cut, the customers known at the cut are ranked by the probability that they buy it
in the 28 days after it. Precision is the share of the first 50, 200 and 500 who did, averaged over the 100 items.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from recsys.audience import STRATEGIES, rank
from recsys.audience_model import BuyingModel, Scores, Shop, first_seen, learn, learning_window, purchases_of, score
from recsys.config import Config
from recsys.data import MICROSECONDS_PER_DAY, Catalog, Int32, Interactions, Vocabulary, split_by_time
from recsys.evaluation import validation_score
from recsys.models import MODELS, TrainingData
from recsys.names import resolve
from recsys.vectors import Vectors

SIZES = (50, 200, 500)
BEST_SELLERS = 100
SET_SIZE = 5  # items of an audience for several
RESAMPLES = 10_000

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Retail:
    """The rows before and after the cut, over the same U users and I items."""

    known: Interactions
    later: Interactions
    users: Vocabulary
    catalog: Catalog
    cut: int  # microseconds: known < cut <= later


@dataclass(frozen=True)
class Drawn:
    """The audiences of one strategy for every item or set, among some users."""

    precision: Float64  # [items, len(SIZES)]
    expected: Float64  # buyers that the probabilities promise, the same shape
    actual: Float64


def main() -> None:
    """Read, train as a night does, score, compare."""
    arguments = _arguments()
    config = Config.model_validate({"training": {"seed": arguments.seed, "device": "cpu"}})
    retail = read(arguments.csv, arguments.days)
    started = time.perf_counter()
    unspoilt, final = train(retail, config)
    trained = time.perf_counter()
    shop = shop_of(retail, config)
    window = learning_window(retail.known, retail.cut, arguments.days)
    model = learn(shop, unspoilt, window, seed=arguments.seed, report=quiet)
    learnt = time.perf_counter()
    items = best_sellers(retail, window.length)
    known = np.flatnonzero(np.diff(retail.known.offsets) > 0)
    scores = [score(model, shop, final, known, items[[at]], retail.cut, report=quiet) for at in range(len(items))]
    scored = time.perf_counter()
    print(f"{len(known)} customers, {len(items)} items, windows of {window.days:.0f} days, settings {final.settings}")
    print(
        f"seconds: train {trained - started:.1f}, learn {learnt - trained:.1f}, score an item "
        f"{(scored - learnt) / len(items):.2f}"
    )
    targets = [items[[at]] for at in range(len(items))]
    for title, never in (("All customers", False), ("Customers who never bought the item", True)):
        compare(title, draw(retail, scores, targets, known, never=never, seed=arguments.seed), arguments.seed)
    several(retail, model, shop, final, known, items)
    calibration(retail, scores, targets, known)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, required=True, help="online_retail.csv.gz")
    parser.add_argument("--days", type=float, default=28.0, help="length of the windows")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def quiet(_step: str, _done: float) -> None:
    """Report nothing."""


def read(path: Path, days: float) -> Retail:
    """The rows that count, cut `days` before the last."""
    text = dict.fromkeys(("CustomerID", "StockCode", "InvoiceDate"), pl.String)
    rows = (
        pl.read_csv(path, schema_overrides=text, infer_schema_length=None)
        .filter(pl.col("CustomerID").is_not_null(), pl.col("Quantity") > 0, pl.col("UnitPrice") > 0)
        .filter(pl.col("StockCode").str.contains(r"^\d{5}"))
        .with_columns(
            pl.col("CustomerID").str.replace(r"\.0$", ""),
            time=pl.col("InvoiceDate").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us").dt.timestamp("us"),
        )
    )
    users, user_rows = np.unique(rows["CustomerID"].to_numpy().astype(str), return_inverse=True)
    items, item_rows = np.unique(rows["StockCode"].to_numpy().astype(str), return_inverse=True)
    cut = int(rows["time"].max()) - round(days * MICROSECONDS_PER_DAY) + 1  # type: ignore[arg-type]
    events = Interactions.from_rows(
        user_rows.astype(np.int32),
        item_rows.astype(np.int32),
        np.full(rows.height, Config().events.codes["purchase"], np.int8),
        rows["time"].to_numpy().astype(np.int64),
        (rows["Quantity"] * rows["UnitPrice"]).to_numpy().astype(np.float32),
        user_count=len(users),
        item_count=len(items),
    )
    catalog = Catalog(Vocabulary.from_ids(items.tolist()), pa.table({"title": pa.nulls(len(items), pa.string())}))
    later = events.select(events.times >= cut)
    return Retail(events.before(cut), later, Vocabulary.from_ids(users.tolist()), catalog, cut)


def train(retail: Retail, config: Config) -> tuple[Vectors, Vectors]:
    """The vectors from before the refit, which have not seen the days learnt from, and those of all known days."""
    settings = config.evaluation
    splits = split_by_time(retail.known, validation_days=settings.validation_days, holdout_days=settings.holdout_days)
    score_of = validation_score(retail.catalog, splits, config)
    chosen = _fit(retail, splits.fit, splits.validation_start, config, score_of=score_of).settings
    unspoilt = _fit(retail, splits.known, splits.holdout_start, config, chosen=chosen)
    return unspoilt, _fit(retail, retail.known, retail.cut, config, chosen=chosen)


def _fit(
    retail: Retail, events: Interactions, now: int, config: Config, *, score_of: object = None, chosen: object = None
) -> Vectors:
    data = TrainingData(
        events=events,
        catalog=retail.catalog,
        now=now,
        kind_weights=tuple(config.events.weights.values()),
        target_codes=tuple(config.target_codes),
        half_life_days=config.events.half_life_days,
    )
    settings = config.models.mf if chosen is None else chosen
    vectors: Vectors = resolve("mf", MODELS)(
        data, settings, score=score_of, seed=config.training.seed, device="cpu", report=quiet
    )
    return vectors


def shop_of(retail: Retail, config: Config) -> Shop:
    """What the audiences are drawn from."""
    known = retail.known
    rows = np.arange(known.item_count, dtype=np.int32)
    return Shop(
        first_seen=first_seen(known),
        purchases=purchases_of(known, rows, known.item_count, config.target_codes),
        past=lambda users, as_of: known.histories(users, as_of, config.events.history_length),
        target_codes=tuple(config.target_codes),
    )


def best_sellers(retail: Retail, length: int) -> Int32:
    """The items bought most in the days before the cut."""
    recent = retail.known.between(retail.cut - length, retail.cut)
    counts = np.bincount(recent.items, minlength=recent.item_count)
    return np.argsort(-counts, kind="stable")[:BEST_SELLERS].astype(np.int32)


def buyers_of(retail: Retail, items: Int32) -> npt.NDArray[np.bool_]:
    """Who bought one of the items after the cut: bool [U]."""
    bought = retail.later.select(np.isin(retail.later.items, items))
    return np.diff(bought.offsets) > 0


def draw(
    retail: Retail,
    scores: list[Scores],
    targets: list[Int32],
    known: npt.NDArray[np.int64],
    *,
    never: bool,
    seed: int,
) -> dict[str, Drawn]:
    """The audiences of every strategy, for each of the targets; `never`: without the past buyers of the target."""
    found = {name: np.zeros((3, len(scores), len(SIZES))) for name in STRATEGIES}
    for at, (of_item, target) in enumerate(zip(scores, targets, strict=True)):
        among = (of_item.bought_days == 0) if never else np.ones(len(known), np.bool_)
        some, rows = _only(of_item, among), known[among]
        bought = buyers_of(retail, target)
        for name, strategy in STRATEGIES.items():
            members = rank(some, retail.users, rows, max(SIZES), strategy, seed + at)
            hits = bought[retail.users.rows_of([member.user_id for member in members])]
            probabilities = np.array([member.probability for member in members])
            for column, size in enumerate(SIZES):
                values = (hits[:size].mean(), probabilities[:size].sum(), hits[:size].sum())
                found[name][:, at, column] = values
    return {name: Drawn(*values) for name, values in found.items()}


def _only(scores: Scores, among: npt.NDArray[np.bool_]) -> Scores:
    return Scores(**{name: getattr(scores, name)[among] for name in Scores.__dataclass_fields__})


def compare(title: str, drawn: dict[str, Drawn], seed: int) -> None:
    """Print every strategy's precision, and what `affinity` is ahead by, with the interval that chance allows."""
    print(f"\n{title}: precision at {', '.join(map(str, SIZES))}; how far affinity is ahead, 95 % interval; expected")
    random = np.random.default_rng(seed)
    own = drawn["affinity"]
    for name, other in drawn.items():
        figures = " ".join(f"{value:.4f}" for value in other.precision.mean(axis=0))
        ahead = "" if name == "affinity" else "  ".join(_interval(own.precision - other.precision, random))
        share = " ".join(f"{value:.2f}" for value in other.expected.sum(axis=0) / other.actual.sum(axis=0))
        print(f"{name:18} {figures}   {ahead:66} expected / actual buyers {share}")


def _interval(differences: Float64, random: np.random.Generator) -> list[str]:
    """The paired bootstrap over the items."""
    picks = random.integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.quantile(differences[picks].mean(axis=1), (0.025, 0.975), axis=0)
    return [f"{mean:+.4f} [{a:+.4f}, {b:+.4f}]" for mean, a, b in zip(differences.mean(axis=0), low, high, strict=True)]


def several(
    retail: Retail, model: BuyingModel, shop: Shop, vectors: Vectors, known: npt.NDArray[np.int64], items: Int32
) -> None:
    """Print how audiences for sets of items fare: whether taking items as independent promises too much."""
    sets = [items[start::20][:SET_SIZE] for start in range(20)]
    scores = [score(model, shop, vectors, known, chosen, retail.cut, report=quiet) for chosen in sets]
    drawn = draw(retail, scores, sets, known, never=False, seed=0)
    print(f"\nAll customers, {len(sets)} sets of {SET_SIZE} items")
    for name in ("affinity", "past_buyers"):
        figures = " ".join(f"{value:.4f}" for value in drawn[name].precision.mean(axis=0))
        share = " ".join(f"{v:.2f}" for v in drawn[name].expected.sum(axis=0) / drawn[name].actual.sum(axis=0))
        print(f"{name:18} {figures}   expected / actual buyers {share}")


def calibration(retail: Retail, scores: list[Scores], targets: list[Int32], known: npt.NDArray[np.int64]) -> None:
    """Print what became of the probabilities: pairs of customer and item by probability, promised and kept."""
    promised = np.concatenate([of_item.probability for of_item in scores])
    kept = np.concatenate([buyers_of(retail, target)[known] for target in targets])
    edges = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
    print("\nprobability    pairs   promised   kept")
    for low, high in pairwise(edges):
        here = (promised >= low) & (promised < high)
        if here.any():
            print(f"{low:.2f} to {high:.2f} {here.sum():8}     {promised[here].mean():.4f} {kept[here].mean():.4f}")
    print(f"all            {len(promised):8}     {promised.mean():.4f} {kept.mean():.4f}")


if __name__ == "__main__":
    main()
