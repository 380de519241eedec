"""Words as vectors: TF-IDF of words, pairs of neighbors and pieces of words, in any language.

A feature is the 64-bit hash of what it stands for, so that fitting and answering need no common list of words:

- a word, in lower case and without accents; each character of Chinese, Japanese, Thai and other scripts without spaces;
- two words that follow each other, which makes words of those characters;
- four letters of a word of the title, brand or category (`_lan`, `lant`, `ante` …): what inflections and typing
  mistakes leave as it was;
- a whole value of a category level, brand or attribute.

Weights are those of Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988: (1 + log of how
often) times log(items / items that have it), each item's weights of length 1.

Shapes: n items, F features, W distinct words, N words of all items.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from recsys.content.encoders import Encoded, Items
from recsys.content.item_text import Field, fold, read_fields, text_columns
from recsys.data.arrays import Float32, Int64, UInt64
from recsys.data.vocabulary import hash_id

_FEWEST_ITEMS = 2  # a feature of a single item says nothing about others
_PIECE = 4  # letters
_IN_PIECES = ("title", "brand", "category")  # pieces of long descriptions cost much and say little
_FREE_TEXTS = ("title", "description")  # no value of theirs stands for itself
_LEVEL = re.compile(r"\s*[|>/]\s*")  # "Home > Kitchen", "Home|Kitchen"
_LIST = re.compile(r"\s*\|\s*")  # attributes: "red|blue"
_LONGEST_VALUE = 100  # characters: what is longer is prose, not a value
_WEIGHTS = {"word": 1.0, "pair": 0.5, "piece": 0.35, "value": 1.0}
_SALT_OF_PAIRS, _SALT_OF_PIECES = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
_MIX_FIRST, _MIX_SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

# Scripts that write no spaces between words: Thai, Lao, Myanmar, Khmer, Chinese, Japanese; and emoji.
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ALONE += "\U0001f300-\U0001faff\U00020000-\U0003ffff"
_MARKS = "".join(chr(code) for code in range(0x300, 0x2000) if unicodedata.category(chr(code)).startswith("M"))
_WORD = re.compile(rf"[{_ALONE}]|(?:[^\W_{_ALONE}]|[{re.sub(f'[{_ALONE}]', '', _MARKS)}])+")


@dataclass(frozen=True)
class Words:
    """Which features count, and how much: what `fit_words` learned, as plain arrays."""

    columns: tuple[str, ...]  # of the catalog that are read
    hashes: UInt64  # [F], ascending
    rarity: Float32  # [F], what a feature counts
    piece_weight: float = _WEIGHTS["piece"]

    @property
    def dim(self) -> int:
        """F."""
        return len(self.hashes)

    def encode(self, columns: pa.Table) -> sparse.csr_array:
        """The items of a catalog as vectors: sparse float32 [n, F], rows of length 1; empty where nothing is known."""
        found = _side_by_side([block.take(self._known(block)) for block in self._read(columns)])
        at = np.searchsorted(self.hashes, found.hashes).astype(np.int32)
        matrix = sparse.csr_array(
            (found.matrix.data, at[found.matrix.indices], found.matrix.indptr), shape=(columns.num_rows, self.dim)
        )
        return _unit_rows(matrix, self.rarity)

    def _read(self, columns: pa.Table) -> Iterator["_Block"]:
        return _blocks(columns, self.columns, self.piece_weight)

    def _known(self, block: "_Block") -> Int64:
        if not self.dim:
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self.hashes, block.hashes), self.dim - 1)
        return np.flatnonzero(self.hashes[at] == block.hashes)


@dataclass(frozen=True)
class _Block:
    """The features of one kind."""

    hashes: UInt64  # [F]
    matrix: sparse.csr_array  # float32 [n, F]: how often each item has a feature, damped, times the weight of the kind

    @property
    def items(self) -> Int64:
        """How many items have each feature: [F]."""
        return np.bincount(self.matrix.indices, minlength=len(self.hashes))

    def take(self, features: Int64) -> "_Block":
        """Only these features [K]."""
        return _Block(self.hashes[features], self.matrix[:, features])


def fit_words(
    columns: pa.Table, *, most_features: int = 300_000, piece_weight: float = _WEIGHTS["piece"]
) -> tuple[Words, sparse.csr_array]:
    """Learn which features of a catalog count, and encode it: the words, and the vectors of its items [n, F].

    Features of a single item are left out, and beyond most_features those of the fewest items. piece_weight: what a
    piece of a word counts beside a whole one.
    """
    names = tuple(text_columns(columns))
    blocks = _blocks(columns, names, piece_weight)
    of_many = [block.take(np.flatnonzero(block.items >= _FEWEST_ITEMS)) for block in blocks]
    found = _side_by_side(of_many)
    items = found.items
    kept = np.sort(np.argsort(-items, kind="stable")[:most_features])
    rarity = np.log(max(1, columns.num_rows) / np.maximum(items[kept], 1)).astype(np.float32)
    return Words(names, found.hashes[kept], rarity, piece_weight), _unit_rows(found.matrix[:, kept], rarity)


def encode_words(items: Items) -> Encoded:
    """Encode the words of a catalog: see `fit_words`."""
    _, vectors = fit_words(items.columns)
    empty = int((np.diff(vectors.indptr) == 0).sum())
    return Encoded(vectors, items.columns.num_rows, {"no words": empty} if empty else {})


def tokenize(text: str) -> list[str]:
    """The words of a text, folded; single characters where a script writes no spaces."""
    return _WORD.findall(fold(text))


def word_places(field: Field, ids: defaultdict[str, int]) -> tuple[Int64, Int64]:
    """The words of a column in their order [N]: the item and the number of each. New words are numbered in `ids`."""
    words = [[ids[word] for text in texts for word in tokenize(text)] for texts in field.values]
    counts = np.fromiter(map(len, words), np.int64, len(words))
    numbers = np.fromiter(chain.from_iterable(words), np.int64, int(counts.sum()))
    return np.repeat(np.arange(len(words)), counts), numbers


def _blocks(columns: pa.Table, names: tuple[str, ...], piece_weight: float) -> Iterator[_Block]:
    """The features of all kinds, one kind after the other."""
    n = columns.num_rows
    fields = read_fields(columns, names)
    yield _block(_WEIGHTS["value"], *_values([field for field in fields if field.name not in _FREE_TEXTS]), n)
    ids: defaultdict[str, int] = defaultdict(count().__next__)
    read = [(field.name, *word_places(field, ids)) for field in fields]
    hashes = np.fromiter(map(hash_id, ids), np.uint64, len(ids))
    yield _block(_WEIGHTS["word"], *_joined([(owners, hashes[words]) for _, owners, words in read]), n)
    yield _block(_WEIGHTS["pair"], *_joined([_pairs(owners, hashes[words]) for _, owners, words in read]), n)
    in_pieces = [(owners, words) for name, owners, words in read if name in _IN_PIECES]
    if ids and in_pieces:
        yield _pieces(piece_weight, *_joined(in_pieces), list(ids), n)


def _values(fields: list[Field]) -> tuple[Int64, UInt64]:
    """Levels of categories, brands and values of attributes: the item and the hash of each."""
    names = [
        (row, f"{field.name}={fold(part)}")
        for field in fields
        for row, texts in enumerate(field.values)
        for text in texts
        for part in (_LEVEL if field.name == "category" else _LIST).split(text)
        if part and len(part) <= _LONGEST_VALUE
    ]
    hashes = {name: hash_id(name) for name in {name for _, name in names}}
    owners = np.fromiter((row for row, _ in names), np.int64, len(names))
    return owners, np.fromiter((hashes[name] for _, name in names), np.uint64, len(names))


def _pairs(owners: Int64, hashes: UInt64) -> tuple[Int64, UInt64]:
    """Neighbors among the words of the same item."""
    same = owners[1:] == owners[:-1]
    return owners[1:][same], _mix(hashes[:-1][same] * np.uint64(3) + _mix(hashes[1:][same] ^ _SALT_OF_PAIRS))


def _pieces(weight: float, owners: Int64, words: Int64, names: list[str], n: int) -> _Block:
    """The pieces of the words of items: each word's pieces are found once, however many items have it."""
    used, places = np.unique(words, return_inverse=True)
    spelled = [f" {names[word]} " for word in used]
    letters = np.frombuffer("".join(spelled).encode("utf-32-le"), np.uint32).astype(np.uint64)
    of_word = np.repeat(np.arange(len(used)), [len(word) for word in spelled])
    whole = len(letters) - _PIECE + 1
    inside = of_word[:whole] == of_word[_PIECE - 1 :]
    hashes = np.full(whole, _SALT_OF_PIECES)
    for at in range(_PIECE):
        hashes = _mix(hashes ^ letters[at : at + whole])
    distinct, columns = np.unique(hashes[inside], return_inverse=True)
    of_words = sparse.csr_array(
        (np.ones(len(columns), np.float32), (of_word[:whole][inside], columns)), shape=(len(used), len(distinct))
    )
    of_items = sparse.csr_array((np.ones(len(owners), np.float32), (owners, places)), shape=(n, len(used)))
    return _damped(weight, distinct, of_items @ of_words)


def _block(weight: float, owners: Int64, hashes: UInt64, n: int) -> _Block:
    distinct, columns = np.unique(hashes, return_inverse=True)
    ones = np.ones(len(owners), np.float32)
    return _damped(weight, distinct, sparse.csr_array((ones, (owners, columns)), shape=(n, len(distinct))))


def _damped(weight: float, hashes: UInt64, counts: sparse.csr_array) -> _Block:
    counts.data = np.float32(weight) * (1 + np.log(counts.data))
    return _Block(hashes, counts)


def _joined(parts: list[tuple[Int64, Any]]) -> tuple[Int64, Any]:
    owners, values = zip(*parts, strict=True) if parts else ([np.zeros(0, np.int64)], [np.zeros(0, np.uint64)])
    return np.concatenate(owners), np.concatenate(values)


def _side_by_side(blocks: list[_Block]) -> _Block:
    """All features in the order of their hashes."""
    hashes = np.concatenate([block.hashes for block in blocks])
    order = np.argsort(hashes)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    matrix = sparse.hstack([block.matrix for block in blocks], format="csr", dtype=np.float32)
    return _Block(
        hashes[order], sparse.csr_array((matrix.data, rank[matrix.indices], matrix.indptr), shape=matrix.shape)
    )


def _unit_rows(counts: sparse.csr_array, rarity: Float32) -> sparse.csr_array:
    """The vectors [n, F]: counts times rarity, each row of length 1."""
    data = counts.data * rarity[counts.indices]
    n = counts.shape[0]
    owners = np.repeat(np.arange(n), np.diff(counts.indptr))
    lengths = np.sqrt(np.bincount(owners, data.astype(np.float64) ** 2, minlength=n))
    values = (data / np.maximum(lengths, 1e-12)[owners]).astype(np.float32)
    matrix = sparse.csr_array((values, counts.indices, counts.indptr), shape=counts.shape)
    matrix.sort_indices()
    return matrix


def _mix(values: UInt64) -> UInt64:
    """Spread each number over 64 bits (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_FIRST
    values = (values ^ (values >> np.uint64(27))) * _MIX_SECOND
    return np.asarray(values ^ (values >> np.uint64(31)), np.uint64)
