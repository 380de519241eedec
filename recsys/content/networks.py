"""The networks that the configuration names, prepared once for each version of their weights."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from recsys.content.picture_folder import find_picture_weights, read_picture_settings
from recsys.content.text_folder import TOKENIZER, find_graph, read_text_settings
from recsys.data.folder import remove_folder
from recsys.errors import ConfigError
from recsys.imports import resolve

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_FOLDER = "networks"


def text_network(source: Path | None, folder: Path, *, int8: bool) -> Path:
    """The prepared text network of [content] text_network, below `folder`. Preparing it needs torch, once.

    Raises ConfigError when none is configured, or when it is not what it should be.
    """
    if source is None:
        raise ConfigError("[content] text_network is not set; it names the folder of a text network")
    settings = read_text_settings(source)
    files = [path for path in (find_graph(source), *(source / name for name in WEIGHTS)) if path and path.is_file()]
    name = f"text-{_version([*files[:1], source / TOKENIZER], [asdict(settings), int8])}"
    parent = folder / _FOLDER
    if not (parent / name).exists():
        resolve("recsys.content.export:prepare_text")(source, parent, name, int8=int8)
        _remove_others(parent, name)
    return parent / name


def picture_network(source: Path | None, folder: Path) -> Path:
    """The prepared picture network of [content] picture_network, as `text_network`."""
    if source is None:
        raise ConfigError("[content] picture_network is not set; it names the weights of a picture network")
    settings = read_picture_settings(source)
    name = f"picture-{_version([find_picture_weights(source)], [asdict(settings)])}"
    parent = folder / _FOLDER
    if not (parent / name).exists():
        resolve("recsys.content.export:prepare_picture")(source, parent, name)
        _remove_others(parent, name)
    return parent / name


def _version(files: list[Path], settings: list[object]) -> str:
    """What changes with the contents of the files or with the settings."""
    found = hashlib.sha256(json.dumps(settings).encode())
    for path in files:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def _remove_others(parent: Path, name: str) -> None:
    """Remove what was prepared of the same kind before."""
    kind = name.partition("-")[0]
    for old in parent.glob(f"{kind}-*"):
        if old.name != name:
            remove_folder(old)
