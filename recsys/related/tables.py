"""What answers about related items come from: plain arrays, memory-mapped, and pure functions over them.

Shapes: I items, P pairs, S seeds, F features, H hidden.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.folder import open_array
from recsys.data.interactions import Histories
from recsys.errors import BundleError
from recsys.related.content import Content
from recsys.related.network import Network
from recsys.related.repeats import Repeats, rank_repeats

POPULARITY = "popularity"  # the method of a table that has no pairs because popular items serve better
_FOLDER = "related"


@dataclass(frozen=True)
class Table:
    """The items that belong to each of I items, best first: item i owns items[offsets[i]:offsets[i + 1]]."""

    offsets: Int64  # [I + 1]
    items: Int32  # [P]
    scores: Float32  # [P], descending within an item

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, seeds: Int32) -> tuple[Int32, Float32]:
        """What belongs to the items `seeds` [S] together, without them: rows and summed scores, best first."""
        known = np.unique(seeds[(seeds >= 0) & (seeds < len(self))])
        parts = [slice(self.offsets[seed], self.offsets[seed + 1]) for seed in known.tolist()]
        if not parts:
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        items = np.concatenate([self.items[part] for part in parts])
        scores = np.concatenate([self.scores[part] for part in parts])
        if len(parts) > 1:
            items, places = np.unique(items, return_inverse=True)
            scores = np.bincount(places, weights=scores, minlength=len(items)).astype(np.float32)
        free = ~np.isin(items, known) if len(known) > 1 else items != known[0]
        items, scores = items[free], scores[free]
        order = np.argsort(-scores, kind="stable")
        return items[order], scores[order]


@dataclass(frozen=True)
class Related:
    """The tables of a bundle. A table of a shop whose events say nothing of its kind is empty."""

    bought_together: Table
    viewed_together: Table
    cart: Table  # its scores add up over the items of a cart
    repeats: Repeats
    content: Content | None  # None: a bundle of before there was any
    facts: dict[str, Any]  # box -> settings and what they reached on validation, for the manifest

    def buy_again(self, history: Histories) -> tuple[Int32, Float32]:
        """Rank what one user has bought by how likely it is wanted again: rows and scores, best first.

        history: the purchases of that user alone, with their ages.
        """
        return rank_repeats(self.repeats, history)


def empty_table(item_count: int) -> Table:
    """A table that knows no pair."""
    return Table(np.zeros(item_count + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


def write(folder: Path, related: Related) -> None:
    """Write all arrays into `folder`/related. Raises OSError."""
    place = folder / _FOLDER
    place.mkdir()
    for name in _TABLES:
        for field in fields(Table):
            _save(place, f"{name}_{field.name}", getattr(getattr(related, name), field.name))
    if related.content is not None:
        for field in fields(Content):
            _save(place, f"content_{field.name}", getattr(related.content, field.name))
    _save(place, "repeats_items", related.repeats.items)
    _save(place, "repeats_settings", np.array([related.repeats.half_life_days, related.repeats.popularity_exponent]))
    if related.repeats.network is not None:
        for field in fields(Network):
            _save(place, f"repeats_{field.name}", getattr(related.repeats.network, field.name))


def open_related(folder: Path, facts: dict[str, Any], item_count: int) -> Related:
    """Open what `write` wrote, memory-mapped. facts: those of the manifest.

    Raises BundleError when the arrays do not fit the items; OSError or ValueError when a file cannot be read.
    """
    place = folder / _FOLDER
    tables = {name: _open_table(place, name, item_count) for name in _TABLES}
    items = open_array(place / "repeats_items.npy")
    if items.ndim != 2 or len(items) != item_count:
        raise BundleError(f"{place}/repeats_items.npy: expected {item_count} rows, found {items.shape}")
    network = None
    if (place / "repeats_hidden.npy").exists():
        network = Network(*(np.array(open_array(place / f"repeats_{field.name}.npy")) for field in fields(Network)))
    content = None
    if (place / "content_hashes.npy").exists():
        content = Content(*(open_array(place / f"content_{field.name}.npy") for field in fields(Content)))
        if len(content.events) != item_count:
            raise BundleError(f"{place}/content_events.npy: expected {item_count}, found {len(content.events)}")
    half_life, exponent = open_array(place / "repeats_settings.npy").tolist()
    return Related(**tables, repeats=Repeats(items, half_life, exponent, network), content=content, facts=facts)


_TABLES = ("bought_together", "viewed_together", "cart")


def _open_table(place: Path, name: str, item_count: int) -> Table:
    table = Table(*(open_array(place / f"{name}_{field.name}.npy") for field in fields(Table)))
    pairs = int(table.offsets[-1]) if len(table.offsets) else -1
    found = (len(table.offsets), len(table.items), len(table.scores))
    if found != (item_count + 1, pairs, pairs):
        expected = (item_count + 1, pairs, pairs)
        raise BundleError(f"{place}/{name}: expected offsets, items and scores of sizes {expected}, found {found}")
    return table


def _save(place: Path, name: str, array: Any) -> None:
    np.save(place / f"{name}.npy", array, allow_pickle=False)
