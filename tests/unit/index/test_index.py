import resource

import faiss
import numpy as np
import pytest
from contracts import IndexContract, long_tailed
from documented import code_in

from recsys.data.ragged import Ragged
from recsys.errors import BundleError, ConfigError, RecsysError
from recsys.index import flat, registry
from recsys.index.flat import FlatIndex
from recsys.index.registry import INDEXES, IndexKind


@pytest.fixture(scope="module")
def hnsw(tmp_path_factory):
    """The index that docs/extending.md shows, where Python finds it."""
    folder = tmp_path_factory.mktemp("hnsw")
    (folder / "hnsw.py").write_text(code_in("extending.md", "## An index"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.mark.parametrize("kind", INDEXES)
class TestIndexes(IndexContract):
    pass


@pytest.mark.usefixtures("hnsw")
@pytest.mark.parametrize("kind", ["hnsw:HNSW"])
class TestTheDocumentedIndex(IndexContract):
    pass


class ForgetfulIndex(FlatIndex):
    """Finds the best items but for the very best."""

    def search(self, queries, k, *, allowed=None, excluded=None):
        scores, rows = super().search(queries, k + 1, allowed=allowed, excluded=excluded)
        return scores[:, 1:], rows[:, 1:]


def build_forgetful(item_vectors):
    found = faiss.IndexFlatIP(item_vectors.shape[1])
    found.add(item_vectors)
    return ForgetfulIndex(found)


def load_broken(path, item_vectors):
    raise RuntimeError("no such thing")


FORGETFUL = IndexKind(build_forgetful, flat.load)
BROKEN = IndexKind(build_forgetful, load_broken)


def test_recall_is_measured_with_and_without_a_filter():
    items, queries = long_tailed(500, 8, seed=5), long_tailed(40, 8, seed=6)
    recall = registry.measure_recall(build_forgetful(items), items, queries)
    assert set(recall) == {"plain", "filtered"}
    for share in recall.values():
        assert share == pytest.approx(19 / 20, abs=0.01)


def test_an_index_below_the_asked_recall_gives_way_to_the_exact_one(monkeypatch):
    monkeypatch.setitem(INDEXES, "forgetful", "test_index:FORGETFUL")
    items, queries = long_tailed(500, 8, seed=5), long_tailed(40, 8, seed=6)
    built = registry.build("forgetful", items, queries, min_recall=0.99)
    assert (type(built.index), built.kind, built.recall) == (FlatIndex, "flat", {"plain": 1.0, "filtered": 1.0})
    built = registry.build("forgetful", items, queries, min_recall=0.9)
    assert (type(built.index), built.kind) == (ForgetfulIndex, "forgetful")
    assert built.recall["plain"] < 1


def test_a_dotted_name_works_as_a_kind_and_an_unknown_one_lists_the_known():
    items = long_tailed(50, 4, seed=1)
    assert registry.build("test_index:FORGETFUL", items, items, min_recall=0.1).kind == "test_index:FORGETFUL"
    with pytest.raises(ConfigError, match=r"'hsnw'.*known: flat"):
        registry.build("hsnw", items, items, min_recall=0.99)


def test_a_dotted_name_of_anything_else_is_refused_and_never_called(tmp_path):
    items = long_tailed(50, 4, seed=1)
    with pytest.raises(ConfigError, match=r"'test_index:build_forgetful' is a function; expected a .*IndexKind"):
        registry.build("test_index:build_forgetful", items, items, min_recall=0.1)
    with pytest.raises(BundleError, match=r"kind 'numpy:load'.* is a function; expected a .*IndexKind"):
        registry.load(tmp_path / "index.faiss", "numpy:load", items)


def test_an_index_that_its_kind_cannot_open_is_a_bundle_error(tmp_path):
    items = long_tailed(50, 4, seed=1)
    with pytest.raises(BundleError, match=r"'test_index:BROKEN': no such thing"):
        registry.load(tmp_path / "index.faiss", "test_index:BROKEN", items)
    with pytest.raises(BundleError, match=r"kind 'not_installed:HNSW'.*cannot be loaded"):
        registry.load(tmp_path / "index.faiss", "not_installed:HNSW", items)


def test_more_near_ties_than_faiss_was_asked_for_are_still_put_in_order():
    items = np.ones((1000, 4), np.float32)
    items[500:] = 2
    items[[501, 777]] = 3
    scores, rows = flat.build(items).search(np.ones((1, 4), np.float32), 5)
    assert rows.tolist() == [[501, 777, 500, 502, 503]]
    assert scores.tolist() == [[12, 12, 8, 8, 8]]


def test_one_query_gets_nothing_that_a_filter_of_few_items_forbids():
    vectors = np.arange(1, 201, dtype=np.float32)[:, None]
    allowed = np.arange(200) < 190  # most: such a filter is applied to what FAISS has found
    _, rows = flat.build(vectors).search(np.ones((1, 1), np.float32), 5, allowed=allowed)
    assert rows.tolist() == [[189, 188, 187, 186, 185]]


def test_long_vectors_do_not_blur_the_order_of_short_ones():
    items = np.zeros((300, 2), np.float32)
    items[:, 0] = np.linspace(1, 1 + 1e-5, 300)
    items[0] = [-1e6, 1e6]
    for copies in (1, 9):  # asked one by one, and in a block
        _, rows = flat.build(items).search(np.repeat(np.array([[1, 0]], np.float32), copies, axis=0), 10)
        right = np.argsort(-items[:, 0], kind="stable")[:10]
        assert (rows == right).all()


def test_vectors_that_are_not_finite_are_refused():
    items = np.ones((10, 4), np.float32)
    items[3, 2] = np.nan
    with pytest.raises(RecsysError, match="not finite"):
        flat.build(items)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": np.ones((2, 5), np.float32)}, r"allowed is \[B, 4\]"),
        ({"k": 0}, "k is 0"),
        ({"allowed": np.ones(9, np.bool_)}, r"bool \[10\]"),
        ({"allowed": np.ones(10, np.int8)}, r"bool \[10\]"),
        ({"excluded": Ragged(np.array([0, 0]), np.zeros(0, np.int32))}, "for 1 queries, but 2 came"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    found = flat.build(np.ones((10, 4), np.float32))
    for copies in (1, 5):
        asked = {"queries": np.ones((2 * copies, 4), np.float32), "k": 3} | arguments
        if "excluded" in arguments and copies > 1:
            continue
        with pytest.raises(ValueError, match=message):
            found.search(asked.pop("queries"), asked.pop("k"), **asked)


def test_a_file_that_is_no_index_or_one_of_another_type_is_named(tmp_path):
    (tmp_path / "text").write_text("no index")
    vectors = np.ones((3, 4), np.float32)
    with pytest.raises(BundleError, match="text is not an index"):
        registry.load(tmp_path / "text", "flat", vectors)
    faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "l2"))
    with pytest.raises(BundleError, match=r"IndexFlatL2; expected an IndexFlatIP"):
        registry.load(tmp_path / "l2", "flat", vectors)


def test_a_disk_that_takes_no_more_is_an_os_error(tmp_path):
    found = flat.build(np.ones((1000, 64), np.float32))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="index"):
            found.write(tmp_path / "index.faiss")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
