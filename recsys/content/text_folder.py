"""What the folder of a text network says of itself: Hugging Face's and sentence-transformers' files, or an ONNX graph.

Only data is read. A folder that names code of its own (`auto_map`) is used without it, or refused by its architecture.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.errors import ConfigError

POOLINGS = ("mean", "cls", "max")
TOKENIZER = "tokenizer.json"
_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_MODULES = ("Transformer", "Pooling", "Normalize")
_LONGEST = 512  # tokens, where the folder does not say
_LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")
_KNOWN_LICENSES = {"Apache License": "Apache-2.0", "MIT License": "MIT", "BSD 3-Clause": "BSD-3-Clause"}


@dataclass(frozen=True)
class TextSettings:
    """How a text becomes one vector."""

    length: int  # tokens that are read; the rest of a text is left out
    pooling: str = "mean"  # of POOLINGS: what is made of the vectors of the tokens
    normalize: bool = True  # to length 1
    lowercase: bool = False  # before the tokenizer


def read_text_settings(folder: Path) -> TextSettings:
    """Read pooling and length from the files of a folder. Raises ConfigError: not there, damaged, or not supported."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; expected one with {TOKENIZER} and the weights of a text network")
    if not (folder / TOKENIZER).is_file():
        raise ConfigError(f"{folder} has no {TOKENIZER}; save the tokenizer of the network in its fast form")
    pooling, normalize = _modules(folder)
    sentence = read_json(folder / "sentence_bert_config.json")
    return TextSettings(_length(folder, sentence), pooling, normalize, bool(sentence.get("do_lower_case", False)))


def find_graph(folder: Path) -> Path | None:
    """The ONNX graph of a folder: model.onnx or the only one there is. Raises ConfigError when there are several."""
    if (folder / "model.onnx").is_file():
        return folder / "model.onnx"
    found = sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ConfigError(f"{folder} has several graphs: {names}; keep one, or name it model.onnx")
    return found[0] if found else None


def find_license(folder: Path) -> str:
    """The name of the license of the weights in a folder, as its files say; `unknown` when they do not."""
    for name in _LICENSE_FILES:
        path = folder / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")[:2000]
            return next((known for words, known in _KNOWN_LICENSES.items() if words in text), f"see {name}")
    return "unknown"


def read_json(path: Path) -> Any:
    """Read a file of settings: an empty object when it is not there. Raises ConfigError when it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _modules(folder: Path) -> tuple[str, bool]:
    """The pooling, and whether vectors are made to length 1. A folder that does not say: mean, and length 1."""
    modules = read_json(folder / "modules.json")
    if not modules:
        return "mean", True
    try:
        kinds = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (TypeError, KeyError):
        raise ConfigError(f"{folder}/modules.json is no list of modules with type and path") from None
    if others := [kind for kind in kinds if kind not in _MODULES]:
        raise ConfigError(f"{folder}: the module {others[0]} is not supported; allowed are {', '.join(_MODULES)}")
    path = folder / kinds.get("Pooling", "1_Pooling") / "config.json"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{folder}/modules.json names a place outside of the folder")
    said = read_json(path)
    modes = [key for key, is_on in said.items() if key.startswith("pooling_mode") and is_on is True]
    if len(modes) > 1 or not set(modes) <= set(_MODES):
        found = ", ".join(modes)
        raise ConfigError(f"{path}: one pooling of {', '.join(_MODES)} is supported, found {found}")
    return _MODES[modes[0]] if modes else "mean", "Normalize" in kinds


def _length(folder: Path, sentence: Any) -> int:
    config = read_json(folder / "config.json")
    offset = int(config.get("pad_token_id") or 0) + 1 if "roberta" in str(config.get("model_type")) else 0
    positions = config.get("max_position_embeddings")
    said = [
        sentence.get("max_seq_length"),
        read_json(folder / "tokenizer_config.json").get("model_max_length"),
        positions - offset if isinstance(positions, int) else None,
    ]
    lengths = [one for one in said if isinstance(one, int) and 0 < one <= 100_000]
    return min([*lengths, _LONGEST])
