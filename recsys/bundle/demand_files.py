"""The files of the demand by day in a bundle. They are optional: a bundle without them has no such counts."""

from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.demand import Demand
from recsys.data.folder import open_array
from recsys.errors import BundleError

_ARRAYS = ("offsets", "items", "counts")
_FACTS = ("first_day", "until", "kind_count", "half_life_days")


def write_demand(folder: Path, demand: Demand) -> dict[str, Any]:
    """Write the arrays into `folder`/demand and return what the manifest says of them. Raises OSError."""
    place = folder / "demand"
    place.mkdir()
    for name in _ARRAYS:
        np.save(place / f"{name}.npy", getattr(demand, name), allow_pickle=False)
    return {name: getattr(demand, name) for name in _FACTS}


def open_demand(folder: Path, facts: dict[str, Any]) -> Demand:
    """Open what `write_demand` wrote, memory-mapped. facts: what it returned.

    Raises BundleError when the arrays do not fit each other; KeyError, OSError or ValueError when a file
    cannot be read.
    """
    place = folder / "demand"
    arrays = {name: open_array(place / f"{name}.npy") for name in _ARRAYS}
    demand = Demand(**{name: facts[name] for name in _FACTS}, **arrays)
    count = len(demand.items)
    if len(demand.counts) != count or demand.offsets[-1] != count or (len(demand.offsets) - 1) % demand.kind_count:
        sizes = {name: len(array) for name, array in arrays.items()}
        raise BundleError(f"{place}: expected as many items as counts and offsets up to there; found {sizes}")
    return demand
