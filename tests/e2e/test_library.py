"""The engine as a library: what `import recsys` offers is documented, loads when it is used, and answers."""

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from road import QUICK
from tiny import quiet

import recsys
from jobs.init_file import sample
from jobs.train import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "shop"
    sample(folder, users=300, items=150, events=6_000, seed=2, progress=quiet)
    with (folder / "recsys.toml").open("a") as settings:
        settings.write(QUICK + '[training]\nmodels = ["mf"]\n')
    return folder


def test_the_page_documents_every_name_and_each_can_be_loaded() -> None:
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)", text, re.MULTILINE)
    assert sorted(documented) == sorted(recsys.__all__)
    assert len(documented) == 10
    for name in documented:
        assert callable(getattr(recsys, name))
        assert getattr(recsys, name).__doc__, name
    with pytest.raises(AttributeError, match="it has Query, Vectors"):
        _ = recsys.nothing


def test_importing_it_loads_no_library_and_answering_no_torch() -> None:
    program = """
import sys, recsys
assert not {"numpy", "pyarrow", "pydantic", "sqlalchemy"} & set(sys.modules)
recsys.recommend
assert "faiss" in sys.modules and "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_trained_in_memory_answers_as_the_published_bundle_does(shop: Path) -> None:
    config = recsys.load_config(shop / "recsys.toml")
    query = recsys.Query(user_id="1003", k=5, fields=["title"])
    with closing(recsys.open_store(config)) as store:
        dataset = recsys.load_dataset(config, store)
        candidates = recsys.evaluate(config, dataset)
        assert [candidate.name for candidate in candidates] == ["popularity", "mf"]
        bundle = recsys.train(config, dataset, candidates)
        assert bundle.vectors.item_vectors.shape[0] == len(dataset.catalog) == 150
        snapshot = recsys.open_snapshot(config, store, bundle, dataset)
        ours = recsys.recommend(config, store, snapshot, query)
        alike = recsys.similar(config, store, snapshot, ours.hits[0]["item_id"])
        assert not list(shop.glob("recsys-data/bundles/*"))

        train(config, progress=quiet)
        live = recsys.open_snapshot(config, store)
        theirs = recsys.recommend(config, store, live, query)
        assert (ours.bundle, theirs.bundle) == ("", live.bundle.version)
        assert [hit["item_id"] for hit in ours.hits] == [hit["item_id"] for hit in theirs.hits]
        assert {hit["reason"] for hit in ours.hits} == {"personal"}
        assert alike.hits == recsys.similar(config, store, live, ours.hits[0]["item_id"]).hits


def test_a_bundle_without_its_dataset_is_refused(shop: Path) -> None:
    config = recsys.load_config(shop / "recsys.toml")
    with closing(recsys.open_store(config)) as store:
        dataset = recsys.load_dataset(config, store)
        with pytest.raises(ValueError, match="together with its dataset"):
            recsys.open_snapshot(config, store, None, dataset)
