import json
import os
import shutil
import socket
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from command_line import check_here
from tiny import quiet

from jobs.doctor.libraries import check_python
from jobs.doctor.report import CHECKS, doctor, run_check
from jobs.init_file import sample
from jobs.schedule.remembered import Remembered
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.config.settings import IndexSettings
from recsys.data.catalog import Catalog
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import Constant, Part, Vectors
from recsys.store.migrate import open_store
from recsys.store.shop import claim_folder
from recsys.training.libraries import TRIO

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "recsys.toml"
    path.write_text('[store]\nurl = "sqlite:///own.db"\n[storage]\npath = "files"\n[api]\nport = 0\n')
    return path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages stand before the installed ones in every process that the doctor starts."""
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    return folder


def put_package(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


def put_distribution(folder: Path, name: str, version: str) -> None:
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def publish_bundle(folder: Path) -> Path:
    vectors = Vectors(
        model="popularity",
        item_vectors=np.ones((3, 1), np.float32),
        parts=(Part(np.zeros((3, 1), np.float32), Constant()),),
        item_encoder=None,
        settings={},
    )
    catalog = Catalog(Vocabulary.from_ids(["a", "b", "c"]), pa.table({"title": ["A", "B", "C"]}))
    bundle = bundles.assemble(
        vectors, catalog, np.ones(3, np.float32), kinds=("purchase",), index_settings=IndexSettings()
    )
    version = bundles.save(bundle, folder, facts={"config": {}, "config_hash": "00000000"})
    versions.publish(folder, version)
    return folder / "bundles" / version


def test_the_three_versions_are_those_of_the_lock_files() -> None:
    for lock, fbgemm in (("cpu", "fbgemm-gpu-cpu"), ("cuda", "fbgemm-gpu")):
        lines = (ROOT / f"requirements-{lock}.lock").read_text().splitlines()
        wanted = {f"torch=={TRIO['torch']}", f"torchrec=={TRIO['torchrec']}", f"{fbgemm}=={TRIO['fbgemm_gpu']}"}
        assert wanted <= set(lines)


def test_a_sound_installation_has_no_finding_against_it(config: Path) -> None:
    open_store(f"sqlite:///{config.parent / 'own.db'}").close()
    ok, output = doctor(config, progress=quiet)
    assert ok, output.data
    assert [finding["name"] for finding in output.data["findings"]] == list(CHECKS)


def test_a_library_that_cannot_be_loaded_is_named_with_the_right_pair(config: Path, fake: Path) -> None:
    put_package(fake, "fbgemm_gpu", "raise ImportError('undefined symbol: _ZN3c104warnE')")
    for name in ("fbgemm_gpu", "torchrec"):
        finding = run_check(name, config)
        assert not finding.ok
        assert "_ZN3c104warnE" in finding.found
        assert "torch 2.13.0, torchrec 1.8.0, fbgemm_gpu 1.8.0" in finding.allowed
    assert run_check("torch", config).ok


def test_a_library_of_another_version_is_found_though_it_loads(config: Path, fake: Path) -> None:
    put_package(fake, "faiss", "")
    finding = run_check("faiss", config)
    assert not finding.ok
    assert "IndexFlatIP" in finding.found


def test_an_onnxruntime_that_does_not_work_is_found(config: Path, fake: Path) -> None:
    put_package(fake, "onnxruntime", "__version__ = '1'\nget_available_providers = list")
    finding = run_check("onnxruntime", config)
    assert (finding.ok, finding.found) == (False, "1")


def test_a_library_that_kills_its_process_is_a_finding(config: Path, fake: Path) -> None:
    put_package(fake, "torchrec", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    finding = run_check("torchrec", config)
    assert (finding.ok, finding.found) == (False, "its process died of SIGSEGV")


def test_a_wrong_pair_of_versions_is_named(config: Path, fake: Path) -> None:
    put_distribution(fake, "torchrec", "1.4.0")
    finding = run_check("versions", config)
    assert not finding.ok
    assert "torchrec 1.4.0" in finding.found
    assert "torchrec 1.8.0" in finding.allowed
    assert "wrong: torchrec;" in finding.allowed


def test_both_builds_of_fbgemm_side_by_side_are_a_fault(config: Path, fake: Path) -> None:
    put_distribution(fake, "fbgemm-gpu", TRIO["fbgemm_gpu"])
    put_distribution(fake, "fbgemm-gpu-cpu", TRIO["fbgemm_gpu"])
    finding = run_check("versions", config)
    assert not finding.ok
    assert "not both" in finding.allowed
    assert not run_check("builds", config).ok


# Stands for an installation without what trains: nothing of it can be found in the process of the checks.
BASE = """
import importlib.metadata
found = importlib.metadata.version
def version(name):
    if name in ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "optuna"):
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
"""


def test_without_what_trains_nothing_is_wrong_and_nothing_of_it_is_loaded(config: Path, fake: Path) -> None:
    open_store(f"sqlite:///{config.parent / 'own.db'}").close()
    (fake / "sitecustomize.py").write_text(BASE)
    for name in ("torch", "torchrec", "fbgemm_gpu", "optuna", "onnx"):
        put_package(fake, name, "raise ImportError('loaded')")
    ok, output = doctor(config, progress=quiet)
    findings = {finding["name"]: finding for finding in output.data["findings"]}
    assert ok, output.data
    assert output.parts[-1] == "everything is in place"
    absent = [name for name, finding in findings.items() if finding["found"] == "not installed: needed to train only"]
    assert absent == ["versions", "torch", "fbgemm_gpu", "torchrec", "builds", "optuna", "models", "device"]
    assert "pip install --no-deps -r requirements-cpu.lock" in findings["versions"]["allowed"]


def test_an_optuna_that_does_not_load_is_found(config: Path, fake: Path) -> None:
    put_package(fake, "optuna", "")
    finding = run_check("optuna", config)
    assert not finding.ok
    assert "'distributions'" in finding.found


def test_a_package_that_stands_before_one_of_ours_is_found(config: Path, fake: Path) -> None:
    assert run_check("names", config).found == f"recsys, api, jobs, migrations from {ROOT}"
    (fake / "api").mkdir()  # without code it is none: ours is imported
    assert run_check("names", config).ok
    (fake / "api" / "__init__.py").touch()
    finding = run_check("names", config)
    assert (finding.ok, finding.found) == (False, f"api comes from {fake}")
    assert "an environment of recsys's own" in finding.allowed


def test_a_distribution_that_has_a_package_of_one_of_our_names_is_found(config: Path, fake: Path) -> None:
    put_distribution(fake, "cron-jobs", "2.0")
    (fake / "cron_jobs-2.0.dist-info" / "top_level.txt").write_text("jobs\nother\n")
    finding = run_check("names", config)
    assert (finding.ok, finding.found) == (False, "jobs is a package of cron-jobs too")


def test_another_version_of_python_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 10, 13))
    ok, _, allowed = check_python("")
    assert (ok, allowed) == (False, "3.11, 3.12, 3.13")


def test_the_cuda_build_without_its_libraries_is_told_from_a_broken_torch(config: Path, fake: Path) -> None:
    fault = "libcudart.so.13: cannot open shared object file"
    put_package(fake, "torch", f"raise ImportError('{fault}')")
    assert "CUDA" not in run_check("torch", config).allowed
    (fake / "torch" / "version.py").write_text("from typing import Optional\ncuda: Optional[str] = '13.0'\n")
    put_distribution(fake, "fbgemm-gpu-cpu", TRIO["fbgemm_gpu"])
    finding = run_check("torch", config)
    assert not finding.ok
    assert fault in finding.found
    assert "CUDA 13.0 needs NVIDIA's libraries" in finding.allowed
    assert "requirements-cuda.lock" in finding.allowed
    builds = run_check("builds", config)
    assert (builds.ok, builds.found) == (False, "torch for CUDA 13.0, fbgemm-gpu-cpu")


def test_a_wrong_configuration_is_shown_and_what_asks_it_is_not_checked(config: Path) -> None:
    config.write_text("[stor]\nurl = 'x'\n")
    ok, output = doctor(config, progress=quiet)
    findings = {finding["name"]: finding for finding in output.data["findings"]}
    assert not ok
    assert "stor: unknown key" in findings["configuration"]["found"]
    asking = {name for name, check in CHECKS.items() if "configuration" in check.needs}
    for name, finding in findings.items():
        if name in asking:
            assert finding == {"name": name, "ok": None, "found": "not checked", "allowed": "first: configuration"}
        else:
            assert finding["ok"] is (name != "configuration")
    assert output.parts[-1] == f"wrong: configuration; not checked: {', '.join(n for n in CHECKS if n in asking)}"


def test_a_library_that_does_not_load_is_said_once(config: Path, fake: Path) -> None:
    open_store(f"sqlite:///{config.parent / 'own.db'}").close()
    put_package(fake, "torch", "raise ImportError('libtorch is broken')")
    ok, output = doctor(config, progress=quiet)
    findings = {finding["name"]: finding for finding in output.data["findings"]}
    assert not ok
    assert [name for name, finding in findings.items() if finding["ok"] is False] == ["torch"]
    assert [name for name, finding in findings.items() if "libtorch is broken" in finding["found"]] == ["torch"]
    assert findings["torchrec"]["allowed"] == "first: torch"
    assert output.parts[-1] == "wrong: torch; not checked: fbgemm_gpu, torchrec, models, device"


@pytest.mark.parametrize("table", ["[training]\nmodels", "[models.auto]\ncandidates"])
def test_a_model_that_nobody_knows_is_found(config: Path, table: str) -> None:
    config.write_text(f"{table} = ['mff']\n")
    finding = check_here("models", config)
    assert not finding.ok
    key = table.replace("\n", " ")
    assert f"{key}: unknown name 'mff'; known: popularity, mf, two_tower, sequence" in finding.found


def test_a_store_without_tables_or_with_old_ones_needs_init_and_is_not_touched(config: Path) -> None:
    finding = check_here("store", config)
    assert not finding.ok
    assert "recsys init" in finding.allowed
    assert not (config.parent / "own.db").exists()
    (config.parent / "own.db").touch()
    finding = check_here("store", config)
    assert not finding.ok
    assert "own tables are not there yet" in finding.found


def test_a_store_that_does_not_answer_is_named_without_its_password(config: Path) -> None:
    config.write_text('[store]\nurl = "postgresql://reader:verysecret@127.0.0.1:1/shop"\n')
    finding = check_here("store", config)
    assert not finding.ok
    assert "127.0.0.1:1" in finding.found
    assert "verysecret" not in json.dumps(vars(finding))


def test_the_queries_of_the_source_are_tried_and_their_columns_compared(config: Path) -> None:
    assert "own tables" in check_here("source", config).found
    shop = config.parent / "shop"
    sample(shop, users=20, items=20, events=200, seed=0, progress=lambda *_: None)
    settings = shop / "recsys.toml"
    assert check_here("source", settings).found.endswith("shop.db: interactions, items, users")
    settings.write_text(settings.read_text().replace("SELECT id AS user_id, ", "SELECT "))
    finding = check_here("source", settings)
    assert (finding.ok, finding.allowed) == (False, "also user_id")
    settings.write_text(settings.read_text().replace("FROM customers", "FROM nobody"))
    finding = check_here("source", settings)
    assert not finding.ok
    assert "nobody" in finding.found


def test_the_live_bundle_is_loaded_and_a_flipped_byte_found(config: Path) -> None:
    assert check_here("bundle", config).found == "none published yet"
    place = publish_bundle(config.parent / "files")
    finding = check_here("bundle", config)
    assert finding.ok
    assert finding.found == f"{place.name}, 3 items"
    damaged = next(place.rglob("item_vectors.npy"))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    finding = check_here("bundle", config)
    assert not finding.ok
    assert "item_vectors.npy" in finding.found


def test_a_manifest_that_is_gone_is_no_unpublished_bundle(config: Path) -> None:
    (publish_bundle(config.parent / "files") / "manifest.json").unlink()
    assert not check_here("bundle", config).ok


def test_a_folder_that_nobody_can_write_to_is_a_fault(config: Path) -> None:
    config.write_text('[storage]\npath = "/proc/recsys"\n')
    finding = check_here("folder", config)
    assert not finding.ok
    assert "/proc cannot be written to" in finding.found


def test_an_unknown_zone_is_a_fault(config: Path) -> None:
    config.write_text('[source]\ntimezone = "Europe/Entenhausen"\n')
    finding = check_here("clock", config)
    assert not finding.ok
    assert "Entenhausen" in finding.found


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")  # noqa: PTH110
def test_asking_for_a_gpu_that_is_not_there_is_a_fault(config: Path) -> None:
    config.write_text('[training]\ndevice = "cuda"\n')
    finding = check_here("device", config)
    assert not finding.ok
    assert "no GPU" in finding.found


def test_a_store_of_a_newer_program_is_told_from_one_that_waits_for_its_migration(config: Path) -> None:
    with closing(open_store(f"sqlite:///{config.parent / 'own.db'}")) as store, store.writing() as connection:
        connection.execute(sa.text("UPDATE recsys_migrations SET version_num = '9999'"))
    finding = run_check("store", config)
    assert not finding.ok
    assert "is too old" in finding.found
    assert "recsys init" not in finding.allowed


def test_a_folder_of_another_shop_is_found(config: Path) -> None:
    for name in ("own", "other"):
        with closing(open_store(f"sqlite:///{config.parent / name}.db")) as store:
            if name == "other":
                claim_folder(store, config.parent / "files", None)
    finding = run_check("shop", config)
    assert not finding.ok
    assert "belongs to another shop" in finding.found
    assert "recsys bundles claim" in finding.allowed


def test_a_file_that_is_missing_from_the_extract_is_found(config: Path, trained_once: Path) -> None:
    assert run_check("extract", config).found == "none written yet"
    shutil.copytree(trained_once / "recsys-data" / "extract", config.parent / "files" / "extract")
    assert run_check("extract", config).ok
    next((config.parent / "files" / "extract").glob("*/items.npy")).unlink()
    finding = run_check("extract", config)
    assert not finding.ok
    assert "items.npy" in finding.found
    assert "recsys train" in finding.allowed


def test_room_for_less_than_the_last_night_needed_is_found(config: Path) -> None:
    assert "no night has run here" in run_check("needs", config).found
    for memory, ok in ((1, True), (10**15, False)):
        Remembered(config.parent / "files").put("needs", "train", {"memory": memory, "disk": 1})
        assert run_check("needs", config).ok is ok


def test_a_receiver_of_alerts_that_does_not_answer_is_found_without_its_address(config: Path) -> None:
    assert run_check("alerts", config).ok
    for keys in ("webhook_url = 'http://127.0.0.1:1/s3cr3t'", "email_to = ['a@example.com']\nsmtp_port = 1"):
        config.write_text(f"[alerts]\n{keys}\n")
        finding = run_check("alerts", config)
        assert not finding.ok
        assert finding.found.endswith("cannot be reached: ConnectionRefusedError")
        assert "s3cr3t" not in f"{finding}"


def test_a_port_that_another_program_has_is_found(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config.write_text(f"[api]\nport = {taken.getsockname()[1]}\n")
        taken.settimeout(60)

        def hang_up() -> None:
            taken.accept()[0].close()

        threading.Thread(target=hang_up).start()
        finding = run_check("port", config)
    assert not finding.ok
    assert "Address already in use" in finding.found


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_an_account_that_may_do_anything_is_found(config: Path, database: str) -> None:
    config.write_text(f"[source]\nurl = '{database}'\n")
    finding = run_check("reader", config)
    assert not finding.ok
    assert finding.found.startswith("the account may ")
    assert "GRANT SELECT" in finding.allowed
