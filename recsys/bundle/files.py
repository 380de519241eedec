"""The files inside a bundle: write items, vectors and encoders, and open them memory-mapped."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.data import folder as folders
from recsys.data.catalog import Catalog
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError
from recsys.models.onnx_encoder import OnnxEncoder
from recsys.models.vectors import ItemEncoder, Part, Vectors, encoder_from_dict, encoder_to_dict

_ID = "item_id"
_LISTED = b"listed"  # of the table's metadata; a bundle of before version 0.3 has none
_GRAPH = "encoder.onnx"


def write_items(folder: Path, catalog: Catalog) -> None:
    """Write items.arrow, ids first, and the arrays for looking up ids. Raises OSError."""
    folders.save_vocabulary(folder, "item_ids", catalog.ids)
    columns = catalog.columns.combine_chunks()
    if _ID in columns.column_names:
        columns = columns.drop_columns([_ID])
    for at, name in enumerate(columns.column_names):
        columns = columns.set_column(at, name, _encode(columns.column(name)))
    table = columns.add_column(0, _ID, pa.array(catalog.ids, pa.large_string()))
    if catalog.listed is not None:
        table = table.replace_schema_metadata({_LISTED: str(catalog.listed)})
    with pa.OSFile(str(folder / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def open_items(folder: Path) -> Catalog:
    """Open what write_items wrote. Raises BundleError when ids and columns differ in number."""
    ids: Vocabulary = folders.open_vocabulary(folder, "item_ids")
    with pa.memory_map(str(folder / "items.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    if table.num_rows != len(ids) or len(ids.order) != len(ids) or len(ids.ends) != len(ids) + 1:
        raise BundleError(f"{folder}/items.arrow: expected {len(ids)} rows as there are ids, found {table.num_rows}")
    listed = (table.schema.metadata or {}).get(_LISTED)
    columns = table.drop_columns([_ID]).replace_schema_metadata(None)
    return Catalog(ids, columns, None if listed is None else int(listed))


def write_vectors(folder: Path, vectors: Vectors) -> None:
    """Write every array of `vectors`. Raises OSError."""
    folder.mkdir(exist_ok=True)
    _save(folder / "item_vectors.npy", vectors.item_vectors)
    for number, part in enumerate(vectors.parts):
        place = folder / "parts" / str(number)
        _save(place / "history_vectors.npy", part.history_vectors)
        if isinstance(part.encoder, OnnxEncoder):
            (place / _GRAPH).write_bytes(part.encoder.graph)
    if vectors.item_encoder is not None:
        place = folder / "item_encoder"
        _save(place / "token_hashes.npy", vectors.item_encoder.token_hashes)
        _save(place / "item_weights.npy", vectors.item_encoder.item_weights)
        for number, weights in enumerate(vectors.item_encoder.history_weights):
            _save(place / f"history_weights_{number}.npy", weights)


def describe(vectors: Vectors) -> dict[str, Any]:
    """Describe vectors for the manifest: everything but their arrays."""
    return {
        "model": vectors.model,
        "dim": vectors.dim,
        "settings": vectors.settings,
        "parts": [encoder_to_dict(part.encoder) for part in vectors.parts],
        "item_encoder": vectors.item_encoder is not None,
    }


def open_vectors(folder: Path, described: dict[str, Any], item_count: int) -> Vectors:
    """Open what write_vectors wrote, memory-mapped. described: what `describe` returned.

    Raises BundleError when counts differ; KeyError, TypeError, OSError or ValueError when a file cannot be read.
    """
    parts = tuple(
        _open_part(folder / "parts" / str(number), encoder) for number, encoder in enumerate(described["parts"])
    )
    vectors = Vectors(
        model=described["model"],
        item_vectors=folders.open_array(folder / "item_vectors.npy"),
        parts=parts,
        item_encoder=_open_item_encoder(folder / "item_encoder", len(parts)) if described["item_encoder"] else None,
        settings=described["settings"],
    )
    if fault := count_fault(vectors, item_count):
        raise BundleError(f"{folder}: {fault}")
    if vectors.dim != described["dim"]:
        raise BundleError(f"{folder}: the manifest says dim {described['dim']}, item_vectors.npy has {vectors.dim}")
    return vectors


def count_fault(vectors: Vectors, item_count: int) -> str | None:
    """Describe the first array whose shape does not fit I items or D = sum of the parts' Dp; None when all fit."""
    dims = [part.history_vectors.shape[-1] for part in vectors.parts]
    wanted = [("item_vectors", vectors.item_vectors, (item_count, sum(dims)))]
    wanted += [
        (f"history_vectors of part {number}", part.history_vectors, (item_count, dim))
        for number, (part, dim) in enumerate(zip(vectors.parts, dims, strict=True))
    ]
    encoder = vectors.item_encoder
    if encoder is not None:
        tokens = len(encoder.token_hashes)
        wanted.append(("item_weights of the item encoder", encoder.item_weights, (tokens, sum(dims))))
        wanted += [
            (f"history_weights {number} of the item encoder", weights, (tokens, dim))
            for number, (weights, dim) in enumerate(zip(encoder.history_weights, dims, strict=True))
        ]
    for name, array, shape in wanted:
        if array.shape != shape or array.dtype != np.float32:
            return f"{name}: expected float32 {shape}, found {array.dtype} {array.shape}"
    return None


def _open_part(folder: Path, described: dict[str, Any]) -> Part:
    if described["encoder"] == OnnxEncoder.name:
        described = {**described, "graph": (folder / _GRAPH).read_bytes()}
    return Part(folders.open_array(folder / "history_vectors.npy"), encoder_from_dict(described))


def _open_item_encoder(folder: Path, part_count: int) -> ItemEncoder:
    return ItemEncoder(
        token_hashes=folders.open_array(folder / "token_hashes.npy"),
        item_weights=folders.open_array(folder / "item_weights.npy"),
        history_weights=tuple(
            folders.open_array(folder / f"history_weights_{number}.npy") for number in range(part_count)
        ),
    )


def _save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def _encode(column: Any) -> Any:
    """Encode texts that repeat, such as categories and brands, as dictionary codes."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    encoded = column.dictionary_encode().unify_dictionaries()
    size = len(encoded.chunk(0).dictionary) if encoded.num_chunks else 0
    return encoded if 2 * size <= len(column) else column
