"""Words as vectors: what is alike, in any language, and that a posted item is encoded as in training."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.content.item_text import LONGEST, full_texts
from recsys.content.words import Words, fit_words, tokenize

SHOP = pa.table(
    {
        "title": [
            "Paper lantern red",
            "Paper lanterns",
            "Café LATTE cup",
            "cafe latte mug",
            None,
            "紙のランタン",
            "赤い紙のランタン",
        ],
        "category": ["Home > Lights", "home|lights", "Kitchen", "Kitchen", "Kitchen", None, None],
        "brand": ["Nimbus", "Nimbus", "Vento", None, None, None, "Nimbus"],
        "color": [["red", "white"], ["red"], None, None, ["blue"], None, ["red"]],
        "image_url": ["https://shop.example/same.jpg"] * 7,
        "price": [1.0] * 7,
    }
)


def cosines(columns: pa.Table) -> np.ndarray:
    _, vectors = fit_words(columns)
    return (vectors @ vectors.T).toarray()


def titles(*texts: str) -> pa.Table:
    return pa.table({"title": list(texts)})


def test_items_with_common_words_are_alike_and_others_are_not() -> None:
    alike = cosines(SHOP)
    assert np.allclose(alike.diagonal(), 1)
    assert alike[0, 2] == alike[0, 3] == 0
    np.fill_diagonal(alike, 0)
    nearest = alike.argmax(axis=1)
    assert (nearest[0], nearest[2], nearest[5]) == (1, 3, 6)  # the last in a script without spaces


def test_a_posted_item_has_the_vector_of_training() -> None:
    words, vectors = fit_words(SHOP)
    for row in range(SHOP.num_rows):
        posted = SHOP.slice(row, 1)
        assert abs(words.encode(posted) - vectors[row : row + 1]).max() < 1e-6
    coded = SHOP.set_column(0, "title", SHOP.column("title").dictionary_encode())
    assert abs(words.encode(coded) - vectors).max() == 0


def test_plain_arrays_are_all_that_a_bundle_has_to_keep() -> None:
    words, vectors = fit_words(SHOP)
    again = Words(tuple(words.columns), words.hashes.copy(), words.rarity.copy())
    assert abs(again.encode(SHOP) - vectors).max() == 0
    assert (np.diff(words.hashes.astype(object)) > 0).all()


def test_accents_case_and_inflections_do_not_part_words() -> None:
    alike = cosines(titles("CAFÉ crème", "cafe creme", "Lanterne", "lanternes", "Kettle"))
    assert alike[0, 1] == pytest.approx(1)
    assert alike[2, 3] > 0.5
    assert alike[2, 4] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Лампа для кухни", ["лампа", "для", "кухни"]),
        ("हिन्दी में कागज", ["हिन्दी", "में", "कागज"]),
        ("مصباح ورقي", ["مصباح", "ورقي"]),
        ("紙の灯", ["紙", "の", "灯"]),
        ("한국어 등불", ["한국어", "등불"]),
        ("Ünïcode_straße 🎄5V", ["unicode", "strasse", "🎄", "5v"]),
        ("\u200b … !?", []),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


def test_markup_is_no_word() -> None:
    page = '<style>.a {color: red}</style><p class="b">Tom &amp; Jerry</p><!-- hidden --> 3 < 5'
    assert full_texts(pa.table({"description": [page], "title": ["Mug"]})) == ["Mug. Tom & Jerry 3 < 5"]


def test_a_text_of_a_megabyte_is_read_to_its_limit() -> None:
    words, _ = fit_words(titles("lamp", "lamp cup", "cup"))
    long = words.encode(titles("lamp " + "x" * LONGEST + " cup", "<" * 1_000_000, "&" * 1_000_000))
    assert long.nnz == words.encode(titles("lamp")).nnz


def test_catalogs_that_say_nothing() -> None:
    nothing = pa.table({"price": [1.0, 2.0]})
    words, vectors = fit_words(nothing)
    assert words.dim == 0
    assert vectors.shape == (2, 0)
    assert words.encode(SHOP).shape == (7, 0)
    known, _ = fit_words(SHOP)
    assert known.encode(nothing).nnz == 0
    assert known.encode(SHOP.slice(0, 0)).shape == (0, known.dim)
    assert fit_words(SHOP.slice(0, 0))[1].shape == (0, 0)


def test_the_most_common_features_are_kept() -> None:
    words, vectors = fit_words(titles("lamp cup", "lamp cup", "lamp"), most_features=3)
    assert words.dim == 3
    assert vectors.shape == (3, 3)
