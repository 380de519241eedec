import hashlib
import json
import resource
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import tiny
from contracts import long_tailed

from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import assemble
from recsys.config.settings import IndexSettings
from recsys.data import folder as folders
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError, RecsysError
from recsys.index import choice, norm_order
from recsys.index.exact import Items, search_exactly
from recsys.models.vectors import Constant, ItemEncoder, Part, Vectors, WeightedSum

ITEMS = 40


def full_bundle():
    """Two parts, an item encoder, vectors from before the refit, a catalog with every known column."""
    random = np.random.default_rng(0)
    table = {width: random.normal(size=(ITEMS, width)).astype(np.float32) for width in (3, 4, 7)}
    encoder = ItemEncoder(np.array([5, 9], np.uint64), table[7][:2], (table[3][:2], table[4][:2]))
    parts = (Part(table[3], WeightedSum((0.2, 0.5, 1.0), 30.0, 2.0, "unit")), Part(table[4], Constant()))
    catalog = tiny.catalog(
        ITEMS,
        category=[None if row % 9 == 0 else f"shelf {row % 3}" for row in range(ITEMS)],
        price=random.random(ITEMS),
        available=[None, True, False, True] * (ITEMS // 4),
        created_at=pa.array(range(ITEMS), pa.int64()),
    )
    vectors = Vectors("pkg.blend:train", table[7], parts, encoder, {"rank": 7, "half_life_days": 30.0})
    earlier = Vectors("pkg.blend:train", -table[4], (Part(table[4], Constant()),), None, {})
    return bundles.assemble(
        vectors,
        catalog,
        np.arange(ITEMS, dtype=np.float32),
        kinds=tiny.KINDS,
        index_settings=IndexSettings(),
        queries=random.normal(size=(30, 7)).astype(np.float32),
        evaluation=earlier,
    )


def assert_same_vectors(found, expected):
    assert (found.model, found.settings, found.dim) == (expected.model, expected.settings, expected.dim)
    np.testing.assert_array_equal(found.item_vectors, expected.item_vectors)
    assert [part.encoder for part in found.parts] == [part.encoder for part in expected.parts]
    for mine, theirs in zip(found.parts, expected.parts, strict=True):
        np.testing.assert_array_equal(mine.history_vectors, theirs.history_vectors)


def reseal(place):
    """Make size and checksum of every file right again, as somebody would who swaps files by hand."""
    manifest = folders.read_manifest(place)
    for name in manifest["files"]:
        content = (place / name).read_bytes()
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    folders.write_manifest(place, manifest)


def change_manifest(place, **values):
    folders.write_manifest(place, folders.read_manifest(place) | values)


def test_what_is_loaded_is_what_was_saved(tmp_path):
    bundle = full_bundle()
    version = bundles.save(bundle, tmp_path, facts=tiny.FACTS)
    found = bundles.load(tmp_path, version)
    assert found.version == version
    assert found.kinds == bundle.kinds
    assert list(found.catalog.ids) == list(bundle.catalog.ids)
    assert found.catalog.columns.to_pydict() == bundle.catalog.columns.to_pydict()
    assert_same_vectors(found.vectors, bundle.vectors)
    assert_same_vectors(found.evaluation, bundle.evaluation)
    for name in ("popularity", "with_vector", "most_popular"):
        np.testing.assert_array_equal(getattr(found, name), getattr(bundle, name))
    mine, theirs = found.vectors.item_encoder, bundle.vectors.item_encoder
    np.testing.assert_array_equal(mine.token_hashes, theirs.token_hashes)
    np.testing.assert_array_equal(mine.item_weights, theirs.item_weights)
    for mine_weights, their_weights in zip(mine.history_weights, theirs.history_weights, strict=True):
        np.testing.assert_array_equal(mine_weights, their_weights)
    queries = np.ones((2, 7), np.float32)
    np.testing.assert_array_equal(found.index.search(queries, 5)[1], bundle.index.search(queries, 5)[1])


def test_arrays_are_memory_mapped_and_read_only(tmp_path):
    versions.publish(tmp_path, bundles.save(full_bundle(), tmp_path, facts=tiny.FACTS))
    found = bundles.load(tmp_path)
    arrays = [
        found.popularity,
        found.catalog.ids.blob,
        found.catalog.ids.hashes,
        found.vectors.item_encoder.item_weights,
    ]
    for vectors in (found.vectors, found.evaluation):
        arrays += [vectors.item_vectors, *(part.history_vectors for part in vectors.parts)]
    for array in arrays:
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
    # Products of the vectors where FAISS maps them, at an odd byte, take fifty times as long.
    assert np.shares_memory(found.index._items.vectors, found.vectors.item_vectors)


def test_the_version_names_time_model_and_configuration(tmp_path):
    version = bundles.save(full_bundle(), tmp_path, facts=tiny.FACTS)
    stamp, model, digest = version.split("-")
    assert stamp.endswith("Z")
    assert (model, digest) == ("pkg_blend_train", "0123abcd")


def test_the_manifest_tells_where_the_bundle_comes_from(tmp_path):
    version = bundles.save(full_bundle(), tmp_path, facts=tiny.FACTS)
    manifest = json.loads((tmp_path / "bundles" / version / "manifest.json").read_text())
    assert manifest["format"] == bundles.FORMAT
    assert manifest["configuration"] == tiny.FACTS["configuration"]
    assert manifest["metrics"] == tiny.FACTS["metrics"]
    assert manifest["index"] == {
        "kind": "flat",
        "asked": "auto",
        "recall@20": {"plain": 1.0, "filtered": 1.0},
        "reason": "exact search of so few items takes less than a millisecond",
    }
    assert "directions" not in manifest
    assert (manifest["items"], manifest["vectors"]["dim"], manifest["vectors"]["model"]) == (
        ITEMS,
        7,
        "pkg.blend:train",
    )
    assert {"python", "numpy", "faiss-cpu", "torch", "recsys"} <= set(manifest["versions"])


def test_facts_cannot_pass_for_what_the_bundle_says_itself(tmp_path):
    version = bundles.save(tiny.bundle(np.eye(6)), tmp_path, facts=tiny.FACTS | {"format": 99, "items": 0})
    assert bundles.load(tmp_path, version).manifest["format"] == bundles.FORMAT


def test_a_bundle_holds_items_and_nothing_else(tmp_path):
    version = bundles.save(full_bundle(), tmp_path, facts=tiny.FACTS)
    place = tmp_path / "bundles" / version
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert names == {
        "manifest.json",
        "items.arrow",
        *(f"item_ids_{part}.npy" for part in ("blob", "ends", "hashes", "order")),
        "item_vectors.npy",
        "parts/0/history_vectors.npy",
        "parts/1/history_vectors.npy",
        *(
            f"item_encoder/{name}.npy"
            for name in ("token_hashes", "item_weights", "history_weights_0", "history_weights_1")
        ),
        *(f"search/{name}.npy" for name in ("blob", "ends", "offsets", "items", "weights")),
        *(f"search/{name}.npy" for name in ("pieces", "piece_offsets", "piece_words")),
        "popularity.npy",
        "with_vector.npy",
        "index.faiss",
        "evaluation/item_vectors.npy",
        "evaluation/parts/0/history_vectors.npy",
    }


def test_words_and_looks_are_found_again(tmp_path):
    bundle = full_bundle()
    looks = np.eye(len(bundle.catalog), 3, dtype=np.float32)
    found = bundles.load(tmp_path, bundles.save(replace(bundle, looks=looks), tmp_path, facts=tiny.FACTS))
    assert np.array_equal(found.looks, looks)
    item = found.catalog.ids.id_of(2)
    assert found.words is not None
    assert found.search.find(item)[0].tolist() == bundle.search.find(item)[0].tolist()
    assert found.search.find(item)[0][0] == 2


def test_texts_that_repeat_are_dictionary_codes(tmp_path):
    found = bundles.load(tmp_path, bundles.save(full_bundle(), tmp_path, facts=tiny.FACTS))
    assert pa.types.is_dictionary(found.catalog.columns.column("category").type)
    assert pa.types.is_string(found.catalog.columns.column("title").type)


def test_a_catalog_in_pieces_and_one_without_columns_are_saved(tmp_path):
    bundle = tiny.bundle(np.eye(6))
    pieces = pa.concat_tables([pa.table({"brand": ["a", "b"]})] * 3)
    for columns in (pieces, pa.table({"nothing": pa.nulls(6)})):
        changed = replace(bundle, catalog=replace(bundle.catalog, columns=columns))
        found = bundles.load(tmp_path, bundles.save(changed, tmp_path, facts=tiny.FACTS))
        assert found.catalog.columns.to_pydict() == columns.to_pydict()


def test_ids_of_any_kind_come_back(tmp_path):
    ids = ["a", "A", "a ", "a/b", "'\"", "🛒", "ü"]
    bundle = tiny.bundle(np.eye(7))
    bundle = replace(bundle, catalog=replace(bundle.catalog, ids=Vocabulary.from_ids(ids)))
    found = bundles.load(tmp_path, bundles.save(bundle, tmp_path, facts=tiny.FACTS))
    assert found.catalog.ids.rows_of(ids).tolist() == list(range(7))


@pytest.mark.parametrize("listed", [None, 4])
def test_which_items_the_shop_lists_is_saved(tmp_path, listed):
    bundle = tiny.bundle(np.eye(6))
    bundle = replace(bundle, catalog=replace(bundle.catalog, listed=listed))
    found = bundles.load(tmp_path, bundles.save(bundle, tmp_path, facts=tiny.FACTS)).catalog
    assert found.listed == listed
    assert found.columns.equals(bundle.catalog.columns, check_metadata=True)


def test_an_item_encoder_that_knows_no_token_is_saved(tmp_path):
    bundle = tiny.bundle(np.eye(6))
    empty = np.zeros((0, 6), np.float32)
    encoder = ItemEncoder(np.zeros(0, np.uint64), empty, (empty,))
    bundle = replace(bundle, vectors=replace(bundle.vectors, item_encoder=encoder))
    found = bundles.load(tmp_path, bundles.save(bundle, tmp_path, facts=tiny.FACTS))
    item_vectors, _ = found.vectors.item_encoder.encode(pa.table({"title": ["new"]}))
    assert item_vectors.tolist() == [[0] * 6]


def test_vectors_that_do_not_fit_the_catalog_are_refused():
    vectors = tiny.vectors(np.eye(6))
    known = {"kinds": tiny.KINDS, "index_settings": IndexSettings()}
    with pytest.raises(RecsysError, match=r"item_vectors: expected float32 \(5, 6\), found float32 \(6, 6\)"):
        bundles.assemble(vectors, tiny.catalog(5), np.ones(5), **known)
    with pytest.raises(RecsysError, match="popularity is"):
        bundles.assemble(vectors, tiny.catalog(6), np.ones(5), **known)
    wide = replace(vectors, parts=(*vectors.parts, *vectors.parts))
    with pytest.raises(RecsysError, match=r"expected float32 \(6, 12\)"):
        bundles.assemble(wide, tiny.catalog(6), np.ones(6), **known)
    with pytest.raises(RecsysError, match="found float64"):
        bundles.assemble(replace(vectors, item_vectors=np.eye(6)), tiny.catalog(6), np.ones(6), **known)
    with pytest.raises(RecsysError, match="do not fit"):
        bundles.assemble(vectors, tiny.catalog(6), np.ones(6), evaluation=tiny.vectors(np.eye(5)), **known)


def test_no_bundle_is_a_clear_error(tmp_path):
    with pytest.raises(BundleError, match="no bundle has been published"):
        bundles.load(tmp_path)
    with pytest.raises(BundleError, match="never finished"):
        bundles.load(tmp_path, "unknown")


def test_a_current_that_names_nothing_is_a_clear_error(tmp_path):
    (version,) = tiny.saved(tmp_path)
    (tmp_path / "bundles" / version / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        bundles.load(tmp_path)


def test_a_bundle_of_another_format_is_refused(tmp_path):
    (version,) = tiny.saved(tmp_path)
    change_manifest(tmp_path / "bundles" / version, format=2)
    with pytest.raises(BundleError, match="format 2; this version of recsys reads format 1"):
        bundles.load(tmp_path)
    assert versions.list_versions(tmp_path) == []


def test_a_flipped_byte_in_any_file_is_found(tmp_path):
    version = bundles.save(full_bundle(), tmp_path, facts=tiny.FACTS)
    place = tmp_path / "bundles" / version
    for path in sorted(place.rglob("*.*")):
        if path.name == "manifest.json":
            continue
        good = path.read_bytes()
        at = len(good) // 2
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(BundleError, match=rf"{path.name} is damaged: expected sha256"):
            bundles.load(tmp_path, version)
        path.write_bytes(good[:-1])
        with pytest.raises(BundleError, match=rf"{path.name}: expected {len(good)} bytes, found {len(good) - 1} bytes"):
            bundles.load(tmp_path, version)
        path.write_bytes(good)
    assert bundles.load(tmp_path, version).version == version


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("popularity.npy", (5,), r"popularity\.npy: expected \(6,\), found \(5,\)"),
        ("item_vectors.npy", (5, 6), r"item_vectors: expected float32 \(6, 6\), found float32 \(5, 6\)"),
        ("item_vectors.npy", (6, 5), r"item_vectors: expected float32 \(6, 6\), found float32 \(6, 5\)"),
        ("parts/0/history_vectors.npy", (7, 6), r"part 0: expected float32 \(6, 6\), found float32 \(7, 6\)"),
    ],
)
def test_counts_that_do_not_agree_are_refused(tmp_path, name, shape, message):
    (version,) = tiny.saved(tmp_path)
    np.save(tmp_path / "bundles" / version / name, np.ones(shape, np.float32))
    reseal(tmp_path / "bundles" / version)
    with pytest.raises(BundleError, match=message):
        bundles.load(tmp_path)


def test_files_of_another_bundle_are_refused(tmp_path):
    (version,) = tiny.saved(tmp_path)
    other = bundles.save(tiny.bundle(np.eye(7)), tmp_path, facts=tiny.FACTS)
    for name in ("items.arrow", "index.faiss"):
        place = tmp_path / "bundles" / version
        good = (place / name).read_bytes()
        (place / name).write_bytes((tmp_path / "bundles" / other / name).read_bytes())
        reseal(place)
        with pytest.raises(BundleError, match=name):
            bundles.load(tmp_path)
        (place / name).write_bytes(good)
        reseal(place)


@pytest.mark.parametrize(
    "values",
    [
        {"vectors": None},
        {"vectors": {"model": "mf", "dim": 6, "settings": {}, "parts": [{"encoder": "unknown"}], "item_encoder": None}},
        {"kinds": None},
        {"items": 7},
    ],
)
def test_a_manifest_that_lacks_sense_is_refused(tmp_path, values):
    (version,) = tiny.saved(tmp_path)
    change_manifest(tmp_path / "bundles" / version, **values)
    with pytest.raises(BundleError, match=version):
        bundles.load(tmp_path)


def test_a_disk_that_takes_no_more_leaves_the_live_bundle_and_nothing_else(tmp_path):
    (version,) = tiny.saved(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (64, 900, 6000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(RecsysError, match="could not be written"):
                bundles.save(tiny.bundle(np.ones((500, 6))), tmp_path, facts=tiny.FACTS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [path.name for path in (tmp_path / "bundles").glob("*-*")] == [version]
    assert bundles.load(tmp_path).version == version


def test_indexes_that_were_chosen_are_saved_and_answer_the_same_once_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "_SMALL", 0)
    monkeypatch.setattr(norm_order, "_FIRST", 256)
    monkeypatch.setattr(choice, "_milliseconds", lambda search, _: {"mean": 9.0 if "scan" in str(search) else 1.0})
    vectors = long_tailed(3000, 8, seed=3)
    queries = long_tailed(60, 8, seed=4)
    popularity = np.ones(len(vectors), np.float32)
    made = assemble(
        tiny.vectors(vectors),
        tiny.catalog(len(vectors)),
        popularity,
        kinds=tiny.KINDS,
        index_settings=IndexSettings(),
        queries=queries,
    )
    version = bundles.save(made, tmp_path, facts=tiny.FACTS)
    opened = bundles.load(tmp_path, version)
    assert (opened.manifest["index"]["kind"], opened.manifest["directions"]["kind"]) == ("fastscan", "fastscan")
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    for mine, theirs in (
        (opened.index.search(queries, 9), made.index.search(queries, 9)),
        (opened.search_directions(unit, 9), made.search_directions(unit, 9)),
    ):
        np.testing.assert_array_equal(mine[1], theirs[1])
    exact = search_exactly(Items(vectors, cosine=True), unit, 9)[1]
    assert (opened.search_directions(unit, 9)[1] == exact).mean() > 0.97


def test_a_bundle_from_before_there_was_a_file_for_it_knows_which_items_have_a_vector(tmp_path):
    version = bundles.save(tiny.bundle(np.diag([1.0, 0, 1])), tmp_path, facts=tiny.FACTS)
    place = tmp_path / "bundles" / version
    manifest = folders.read_manifest(place)
    del manifest["files"]["with_vector.npy"]
    folders.write_manifest(place, manifest)
    (place / "with_vector.npy").unlink()
    assert bundles.load(tmp_path, version).with_vector.tolist() == [True, False, True]
