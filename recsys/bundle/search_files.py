"""The files of a bundle that hold the words of its catalog, for search.

They are optional: for a bundle without them the words are read from the catalog when somebody searches.
"""

from dataclasses import fields
from pathlib import Path

import numpy as np

from recsys.content.search import CatalogSearch
from recsys.data.folder import open_array
from recsys.errors import BundleError

FOLDER = "search"
_ARRAYS = tuple(field.name for field in fields(CatalogSearch) if field.name != "count")


def write_search(folder: Path, search: CatalogSearch) -> None:
    """Write the arrays into `folder`/search. Raises OSError."""
    place = folder / FOLDER
    place.mkdir()
    for name in _ARRAYS:
        np.save(place / f"{name}.npy", getattr(search, name), allow_pickle=False)


def open_search(folder: Path, count: int) -> CatalogSearch | None:
    """Open what `write_search` wrote, memory-mapped; None where there is nothing. count: of items.

    Raises BundleError when the arrays do not fit each other; OSError or ValueError when a file cannot be read.
    """
    place = folder / FOLDER
    if not place.is_dir():
        return None
    found = CatalogSearch(**{name: open_array(place / f"{name}.npy") for name in _ARRAYS}, count=count)
    for what, ends, size in (
        ("ends", found.ends, len(found.blob)),
        ("offsets", found.offsets, len(found.items)),
        ("offsets", found.offsets, len(found.weights)),
        ("piece_offsets", found.piece_offsets, len(found.piece_words)),
    ):
        if not len(ends) or ends[-1] != size:
            raise BundleError(f"{place}: {what} ends at {ends[-1:].tolist()}, expected [{size}]")
    if len(found.items) and not 0 <= int(found.items.min()) <= int(found.items.max()) < count:
        raise BundleError(f"{place}: items names rows outside of the {count} of the catalog")
    return found
