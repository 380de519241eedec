"""The engine: data, models, index, evaluation, bundle. No HTTP, no scheduler, no command line.

As a library it offers the names of `recsys.library`, which docs/library.md explains. They are loaded when they are
used, so that `import recsys` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.library import (
        Query,
        Vectors,
        evaluate,
        load_config,
        load_dataset,
        open_snapshot,
        open_store,
        recommend,
        similar,
        train,
    )

__all__ = (
    "Query",
    "Vectors",
    "evaluate",
    "load_config",
    "load_dataset",
    "open_snapshot",
    "open_store",
    "recommend",
    "similar",
    "train",
)


def __getattr__(name: str) -> Any:
    """Load one of the library's names. Raises AttributeError for any other."""
    if name not in __all__:
        raise AttributeError(f"recsys has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module("recsys.library"), name)
