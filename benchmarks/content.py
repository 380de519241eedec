"""How long encoders and search take, and how much memory, on a catalog of made-up words.

    python -m benchmarks.content [--items 200000] [--words 40] [--text-network FOLDER] [--texts 2000]

Words of a catalog are drawn by Zipf's law from 100,000. Prints processor seconds of `words`, the largest memory beyond
the catalog's own, milliseconds for one posted item, and for a search with and without typing mistakes; with a text
network also titles a second by ONNX on one thread.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.content.networks import text_network
from recsys.content.search import build_search
from recsys.content.text_network import open_text_network
from recsys.content.words import fit_words

VOCABULARY = 100_000
LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def main() -> None:
    """Measure words, search and, where one is named, a text network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--words", type=int, default=40, help="of each item, a fifth of them in its title")
    parser.add_argument("--text-network", type=Path)
    parser.add_argument("--texts", type=int, default=2_000)
    arguments = parser.parse_args()
    columns = catalog(arguments.items, arguments.words)
    before = memory()
    (words, vectors), seconds = timed(lambda: fit_words(columns))
    print(f"words: {arguments.items:,} items in {seconds:.1f} s, {memory() - before:.2f} GB; {words.dim:,} features")
    posted = [timed(partial(words.encode, columns.slice(at, 1)))[1] for at in range(50)]
    print(f"a posted item: {np.median(posted) * 1e3:.1f} ms; a vector has {vectors.nnz / arguments.items:.0f} numbers")
    search, seconds = timed(lambda: build_search([f"P{at}" for at in range(arguments.items)], columns))
    size = sum(array.nbytes for array in vars(search).values() if isinstance(array, np.ndarray))
    print(f"search: built in {seconds:.1f} s, {size / 1e6:.0f} MB")
    titles = columns.column("title").to_pylist()[:100]
    for name, question in (("two words", two_words), ("misspelled", misspelled)):
        took = [timed(partial(search.find, question(title)))[1] * 1e3 for title in titles]
        print(f"search by {name}: {np.median(took):.1f} ms, 99 % {np.quantile(took, 0.99):.1f} ms")
    if arguments.text_network:
        measure_network(arguments.text_network, arguments.texts)


def measure_network(folder: Path, count: int) -> None:
    """Encode titles that all differ, plain and in 8 bits."""
    nouns = ["lantern", "cup", "holder", "tin", "bowl", "lamp"]
    titles = [f"Red {nouns[at % 6]} {at} with a {nouns[at // 6 % 6]} design" for at in range(count)]
    for int8 in (False, True):
        with tempfile.TemporaryDirectory() as place:
            prepared = text_network(folder, Path(place), int8=int8)
            size = (prepared / "model.onnx").stat().st_size / 1e6
            network = open_text_network(prepared)
            _, seconds = timed(partial(network.encode, titles))
        print(f"text network{', 8 bits' if int8 else ''}: {count / seconds:.0f} titles a second, {size:.0f} MB")


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and the processor seconds that it took."""
    began = time.process_time()
    found = act()
    return found, time.process_time() - began


def memory() -> float:
    """The largest memory of this process until now, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def two_words(title: str) -> str:
    """The first words of a title."""
    return " ".join(title.split()[:2])


def misspelled(title: str) -> str:
    """Two words of a title, letters of the first swapped."""
    first, second = title.split()[:2]
    return f"{first[:1]}{first[2:3]}{first[1:2]}{first[3:]} {second}"


def catalog(count: int, words: int) -> pa.Table:
    """Items with random words: title, description, brand and category."""
    draw = np.random.default_rng(0)
    known = np.array(["".join(draw.choice(LETTERS, draw.integers(3, 11))) for _ in range(VOCABULARY)])
    drawn = known[np.minimum(draw.zipf(1.15, count * words) - 1, VOCABULARY - 1)].reshape(count, words)
    split = max(2, words // 5)
    return pa.table(
        {
            "title": [" ".join(row[:split]) for row in drawn],
            "description": [" ".join(row[split:]) for row in drawn],
            "brand": known[draw.integers(0, 500, count)],
            "category": [f"Shop > {name}" for name in known[draw.integers(0, 200, count)]],
        }
    )


if __name__ == "__main__":
    main()
