"""Search of a catalog by words, as people type them: beginnings of words and typing mistakes are found too.

A word of the question finds the same word; else, or when it is the last, words that begin with it; else words that
differ by one letter, or two in long ones. Candidates for the last are words that share pieces of three letters.

Shapes: I items, W distinct words, N places of words in items, G distinct pieces, P places of pieces in words.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.content.item_text import Field, read_fields
from recsys.content.words import tokenize, word_places
from recsys.data.arrays import Float32, Int32, Int64, UInt64
from recsys.data.vocabulary import hash_id

_ID = "item_id"
FIELDS = {"title": 1.0, "brand": 0.9, "category": 0.7, _ID: 1.0}  # what is searched, and what a word there counts
_MOST_WORDS = 16  # of a question; the rest is left out
_MOST_BEGINNINGS = 200  # words that begin alike, those of the most items
_COMPARED = 30  # words that are compared letter by letter with one of the question
_BEGINNING, _TYPO, _TWO_TYPOS = 0.8, 0.6, 0.4  # what such words count beside the same word
_SHORTEST_TYPO, _SHORTEST_TWO = 4, 8  # letters: shorter words have neighbors that mean something else
_SHARED = 0.25  # the least share of pieces in common


@dataclass(frozen=True)
class CatalogSearch:
    """The words of a catalog and the items that have them, as plain arrays."""

    blob: npt.NDArray[np.uint8]  # all words in UTF-8, in ascending order, concatenated
    ends: Int64  # [W + 1]: word w is blob[ends[w]:ends[w + 1]]
    offsets: Int64  # [W + 1]: word w is of items[offsets[w]:offsets[w + 1]]
    items: Int32  # [N]
    weights: Float32  # [N]: what the word counts in the item, by its column
    pieces: UInt64  # [G], ascending hashes
    piece_offsets: Int64  # [G + 1]: piece g is of piece_words[piece_offsets[g]:piece_offsets[g + 1]]
    piece_words: Int32  # [P]
    count: int  # I

    def find(self, question: str) -> tuple[Int32, Float32]:
        """Items and their scores, best first: rows [n] and scores [n], up to 1.

        An item that has all words of the question comes before one that lacks some.
        """
        words = list(dict.fromkeys(tokenize(question)))[:_MOST_WORDS]
        scores, hits = np.zeros(self.count, np.float32), np.zeros(self.count, np.int32)
        total = 0.0
        for place, word in enumerate(words):
            found = self._alike(word, is_last=place == len(words) - 1)
            best = np.zeros(self.count, np.float32)
            importance = max((self._rarity(at) for at, _ in found), default=float(np.log1p(self.count)))
            for at, quality in found:
                part = slice(self.offsets[at], self.offsets[at + 1])
                rows = self.items[part]
                best[rows] = np.maximum(best[rows], self.weights[part] * np.float32(quality))
            scores += best * np.float32(importance)
            hits += best > 0
            total += importance
        rows = np.flatnonzero(hits).astype(np.int32)
        share = hits[rows] / np.float32(max(len(words), 1))
        values = np.asarray(scores[rows] / np.float32(max(total, 1e-9)) * share, np.float32)
        order = np.argsort(-values, kind="stable")
        return rows[order], values[order]

    def _rarity(self, at: int) -> float:
        return float(np.log1p(self.count / (self.offsets[at + 1] - self.offsets[at])))

    def _word(self, at: int) -> str:
        return self.blob[self.ends[at] : self.ends[at + 1]].tobytes().decode()

    def _place(self, key: bytes) -> int:
        """The first word that is not below a key, in the order of bytes."""
        low, high = 0, len(self.ends) - 1
        while low < high:
            middle = (low + high) // 2
            if self.blob[self.ends[middle] : self.ends[middle + 1]].tobytes() < key:
                low = middle + 1
            else:
                high = middle
        return low

    def _alike(self, word: str, *, is_last: bool) -> list[tuple[int, float]]:
        """The words that a word of the question may mean, and what each counts: 1 for the same."""
        key = word.encode()
        start = self._place(key)
        is_there = start < len(self.ends) - 1 and self._word(start) == word
        if is_there and not is_last:
            return [(start, 1.0)]
        stop = self._place(key + b"\xff")
        others = np.arange(start + is_there, stop)
        sizes = self.offsets[others + 1] - self.offsets[others]
        common = others[np.argsort(-sizes, kind="stable")[:_MOST_BEGINNINGS]]
        found = [(start, 1.0)] if is_there else []
        found += [(int(at), _BEGINNING) for at in common]
        return found or self._misspelled(word)

    def _misspelled(self, word: str) -> list[tuple[int, float]]:
        """Words that differ by a typing mistake or two."""
        if len(word) < _SHORTEST_TYPO:
            return []
        most = 2 if len(word) >= _SHORTEST_TWO else 1
        pieces = np.unique(_pieces(word))
        at = np.minimum(np.searchsorted(self.pieces, pieces), max(0, len(self.pieces) - 1))
        at = at[self.pieces[at] == pieces] if len(self.pieces) else at[:0]
        words = [self.piece_words[self.piece_offsets[g] : self.piece_offsets[g + 1]] for g in at]
        candidates, shared = np.unique(np.concatenate([np.zeros(0, np.int32), *words]), return_counts=True)
        enough = shared >= max(1, _SHARED * len(pieces))
        nearest = candidates[enough][np.argsort(-shared[enough], kind="stable")[:_COMPARED]]
        changes = {int(one): _changes(word, self._word(int(one)), most) for one in nearest}
        return [(one, _TYPO if n == 1 else _TWO_TYPOS) for one, n in changes.items() if n <= most]


def build_search(ids: Sequence[str], columns: pa.Table) -> CatalogSearch:
    """Index the words of a catalog. ids: of its I items; who types an id finds the item."""
    known: defaultdict[str, int] = defaultdict(count().__next__)
    numbers, owners, weights = [], [], []
    for name, weight in FIELDS.items():  # one column after the other: the words of a large catalog are many
        fields = [Field(name, [[one] for one in ids])] if name == _ID else read_fields(columns, [name])
        for field in fields:
            rows, words = word_places(field, known)
            numbers.append(words)
            owners.append(rows)
            weights.append(np.full(len(words), weight, np.float32))
    names = np.array(sorted(known, key=str.encode), object)
    place = np.empty(len(names), np.int64)
    place[[known[name] for name in names]] = np.arange(len(names))
    words, items, counted = place[np.concatenate(numbers)], np.concatenate(owners), np.concatenate(weights)
    order = np.lexsort((-counted, items, words))
    words, items, counted = words[order], items[order], counted[order]
    is_first = np.ones(len(words), np.bool_)
    is_first[1:] = (words[1:] != words[:-1]) | (items[1:] != items[:-1])  # of an item in two columns the larger weight
    encoded = [name.encode() for name in names]
    return CatalogSearch(
        np.frombuffer(b"".join(encoded), np.uint8),
        _ends([len(word) for word in encoded]),
        _ends(np.bincount(words[is_first], minlength=len(names)).tolist()),
        items[is_first].astype(np.int32),
        counted[is_first],
        *_words_of_pieces(names.tolist()),
        count=len(ids),
    )


def _words_of_pieces(names: list[str]) -> tuple[UInt64, Int64, Int32]:
    """The hashes of the pieces of words, and which words have each: `pieces`, `piece_offsets` and `piece_words`."""
    known: defaultdict[str, int] = defaultdict(count().__next__)
    spelled = [[known[piece] for piece in _spelled(name)] for name in names]
    sizes = np.fromiter(map(len, spelled), np.int64, len(spelled))
    numbers = np.fromiter(chain.from_iterable(spelled), np.int64, int(sizes.sum()))
    hashes = np.fromiter(map(hash_id, known), np.uint64, len(known))
    order = np.argsort(hashes)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    places = rank[numbers]
    words = np.repeat(np.arange(len(names), dtype=np.int32), sizes)[np.argsort(places, kind="stable")]
    return hashes[order], _ends(np.bincount(places, minlength=len(known)).tolist()), words


def _ends(sizes: Sequence[int]) -> Int64:
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))]).astype(np.int64)


def _spelled(word: str) -> set[str]:
    """The pieces of three letters; one more at the beginning, where fewest mistakes are made."""
    padded = f" {word} "
    return {padded[at : at + 3] for at in range(len(padded) - 2)}


def _pieces(word: str) -> UInt64:
    return np.array([hash_id(piece) for piece in _spelled(word)], np.uint64)


def _changes(one: str, other: str, most: int) -> int:
    """How many letters to add, leave out, change or swap with their neighbor make one word of the other.

    The distance of optimal string alignment (Damerau, A technique for computer detection and correction of spelling
    errors, 1964). Beyond `most` some larger number.
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, against in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                best = min(best, last[j - 2] + 1)
            row.append(best)
        if min(row) > most:
            return most + 1
    return row[-1]
