"""NDCG@20 through the served index beside exact search: `python -m benchmarks.served_lists --data DIR [DIR …]`.

Vectors are trained from each public set with middle settings and the largest D among which training chooses. The index
is chosen as training does, and asked for one user at a time, as the service asks it. Prints a table in Markdown.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.accuracy import ids_of
from benchmarks.forms import Benchmark, read, read_test
from benchmarks.multiplied import train
from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import Config
from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.interactions import Histories
from recsys.data.ragged import Ragged
from recsys.models.vectors import Vectors
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import recommend

K = 20
CHOOSERS = 1_000  # users whose vectors choose the index


def main() -> None:
    """Measure each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of public sets")
    parser.add_argument("--users", type=int, default=5_000, help="so many of the test users, drawn")
    arguments = parser.parse_args()
    config = Config()
    dim = max(config.models.mf.n_factors)
    print(
        "| set | items | D | index | users | NDCG@20, exact | served | difference |\n|---|---|---|---|---|---|---|---|"
    )
    for folder in arguments.data:
        print(line(folder, dim, arguments.users, config), flush=True)


def line(folder: Path, dim: int, most: int, config: Config) -> str:
    """A line of the table."""
    vectors, histories = train(folder, dim)
    benchmark = read(folder, config=config, seed=0)
    chosen = np.random.default_rng(0).permutation(len(benchmark.rows))[:most]
    found = []
    for choose in (False, True):
        bundle = _bundle(benchmark, vectors, histories, config, choose=choose)
        found.append(_ndcg(benchmark, folder, chosen, _lists(benchmark, bundle, histories, chosen)))
    exact, served = (float(values.mean()) for values in found)
    kind = bundle.manifest["index"]["kind"]
    cells = [folder.name, f"{len(benchmark.catalog):,}", str(dim), kind, f"{len(chosen):,}"]
    return f"| {' | '.join(cells)} | {exact:.4f} | {served:.4f} | {(served - exact) / exact:+.2%} |"


def _bundle(benchmark: Benchmark, vectors: Vectors, histories: Histories, config: Config, *, choose: bool) -> Bundle:
    known = benchmark.known
    popularity = np.bincount(known.items, minlength=known.item_count).astype(np.float32)
    queries = None
    if choose:
        users = np.random.default_rng(1).permutation(len(histories))[:CHOOSERS]
        queries = np.concatenate([vectors.encode(histories.slice(user, user + 1)) for user in users.tolist()])
    kinds = tuple(config.events.weights)
    return assemble(vectors, benchmark.catalog, popularity, kinds=kinds, index_settings=config.index, queries=queries)


def _lists(benchmark: Benchmark, bundle: Bundle, histories: Histories, chosen: Int64) -> Int32:
    """The rows of the K best items of each user, asked for one by one; what the user had is left out."""
    view, known = CatalogView(bundle), benchmark.known
    found = []
    for at in chosen.tolist():
        user = benchmark.rows[at]
        seen = known.items[known.offsets[user] : known.offsets[user + 1]]
        found.append(recommend(view, histories.slice(at, at + 1), K, excluded=Ragged.of_one(np.unique(seen))).rows)
    return np.concatenate(found)


def _ndcg(benchmark: Benchmark, folder: Path, chosen: Int64, rows: Int32) -> Float32:
    """Of each user the discounted share of test items in the list: [B]."""
    users, items = read_test(folder)
    gains = 1 / np.log2(np.arange(2, K + 2))
    listed, values = ids_of(benchmark)[rows], np.zeros(len(chosen), np.float32)
    starts, stops = (np.searchsorted(users, benchmark.users[chosen], side=side) for side in ("left", "right"))
    for at, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        hits = np.isin(listed[at], items[start:stop])
        values[at] = gains[hits].sum() / gains[: min(K, stop - start)].sum()
    return values


if __name__ == "__main__":
    main()
