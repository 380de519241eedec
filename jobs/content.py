"""`recsys content`: what encoders make of the live catalog, which items they find alike, and whether they work here."""

import importlib
import time
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.answers import SHOWN
from jobs.commands import open_shop
from jobs.output import Output, Table
from recsys.config.settings import Config, ContentSettings
from recsys.content.encoders import ENCODERS, Encoded, Items
from recsys.content.encoders import encode as run_encoder
from recsys.data.arrays import Float32
from recsys.data.catalog import Catalog
from recsys.errors import NotFoundError, RecsysError
from recsys.imports import resolve
from recsys.progress import Progress
from recsys.serving.snapshot import load

_NEEDS = ("onnxruntime", "tokenizers", "safetensors", "PIL", "torch", "onnx", "torchvision")
_FOLDER = "content"
_KEYS = {"text": "text_network", "pictures": "picture_network"}  # of [content], without which an encoder has no weights
_TRIALS = {"text": "recsys.content.text_items:measure", "pictures": "recsys.content.picture_items:measure"}


def encode(config: Config, *, encoders: list[str], progress: Progress) -> Output:
    """Encode the catalog of the live bundle with each of the encoders; none named: all that are configured."""
    catalog = _catalog(config)
    names = encoders or [name for name in ENCODERS if _is_configured(name, config.content)]
    data, rows = [], []
    for name in names:
        began = time.monotonic()
        found = run_encoder(name, _items(config, catalog, progress))
        facts = _facts(name, found, time.monotonic() - began)
        data.append(facts)
        rows.append([facts[key] for key in ("encoder", "items", "with_vector", "dimensions", "encoded", "seconds")])
    table = Table("Content", ["encoder", "items", "with a vector", "dimensions", "encoded now", "seconds"], rows)
    problems = [
        [facts["encoder"], reason, count, facts["examples"].get(reason, "")]
        for facts in data
        for reason, count in facts["problems"].items()
    ]
    parts: list[Table | str] = [table]
    if problems:
        parts.append(Table("Items without a vector", ["encoder", "reason", "items", "for example"], problems))
    return Output(data, parts)


def similar(config: Config, *, item: str, encoder: str, k: int, progress: Progress) -> Output:
    """The items whose vectors of one encoder are nearest to an item's, by cosine. Raises NotFoundError."""
    catalog = _catalog(config)
    row = catalog.ids.row_of(item)
    if row < 0:
        raise NotFoundError(f"the item {item!r} is not among the {len(catalog)} of the live bundle")
    likeness = _cosines(run_encoder(encoder, _items(config, catalog, progress)), row)
    likeness[row] = -np.inf
    best = np.argsort(-likeness, kind="stable")[:k]
    best = best[likeness[best] > 0]
    shown = [name for name in SHOWN if name in catalog.columns.column_names]
    hits = [
        {"item_id": catalog.ids.id_of(int(at)), "score": float(likeness[at]), **_columns(catalog, int(at), shown)}
        for at in best
    ]
    rows = [list(hit.values()) for hit in hits]
    asked = {"item_id": item, **_columns(catalog, row, shown)}
    table = Table(f"Like {' · '.join(str(value) for value in asked.values())}", ["item", "score", *shown], rows)
    return Output({"item": asked, "encoder": encoder, "hits": hits}, [table])


def doctor(config: Config, *, progress: Progress) -> Output:
    """Whether libraries and configured networks work here. Exit code 1 when something that is configured does not."""
    rows = [[f"library {name}", *_library(name)] for name in _NEEDS]
    items = Items(pa.table({}), config.content, config.storage.path / _FOLDER, progress)
    is_sound = True
    for name, key in _KEYS.items():
        if not _is_configured(name, config.content):
            rows.append([f"encoder {name}", "not configured", f"[content] {key} names its weights"])
            continue
        works, said = _try(name, items)
        is_sound &= works
        rows.append([f"encoder {name}", "works" if works else "fails", said])
    data = [dict(zip(("check", "found", "detail"), row, strict=True)) for row in rows]
    return Output(data, [Table("Content", ["check", "found", "detail"], rows)], code=0 if is_sound else 1)


def _catalog(config: Config) -> Catalog:
    with closing(open_shop(config)):
        return load(config, lambda _: []).bundle.catalog


def _items(config: Config, catalog: Catalog, progress: Progress) -> Items:
    return Items(catalog.columns, config.content, config.storage.path / _FOLDER, progress)


def _is_configured(name: str, settings: ContentSettings) -> bool:
    key = _KEYS.get(name)
    return key is None or getattr(settings, key) is not None


def _facts(name: str, found: Encoded, seconds: float) -> dict[str, Any]:
    says = _lengths(found) > 0
    return {
        "encoder": name,
        "items": len(says),
        "with_vector": int(says.sum()),
        "dimensions": int(found.vectors.shape[1]),
        "encoded": found.encoded,
        "seconds": round(seconds, 2),
        "problems": found.problems,
        "examples": found.examples,
        "weights": found.weights,
    }


def _lengths(found: Encoded) -> Float32:
    squares = found.vectors.multiply(found.vectors) if hasattr(found.vectors, "multiply") else found.vectors**2
    return np.sqrt(np.asarray(squares.sum(axis=1), np.float32)).ravel()


def _cosines(found: Encoded, row: int) -> Float32:
    """The cosine of every item and one: float32 [I]; dense vectors are centered on their mean first."""
    vectors: Any = found.vectors
    if isinstance(vectors, np.ndarray):
        says = np.linalg.norm(vectors, axis=1) > 0
        vectors = np.where(says[:, None], vectors - vectors[says].mean(axis=0), 0)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors @ vectors[row], np.float32)
    return np.asarray((vectors @ vectors[[row]].T).todense(), np.float32).ravel()


def _columns(catalog: Catalog, row: int, names: list[str]) -> dict[str, Any]:
    return {name: catalog.columns.column(name)[row].as_py() for name in names}


def _library(name: str) -> tuple[str, str]:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # torchvision of another build raises RuntimeError
        missing = isinstance(error, ModuleNotFoundError)
        return "not installed" if missing else "does not load", "" if missing else str(error)[:120]
    return str(getattr(module, "__version__", "installed")), ""


def _try(name: str, items: Items) -> tuple[bool, str]:
    """Whether a configured network works, and what it is or why not."""
    try:
        milliseconds, weights = resolve(_TRIALS[name])(items)
    except RecsysError as error:
        return False, str(error)
    license_name, digest = weights["license"], weights["sha256"][:12]
    return True, f"{milliseconds:.1f} ms each; {weights['file']}, license {license_name}, sha256 {digest}…"
