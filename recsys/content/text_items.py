"""Texts of a catalog by a text network: what is new is encoded, the rest is known from the nights before."""

import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from recsys.content.encoders import Encoded, Items
from recsys.content.item_text import full_texts
from recsys.content.networks import text_network
from recsys.content.text_network import Run, open_text_network
from recsys.content.vector_cache import cached
from recsys.data.arrays import Float32
from recsys.data.folder import read_manifest
from recsys.imports import resolve

_TRIALS = 20


def encode_texts(items: Items) -> Encoded:
    """Encode everything that the catalog says in words. Raises ConfigError as `text_network`."""
    prepared = text_network(items.settings.text_network, items.folder, int8=items.settings.int8)
    network, texts = open_text_network(prepared), full_texts(items.columns)
    if items.settings.text_network is not None and (run := _on_gpu(items.settings.text_network)) is not None:
        network = replace(network, run=run)

    def encode(block: list[int]) -> list[Float32 | None]:
        return list(network.encode([texts[at] for at in block], items.progress))

    vectors, new = cached(items.folder / "vectors" / prepared.name, texts, encode)
    empty = int((~vectors.any(axis=1)).sum()) if vectors.size else len(texts)
    problems = {"no text": empty} if empty else {}
    return Encoded(np.asarray(vectors), new, problems, weights=read_manifest(prepared)["weights"])


def _on_gpu(source: Path) -> Run | None:
    """The network on a GPU; None where there is none, or no torch."""
    found: Run | None = resolve("recsys.content.gpu:gpu_runner")(source) if find_spec("torch") else None
    return found


def measure(items: Items) -> tuple[float, dict[str, Any]]:
    """Milliseconds for a title on one thread, and what the weights are. Raises ConfigError as `text_network`."""
    prepared = text_network(items.settings.text_network, items.folder, int8=items.settings.int8)
    network = open_text_network(prepared)
    network.encode(["first"])
    began = time.perf_counter()
    for at in range(_TRIALS):
        network.encode([f"Paper lantern, red, {at} pieces"])
    return (time.perf_counter() - began) / _TRIALS * 1e3, read_manifest(prepared)["weights"]
