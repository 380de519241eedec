"""Tell who of a shop's customers buys again, and for how much, from a file of purchases.

    python -m benchmarks.propensity --data DIR --days 90 --out FILE [--seed 0] [--device cpu]

Reads DIR/purchases.csv (user_id, item_id, timestamp, value) and nothing else, trains with the product's own code as a
night does, and writes user_id, p_alive, expected_value of each user. The moment asked about is the end of the day of
the last purchase, in UTC. Prints what past cuts say: the model that was chosen, every figure, and the intervals of the
totals.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.propensity.days import BuyingDays, summarize
from recsys.propensity.past_cuts import Totals
from recsys.propensity.training import learn


def main() -> None:
    """Read, learn, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with purchases.csv")
    parser.add_argument("--days", type=int, default=90, help="the window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="CSV file for the predictions")
    parser.add_argument("--report", type=Path, help="JSON file for all figures of past cuts")
    arguments = parser.parse_args()
    started = time.perf_counter()
    ids, days, items = read_purchases(arguments.data / "purchases.csv")
    learned = learn(
        days, arguments.days, item_count=items, category_count=0, seed=arguments.seed, device=arguments.device
    )
    if learned.scorer is None:
        sys.exit("refused:\n" + "\n".join(f"  {reason}" for reason in learned.reasons))
    users = np.arange(len(ids))
    found = learned.scorer.predict(days, users, np.zeros(len(ids), np.int64))
    written = {"user_id": ids, "p_alive": found.probability, "expected_value": np.nan_to_num(found.value)}
    pl.DataFrame(written).write_csv(arguments.out)
    if arguments.report:
        arguments.report.write_text(json.dumps(learned.facts, indent=1), encoding="utf-8")
    _print(learned.facts, float(found.probability.sum()), float(np.nansum(found.value)))
    print(f"{len(ids)} users in {time.perf_counter() - started:.1f} s")


def read_purchases(path: Path) -> tuple[list[str], BuyingDays, int]:
    """The users, their purchases by day, and how many items there are. The last day ends at midnight UTC."""
    rows = pl.read_csv(path, schema_overrides={"user_id": pl.String, "item_id": pl.String, "value": pl.Float64})
    times = rows["timestamp"].str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us").to_physical().to_numpy()
    ids, users = np.unique(np.array(rows["user_id"].to_list(), str), return_inverse=True)
    names, items = np.unique(np.array(rows["item_id"].to_list(), str), return_inverse=True)
    days = summarize(
        users.astype(np.int64),
        items.astype(np.int64),
        times.astype(np.int64),
        rows["value"].to_numpy().astype(np.float64),
        is_purchase=np.ones(len(rows), np.bool_),
        category_of=np.zeros(0, np.int64),
        user_count=len(ids),
        as_of=(int(times.max()) // MICROSECONDS_PER_DAY + 1) * MICROSECONDS_PER_DAY,
    )
    return ids.tolist(), days, len(names)


def _print(facts: dict[str, Any], buyers: float, value: float) -> None:
    print(f"chosen: {facts['model']}; log loss on past cuts: {_row(facts['log_losses'])}")
    print(f"beside recency-frequency rules: {_row(facts['gate'])}")
    print(f"correction: {facts['correction']}")
    for cut in facts["past"]["cuts"]:
        print(f"  {_row(cut)}")
    print(f"past cuts: {_row(facts['past'])}")
    for name, total in (("buyers", buyers), ("value", value)):
        if name in facts["totals"]:
            low, high = Totals(**facts["totals"][name]).interval(total)
            print(f"{name}: {total:.0f}, 95 % interval {low:.0f} to {high:.0f}")


def _row(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, int | float))


if __name__ == "__main__":
    main()
