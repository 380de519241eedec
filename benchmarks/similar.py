"""Similar items of the live bundle: how many of the ten most similar share the item's category.

    python -m benchmarks.similar --config recsys.toml [--items 200] [--seed 0]

Asks the box `similar` without a filter about the items with the most events, random ones and those with the fewest, and
prints the share of the answers in the finest category of the item asked about, by taste and content and by taste alone.
Taste alone is what bundles without content answer.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys import library
from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.serving.answer import Query, RequestContext, answer
from recsys.serving.snapshot import Snapshot
from recsys.store.changes import NO_EVENTS

K = 10


def main() -> None:
    """Ask about three groups of items, with and without content."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("recsys.toml"))
    parser.add_argument("--items", type=int, default=200, help="of each group")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    with closing(library.open_store(config)) as store:
        snapshot = library.open_snapshot(config, store)
    related = snapshot.bundle.related
    assert related is not None
    assert related.content is not None
    by_events = np.argsort(-related.content.events, kind="stable")
    groups = {
        "popular": by_events[: arguments.items],
        "random": np.random.default_rng(arguments.seed).permutation(by_events)[: arguments.items],
        "rare": by_events[-arguments.items :],
    }
    taste = replace(snapshot.bundle, related=replace(related, content=None))
    print("| ten similar items | " + " | ".join(groups) + " | ms an answer |")
    print("|---|" + "---|" * (len(groups) + 1))
    for name, bundle in (("taste and content", snapshot.bundle), ("taste alone", taste)):
        asked = replace(snapshot, view=replace(snapshot.view, main=bundle))
        started = time.perf_counter()
        shares = [share_in_category(config, asked, rows.tolist()) for rows in groups.values()]
        took = (time.perf_counter() - started) / sum(map(len, groups.values())) * 1000
        print(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + f" | {took:.1f} |")


def share_in_category(config: Config, snapshot: Snapshot, rows: Sequence[int]) -> float:
    """The share of the ten items similar to each of the rows that has its category."""
    catalog = snapshot.bundle.catalog
    context = RequestContext(snapshot, NO_EVENTS, as_of=time.time_ns() // 1000)
    categories = catalog.columns.column("category")
    shares = []
    for row in rows:
        query = Query(box="similar", items=[catalog.ids.id_of(row)], k=K, fields=["category"])
        found = [hit["fields"]["category"] for hit in answer(config, context, query).hits]
        shares.append(sum(category == categories[row].as_py() for category in found) / K)
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
