"""Rank the customers of Online Retail for its best sellers, with the product's own code and with simpler rankings.

    python -m benchmarks.audience --csv online_retail.csv.gz [--days 28] [--hide-days 0] [--seed 0]

The cut is 28 days before the last row with a customer, a quantity and a price above 0 and a stock code that begins with
five digits. The rows up to it are imported with the preset of that file and trained on as by `recsys train`. The later
rows are imported into another shop, so that no return changes an order before the cut. For each of the 100 best sellers
of the 28 days before the cut, the known customers are ranked by the probability that they buy it in the 28 days after
it. Precision is the share of buyers among the first 50, 200 and 500, averaged over the items.

--hide-days first drops the last days of the file: the model's features were chosen on such earlier cuts.
"""

import argparse
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from jobs.train import train
from recsys.audience.draw import learn_model
from recsys.audience.inputs import Inputs, build_shop, open_inputs
from recsys.audience.model import BuyingModel, Scores, Shop, buyers_of, score
from recsys.audience.strategies import STRATEGIES, rank
from recsys.config.settings import Config
from recsys.data.arrays import Int32
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.source.dataset import Dataset, load
from recsys.source.importer import import_files
from recsys.store.migrate import open_store

SIZES = (50, 200, 500)
BEST_SELLERS = 100
SET_SIZES = (5, 20)  # items of an audience for several
COMPARED = ("affinity", "past_buyers", "most_active", "rfm", "recency_frequency", "random")
RESAMPLES = 10_000

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Retail:
    """The shop at the cut and what was bought later, over the same U users and I items."""

    inputs: Inputs
    shop: Shop
    later: Interactions
    cut: int  # microseconds UTC: what the shop knows lies before it

    @property
    def users(self) -> Vocabulary:
        """The customers known at the cut."""
        return self.inputs.users


@dataclass(frozen=True)
class Drawn:
    """The audiences of one strategy for every item or set, among some users."""

    precision: Float64  # [items, len(SIZES)]
    expected: Float64  # buyers that the probabilities promise, the same shape
    actual: Float64


def main() -> None:
    """Import, train as a night does, score, compare."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        retail = read(arguments, Path(folder))
        trained = time.perf_counter()
        model = learn_model(retail.inputs, retail.shop, retail.cut, quiet)
        learned = time.perf_counter()
        items = best_sellers(retail, model.window.length)
        targets = [items[[at]] for at in range(len(items))]
        scores = [scores_of(retail, model, target) for target in targets]
        scored = time.perf_counter()
        print(f"{len(retail.users)} customers, {len(items)} items, windows of {model.window.days:.0f} days")
        print(f"bundle {retail.inputs.bundle.version}, settings {retail.inputs.bundle.vectors.settings}")
        print(
            f"seconds: import and train {trained - started:.1f}, learn {learned - trained:.1f}, score an item "
            f"{(scored - learned) / len(items):.2f}"
        )
        for title, never in (("All customers", False), ("Customers who never bought the item", True)):
            compare(title, draw(retail, scores, targets, never=never, seed=arguments.seed), arguments.seed)
        several(retail, model, items)
        calibration(retail, scores, targets)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, required=True, help="online_retail.csv.gz")
    parser.add_argument("--days", type=float, default=28.0, help="length of the windows")
    parser.add_argument("--hide-days", type=float, default=0.0, help="take so many last days of the file away first")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def quiet(_step: str, _done: float) -> None:
    """Report nothing."""


def read(arguments: argparse.Namespace, folder: Path) -> Retail:
    """Cut the file, import both parts, train on the first."""
    rows = pl.read_csv(arguments.csv, infer_schema=False).with_columns(
        time=pl.col("InvoiceDate").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us").dt.timestamp("us")
    )
    amounts = (pl.col(name).cast(pl.Float64) > 0 for name in ("Quantity", "UnitPrice"))
    counts = (pl.col("CustomerID").is_not_null(), pl.col("StockCode").str.contains(r"^\d{5}"), *amounts)
    last = int(rows.filter(*counts)["time"].max()) - round(arguments.hide_days * MICROSECONDS_PER_DAY)  # type: ignore[arg-type]
    cut = last - round(arguments.days * MICROSECONDS_PER_DAY) + 1
    known = _shop_with(rows.filter(pl.col("time") < cut), folder / "known", arguments)
    later = _shop_with(rows.filter(pl.col("time").is_between(cut, last)), folder / "later", arguments)
    train(known, progress=quiet)
    inputs = open_inputs(known, open_store(known.store.url))
    with closing(open_store(later.store.url)) as store:
        bought = load(later, store, now=time.time_ns() // 1000, progress=quiet)
    shop = build_shop(inputs, np.zeros(len(inputs.users), np.bool_))
    return Retail(inputs, shop, _in_rows_of(inputs, bought), cut)


def _shop_with(rows: pl.DataFrame, folder: Path, arguments: argparse.Namespace) -> Config:
    """A shop whose own tables hold these rows of the file."""
    folder.mkdir()
    rows.drop("time").write_csv(folder / "online_retail.csv")
    config = Config.model_validate(
        {
            "store": {"url": f"sqlite:///{folder / 'recsys.db'}"},
            "storage": {"path": folder},
            "training": {"models": ["mf"], "seed": arguments.seed, "device": "cpu"},
            "evaluation": {"validation_days": arguments.days, "holdout_days": arguments.days},
        }
    )
    with closing(open_store(config.store.url)) as store:
        file = folder / "online_retail.csv"
        import_files(config, store, [file], preset="online-retail", progress=quiet)
    return config


def _in_rows_of(inputs: Inputs, bought: Dataset) -> Interactions:
    """The purchases of users and items that the shop knows, in its rows."""
    users = bought.users.rows_in(inputs.users)[bought.events.users]
    items = bought.catalog.ids.rows_in(inputs.bundle.catalog.ids)[bought.events.items]
    known = (users >= 0) & (items >= 0)
    return Interactions.from_rows(
        users[known],
        items[known],
        bought.events.kinds[known],
        bought.events.times[known],
        bought.events.values[known],
        user_count=len(inputs.users),
        item_count=len(inputs.bundle.catalog),
    )


def scores_of(retail: Retail, model: BuyingModel, items: Int32) -> Scores:
    """What the product knows of every customer; for the simpler ways, purchases beyond the history count too."""
    rows = np.arange(len(retail.users))
    found = score(model, retail.shop, retail.inputs.bundle.vectors, rows, items, retail.cut, progress=quiet)
    purchases = retail.shop.purchases
    spend = np.bincount(purchases.users, np.nan_to_num(purchases.values), len(rows)).astype(np.float64)
    return replace(found, purchases=np.diff(purchases.offsets).astype(np.float64), measured=spend)


def best_sellers(retail: Retail, length: int) -> Int32:
    """The items bought most in the days before the cut."""
    recent = retail.shop.purchases.between(retail.cut - length, retail.cut)
    counts = np.bincount(recent.items, minlength=recent.item_count)
    return np.argsort(-counts, kind="stable")[:BEST_SELLERS].astype(np.int32)


def kept(retail: Retail, items: Int32) -> Bool:
    """Who bought one of the items after the cut: bool [U]."""
    return buyers_of(retail.later, items, np.iinfo(np.int64).max)


def draw(
    retail: Retail,
    scores: list[Scores],
    targets: list[Int32],
    *,
    never: bool,
    seed: int,
) -> dict[str, Drawn]:
    """The audiences of every strategy, for each of the targets; `never`: without the past buyers of the target."""
    found = {name: np.zeros((3, len(scores), len(SIZES))) for name in COMPARED}
    for at, (of_item, target) in enumerate(zip(scores, targets, strict=True)):
        past = buyers_of(retail.shop.purchases, target, retail.cut)
        among = ~past if never else np.ones(len(past), np.bool_)
        some, rows = _only(of_item, among), np.flatnonzero(among)
        bought = kept(retail, target)
        for name in COMPARED:
            members = rank(some, retail.users, rows, max(SIZES), STRATEGIES[name], seed + at)
            hits = bought[retail.users.rows_of([member.user_id for member in members])]
            probabilities = np.array([member.probability for member in members])
            for column, size in enumerate(SIZES):
                values = (hits[:size].mean(), probabilities[:size].sum(), hits[:size].sum())
                found[name][:, at, column] = values
    return {name: Drawn(*values) for name, values in found.items()}


def _only(scores: Scores, among: Bool) -> Scores:
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


def several(retail: Retail, model: BuyingModel, items: Int32) -> None:
    """Print how audiences for sets of items fare: whether taking items as independent promises too much.

    And how often a member of the first 200 who bought any of the set bought the best item told, the first two, or what
    was bought most in the days before the cut.
    """
    for size in SET_SIZES:
        sets = [items[start :: len(items) // size][:size] for start in range(len(items) // size)]
        scores = [scores_of(retail, model, chosen) for chosen in sets]
        drawn = draw(retail, scores, sets, never=False, seed=0)
        print(f"\nAll customers, {len(sets)} sets of {size} items")
        for name in ("affinity", "past_buyers"):
            figures = " ".join(f"{value:.4f}" for value in drawn[name].precision.mean(axis=0))
            share = " ".join(f"{v:.2f}" for v in drawn[name].expected.sum(axis=0) / drawn[name].actual.sum(axis=0))
            print(f"{name:18} {figures}   expected / actual buyers {share}")
        _print_best(retail, scores, sets)


def _print_best(retail: Retail, scores: list[Scores], sets: list[Int32]) -> None:
    """Items of `sets` come by demand, so the first one of each is the campaign's most popular."""
    told = np.zeros((4, len(sets)))
    for at, (found, chosen) in enumerate(zip(scores, sets, strict=True)):
        members = rank(found, retail.users, np.arange(len(retail.users)), 200, STRATEGIES["affinity"], 0)
        rows = retail.users.rows_of([member.user_id for member in members])
        bought = retail.later.histories(rows, np.iinfo(np.int64).max, len(retail.later))
        pairs = set(zip(bought.users.tolist(), bought.items.tolist(), strict=True))
        of_set = set(chosen.tolist())
        buyers = sorted({user for user, item in pairs if item in of_set})
        for user in buyers:
            best = members[user].best
            right = (
                (user, best[0]) in pairs,
                any((user, item) in pairs for item in best[:2]),
                (user, int(chosen[0])) in pairs,
            )
            told[:, at] += (*right, 1)
    best, first_two, popular, buyers = told.sum(axis=1)
    print(
        f"of {buyers:.0f} members who bought any: the best item {best / buyers:.4f}, one of the first two "
        f"{first_two / buyers:.4f}, the most popular {popular / buyers:.4f}; the best is ahead in "
        f"{(told[0] > told[2]).sum()} of {len(sets)} sets"
    )


def calibration(retail: Retail, scores: list[Scores], targets: list[Int32]) -> None:
    """Print what became of the probabilities: pairs of customer and item by probability, promised and kept."""
    promised = np.concatenate([of_item.probability for of_item in scores])
    came = np.concatenate([kept(retail, target) for target in targets])
    edges = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
    print("\nprobability      pairs   mean   kept   expected buyers   actual")
    for low, high in pairwise(edges):
        _bin(f"{low:.2f} to {high:.2f}", (promised >= low) & (promised < high), promised, came)
    _bin("all", np.ones(len(promised), np.bool_), promised, came)


def _bin(title: str, here: Bool, promised: Float64, came: Bool) -> None:
    if here.any():
        share, rate = promised[here].mean(), came[here].mean()
        expected, actual = promised[here].sum(), came[here].sum()
        print(f"{title:13} {here.sum():8}  {share:.4f} {rate:.4f}   {expected:15.0f} {actual:8}")


if __name__ == "__main__":
    main()
