"""An index by a dotted name is trained, published, served and judged; one that cannot be opened is refused."""

import sys

import pytest
from documented import code_in
from road import configured
from serving import Server
from tiny import quiet

from jobs.commands import publish, rollback
from jobs.train import train
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.errors import BundleError
from recsys.index.flat import FlatIndex
from recsys.store.migrate import open_store
from recsys.store.runs import list_runs

HNSW = "hnsw:HNSW"


@pytest.fixture
def hnsw(tmp_path, monkeypatch):
    """The file of the index that docs/extending.md shows, where Python finds it."""
    path = tmp_path / "own" / "hnsw.py"
    path.parent.mkdir()
    path.write_text(code_in("extending.md", "## An index"))
    monkeypatch.syspath_prepend(path.parent)
    yield path
    sys.modules.pop("hnsw", None)


def live(folder):
    return [version.version for version in versions.list_versions(folder) if version.live]


def test_an_index_by_dotted_name_is_trained_published_served_and_judged_the_night_after(shop, hnsw):
    config = configured(shop, RECSYS_INDEX__KIND=HNSW)
    first = train(config, progress=quiet).data["bundle"]
    found = bundles.load(config.storage.path)
    assert found.version == first
    assert found.manifest["index"]["kind"] == HNSW
    assert type(found.index).__name__ == "HnswIndex"
    server = Server(shop, PYTHONPATH=f"{hnsw.parent}:{':'.join(sys.path)}")
    try:
        server.wait()
        status = server.http.get("/v1/status").json()
        assert status["serving"]["version"] == first
        assert status["serving"]["index"]["kind"] == HNSW
        answer = server.user("1001", k=5)
        assert len(answer["hits"]) == 5
    finally:
        server.kill()
    second = train(config, progress=quiet, full=True)
    assert second.data["bundle"] != first
    assert second.data["gate"]["live_users"] > 0
    assert "live_skipped" not in second.data["gate"]


def test_a_bundle_whose_index_is_gone_is_refused_and_the_night_says_that_it_was_not_compared(shop, hnsw):
    own, plain = configured(shop, RECSYS_INDEX__KIND=HNSW), configured(shop)
    folder = own.storage.path
    first = train(own, progress=quiet).data["bundle"]
    second = train(plain, progress=quiet)
    assert "live_skipped" not in second.data["gate"]
    hnsw.unlink()
    sys.modules.pop("hnsw")
    told = r"index.faiss needs the index kind 'hnsw:HNSW': 'hnsw:HNSW' cannot be loaded"
    with pytest.raises(BundleError, match=told):
        publish(plain, version=first, progress=quiet)
    with pytest.raises(BundleError, match=told):
        rollback(plain, progress=quiet)
    assert live(folder) == [second.data["bundle"]]
    assert versions.pinned(folder) is None
    (folder / "bundles" / "CURRENT").write_text(f"{first}\n")
    third = train(plain, progress=quiet)
    assert isinstance(bundles.load(folder).index, FlatIndex)
    assert live(folder) == [third.data["bundle"]]
    (run, *_) = list_runs(open_store(plain.store.url, plain.store.table_prefix), 1)
    for gate in (third.data["gate"], run.metrics["gate"], next(s for s in run.steps if s["name"] == "gate")["counts"]):
        assert "cannot be opened" in gate["live_skipped"]
    assert any(str(part).startswith("warning: not compared with the live bundle: ") for part in third.parts)
