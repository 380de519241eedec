"""A text network at work, by onnxruntime: texts to vectors, on the calling thread and without torch.

Shapes: n texts, B texts of one batch, L tokens of the longest of them, H hidden size, F dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from recsys.content.text_folder import TOKENIZER, TextSettings
from recsys.data.arrays import Float32, Int64
from recsys.data.folder import read_manifest, verify
from recsys.errors import ConfigError
from recsys.onnx_session import open_session
from recsys.progress import Progress, no_progress

_TOKENS = 4096  # of a batch, padding included: bounds the memory of a call
_LETTERS = 30  # of a text that are read for each token that counts: more would be cut off anyway

Run = Callable[[Int64, Int64], Float32]
"""Tokens and mask int64 [B, L] -> vectors of the tokens [B, L, H], or of the texts [B, F]."""


@dataclass(frozen=True)
class TextNetwork:
    """Texts to vectors."""

    settings: TextSettings
    tokenizer: Tokenizer
    run: Run

    def encode(self, texts: Sequence[str], progress: Progress = no_progress) -> Float32:
        """The vectors of texts: float32 [n, F]. A text of no token gives zeros; equal texts are encoded once."""
        distinct = list(dict.fromkeys(texts))
        tokens = self._tokens(distinct)
        vectors = self._vectors(tokens, progress)
        place = {text: at for at, text in enumerate(distinct)}
        return np.asarray(vectors[[place[text] for text in texts]], np.float32)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        cut = [text[: self.settings.length * _LETTERS] for text in texts]
        if self.settings.lowercase:
            cut = [text.lower() for text in cut]
        found = self.tokenizer.encode_batch(cut)
        return [one.ids if text.strip() else [] for one, text in zip(found, cut, strict=True)]

    def _vectors(self, tokens: list[list[int]], progress: Progress) -> Float32:
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        found: Float32 | None = None
        stop = len(order)
        while stop > 0:  # from the longest: that one sets how many fit
            start = max(0, stop - max(1, _TOKENS // int(lengths[order[stop - 1]])))
            rows = order[start:stop]
            values = self._batch([tokens[row] for row in rows])
            if found is None:
                found = np.zeros((len(tokens), values.shape[1]), np.float32)
            found[rows] = values
            stop = start
            progress("texts", 1 - stop / len(order))
        return np.zeros((len(tokens), self._batch([[0]]).shape[1]), np.float32) if found is None else found

    def _batch(self, tokens: list[list[int]]) -> Float32:
        width = max(map(len, tokens))
        ids, mask = (np.zeros((len(tokens), width), np.int64) for _ in range(2))
        for row, numbers in enumerate(tokens):
            ids[row, : len(numbers)], mask[row, : len(numbers)] = numbers, 1
        vectors = self.run(ids, mask)
        if vectors.ndim == 3:
            vectors = pool(vectors, mask, self.settings.pooling)
        if self.settings.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors, np.float32)


def pool(vectors: Float32, mask: Int64, pooling: str) -> Float32:
    """The vectors of tokens [B, L, H] as one for each text [B, H]: their mean, the first, or the largest values."""
    if pooling == "cls":
        return np.asarray(vectors[:, 0], np.float32)
    if pooling == "max":
        return np.asarray(np.where(mask[:, :, None] > 0, vectors, -np.inf).max(axis=1), np.float32)
    sums = (vectors * mask[:, :, None]).sum(axis=1)
    return np.asarray(sums / np.maximum(mask.sum(axis=1), 1)[:, None], np.float32)


def open_text_network(folder: Path) -> TextNetwork:
    """Open what `prepare_text` wrote. Raises BundleError for a damaged folder, ConfigError for what cannot be run."""
    verify(folder)
    settings = TextSettings(**read_manifest(folder)["settings"])
    return TextNetwork(settings, open_tokenizer(folder / TOKENIZER, settings.length), graph_runner(folder))


def open_tokenizer(path: Path, length: int) -> Tokenizer:
    """A tokenizer that cuts texts at `length` tokens. Raises ConfigError when the file is none."""
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(length)
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{path} is no tokenizer: {str(error)[:200]}") from error
    return tokenizer


def graph_runner(folder: Path) -> Run:
    """The graph of a folder. Raises ConfigError when it cannot be opened, or does not read tokens."""
    path = folder / "model.onnx"
    try:
        session = open_session(str(path))
    except Exception as error:  # onnxruntime has many kinds of its own
        raise ConfigError(f"{path} cannot be run: {str(error)[:200]}") from error
    names = [one.name for one in session.get_inputs()]
    known = {"input_ids", "attention_mask", "token_type_ids"}
    if "input_ids" not in names or not set(names) <= known:
        raise ConfigError(f"{path} reads {', '.join(names)}; expected input_ids, attention_mask and token_type_ids")
    output = session.get_outputs()[0].name

    def run(ids: Int64, mask: Int64) -> Float32:
        said = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return np.asarray(session.run([output], {name: said[name] for name in names})[0], np.float32)

    return run
