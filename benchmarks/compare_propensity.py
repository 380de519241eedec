"""Gradient boosting, and BG/NBD with Gamma-Gamma, on the file of purchases that benchmarks.propensity reads.

    python -m venv lifetime && lifetime/bin/pip install scikit-learn lifetimes polars    (none is one of the project)
    lifetime/bin/python benchmarks/compare_propensity.py --data DIR --model boosting|bgnbd --days 90 --out FILE

Writes user_id, p_alive, expected_value as benchmarks.propensity does. Boosting learns buying and, by a Poisson loss,
the value, from windows of the past: cuts two weeks apart, the newest one a window before the end. Where its library is
not installed, a model is skipped with a line that says so. This script imports nothing of the project.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

NEEDED = {"boosting": "sklearn", "bgnbd": "lifetimes"}
STEP, LEAST_HISTORY, MOST_CUTS = 14, 45, 8
SHARES = (1 / 6, 1 / 3, 2 / 3, 1.0)  # of the window, over which recent days are counted
PENALIZERS = (0.001, 0.01, 0.1, 1.0, 10.0)  # the first with which a fit converges


def main() -> None:
    """Read, learn, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with purchases.csv")
    parser.add_argument("--model", choices=sorted(NEEDED), required=True)
    parser.add_argument("--days", type=int, default=90, help="the window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="CSV file for the predictions")
    arguments = parser.parse_args()
    if importlib.util.find_spec(NEEDED[arguments.model]) is None:
        sys.exit(f"skipped: {arguments.model} needs {NEEDED[arguments.model]}, which is not installed here")
    started = time.perf_counter()
    rows = read(arguments.data / "purchases.csv")
    predict = boosting if arguments.model == "boosting" else bgnbd
    predict(rows, arguments.days, arguments.seed).write_csv(arguments.out)
    print(f"{arguments.model}: {rows['user_id'].n_unique()} users in {time.perf_counter() - started:.1f} s")


def read(path: Path) -> pl.DataFrame:
    """One row a user and day: user_id, day (0 is the day after the last purchase), value."""
    rows = pl.read_csv(path, schema_overrides={"user_id": pl.String})
    day = rows["timestamp"].str.slice(0, 10).str.to_date().cast(pl.Int64)
    rows = rows.with_columns(day=day - int(day.max()) - 1)  # type: ignore[arg-type]
    return rows.group_by("user_id", "day").agg(pl.col("value").sum()).sort("user_id", "day")


def features(rows: pl.DataFrame, cut: int, days: int) -> pl.DataFrame:
    """What was known of each user at a cut: recency, frequency, value, recent days, gaps."""
    known = rows.filter(pl.col("day") < cut).with_columns(age=cut - pl.col("day"))
    recent = [(pl.col("age") <= days * share).sum().alias(f"orders_{share:.2f}") for share in SHARES]
    spent = [
        pl.col("value").filter(pl.col("age") <= days * share).sum().alias(f"value_{share:.2f}") for share in SHARES
    ]
    return known.group_by("user_id").agg(
        pl.col("age").min().alias("recency"),
        pl.col("age").max().alias("length"),
        pl.len().alias("orders"),
        pl.col("value").sum(),
        pl.col("value").mean().alias("basket"),
        pl.col("value").last().alias("last"),
        pl.col("day").diff().mean().fill_null(-1).alias("gap"),
        pl.col("day").diff().std().fill_null(-1).alias("gap_spread"),
        *recent,
        *spent,
    )


def boosting(rows: pl.DataFrame, days: int, seed: int) -> pl.DataFrame:
    """scikit-learn's gradient boosting: a classifier for buying, a Poisson regression for the value."""
    ensemble: Any = importlib.import_module("sklearn.ensemble")
    settings = {"learning_rate": 0.05, "max_iter": 150, "max_leaf_nodes": 15, "min_samples_leaf": 50}
    first = int(rows["day"].min())  # type: ignore[arg-type]
    cuts = list(range(-days, first + LEAST_HISTORY - 1, -STEP))[:MOST_CUTS]
    tables = []
    for cut in cuts:
        after = rows.filter((pl.col("day") >= cut) & (pl.col("day") < cut + days))
        after = after.group_by("user_id").agg(after_value=pl.col("value").sum())
        tables.append(features(rows, cut, days).join(after, on="user_id", how="left"))
    learned = pl.concat(tables).with_columns(pl.col("after_value").fill_null(0.0))
    inputs, value = learned.drop("user_id", "after_value").to_numpy(), learned["after_value"].to_numpy()
    buys = ensemble.HistGradientBoostingClassifier(random_state=seed, **settings).fit(inputs, value > 0)
    spends = ensemble.HistGradientBoostingRegressor(loss="poisson", random_state=seed, **settings).fit(inputs, value)
    asked = features(rows, 0, days)
    now = asked.drop("user_id").to_numpy()
    return pl.DataFrame(
        {"user_id": asked["user_id"], "p_alive": buys.predict_proba(now)[:, 1], "expected_value": spends.predict(now)}
    )


def bgnbd(rows: pl.DataFrame, days: int, _seed: int) -> pl.DataFrame:
    """BG/NBD for the purchases, Gamma-Gamma for what one is worth; nothing is random.

    The chance to buy at all is that of at least one purchase of a Poisson process with the expected number.
    """
    lifetimes: Any = importlib.import_module("lifetimes")
    facts = rows.group_by("user_id").agg(
        frequency=pl.len() - 1,
        recency=pl.col("day").max() - pl.col("day").min(),
        length=-pl.col("day").min(),
        basket=pl.col("value").filter(pl.col("day") > pl.col("day").min()).mean(),
    )
    frequency, recency, length = (facts[name].to_numpy().astype(np.float64) for name in facts.columns[1:4])
    buying = fit(lifetimes.BetaGeoFitter, (frequency, recency, length), lambda _found: True)
    number = np.asarray(buying.conditional_expected_number_of_purchases_up_to_time(days, frequency, recency, length))
    again = facts.filter((pl.col("frequency") > 0) & (pl.col("basket") > 0))
    unit = float(again["basket"].mean())  # type: ignore[arg-type]
    pairs = (again["frequency"].to_numpy().astype(np.float64), again["basket"].to_numpy() / unit)
    # With q below 1 the mean of the amounts does not exist.
    worth = fit(lifetimes.GammaGammaFitter, pairs, lambda found: found.params_["q"] > 1)
    known = facts["basket"].fill_null(0.0).to_numpy() / unit
    basket = unit * np.asarray(worth.conditional_expected_average_profit(frequency, known))
    return pl.DataFrame({"user_id": facts["user_id"], "p_alive": -np.expm1(-number), "expected_value": number * basket})


def fit(family: Any, data: tuple[Any, ...], is_sound: Callable[[Any], bool]) -> Any:
    """Fit with the smallest penalty that converges to a sound answer."""
    for penalizer in PENALIZERS:
        try:
            found = family(penalizer_coef=penalizer).fit(*data)
        except Exception as error:  # the library's own, of the one that is not imported by name
            print(f"{family.__name__} with penalizer {penalizer:g}: {type(error).__name__}")
            continue
        if is_sound(found):
            print(f"{family.__name__} with penalizer {penalizer:g}: {dict(found.params_.round(4))}")
            return found
    sys.exit(f"skipped: {family.__name__} does not converge on these data")


if __name__ == "__main__":
    main()
