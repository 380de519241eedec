"""The table of encoders: what each makes of the items of a catalog.

Shapes: n items, F dimensions.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from scipy import sparse

from recsys.config.settings import ContentSettings
from recsys.data.arrays import Float32
from recsys.imports import resolve
from recsys.progress import Progress, no_progress

# name -> a function of Items that returns Encoded; loaded when it is used, since each needs other libraries
ENCODERS: dict[str, str] = {
    "words": "recsys.content.words:encode_words",
    "text": "recsys.content.text_items:encode_texts",
    "pictures": "recsys.content.picture_items:encode_pictures",
}


@dataclass(frozen=True)
class Items:
    """What an encoder gets."""

    columns: pa.Table  # the catalog: n rows
    settings: ContentSettings
    folder: Path  # of this service, for prepared networks, downloaded pictures and vectors that are known
    progress: Progress = no_progress


@dataclass(frozen=True)
class Encoded:
    """What an encoder makes of n items."""

    vectors: sparse.csr_array | Float32  # [n, F], rows of length 1; zeros where the catalog says nothing
    encoded: int  # how many texts or pictures were new
    problems: dict[str, int] = field(default_factory=dict)  # why some have no vector -> how many
    examples: dict[str, str] = field(default_factory=dict)  # of each problem one message
    weights: dict[str, Any] = field(default_factory=dict)  # file, sha256 and license of what was trained elsewhere


def encode(name: str, items: Items) -> Encoded:
    """Encode a catalog. name: of ENCODERS, or a dotted name. Raises ConfigError."""
    found: Encoded = resolve(name, ENCODERS)(items)
    return found
