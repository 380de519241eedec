"""The files of a bundle that record what happened before: demand by day, and changes of prices.

They are optional: a bundle without them has no such record.
"""

from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.demand import Demand
from recsys.data.folder import open_array
from recsys.data.prices import PriceChanges
from recsys.errors import BundleError

_DEMAND = ("offsets", "items", "counts")
_DEMAND_FACTS = ("first_day", "until", "kind_count", "half_life_days")
_PRICES = ("rows", "times", "former", "current")


def write_demand(folder: Path, demand: Demand) -> dict[str, Any]:
    """Write the arrays into `folder`/demand and return what the manifest says of them. Raises OSError."""
    _write(folder / "demand", demand, _DEMAND)
    return {name: getattr(demand, name) for name in _DEMAND_FACTS}


def open_demand(folder: Path, facts: dict[str, Any]) -> Demand:
    """Open what `write_demand` wrote, memory-mapped. facts: what it returned.

    Raises BundleError when the arrays do not fit each other; KeyError, OSError or ValueError when a file cannot be
    read.
    """
    arrays = _open(folder / "demand", _DEMAND)
    demand = Demand(**{name: facts[name] for name in _DEMAND_FACTS}, **arrays)
    count = len(demand.items)
    if len(demand.counts) != count or demand.offsets[-1] != count or (len(demand.offsets) - 1) % demand.kind_count:
        sizes = {name: len(array) for name, array in arrays.items()}
        raise BundleError(f"{folder}/demand: expected as many items as counts and offsets up to there; found {sizes}")
    return demand


def write_prices(folder: Path, prices: PriceChanges) -> dict[str, Any]:
    """Write the arrays into `folder`/prices and return what the manifest says of them. Raises OSError."""
    _write(folder / "prices", prices, _PRICES)
    return {"changes": len(prices)}


def open_prices(folder: Path, facts: dict[str, Any]) -> PriceChanges:
    """Open what `write_prices` wrote, memory-mapped. Raises as `open_demand` does."""
    arrays = _open(folder / "prices", _PRICES)
    sizes = {name: len(array) for name, array in arrays.items()}
    if set(sizes.values()) != {facts["changes"]}:
        raise BundleError(f"{folder}/prices: expected {facts['changes']} changes, found {sizes}")
    return PriceChanges(**arrays)


def _write(place: Path, record: Demand | PriceChanges, names: tuple[str, ...]) -> None:
    place.mkdir()
    for name in names:
        np.save(place / f"{name}.npy", getattr(record, name), allow_pickle=False)


def _open(place: Path, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: open_array(place / f"{name}.npy") for name in names}
