import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import folder as folders
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError, RecsysError


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    """What was verified is remembered in the temporary folder: each test has its own."""
    folder = tmp_path_factory.mktemp("machine")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def two_files(folder):
    (folder / "part").mkdir()
    (folder / "a.txt").write_text("alpha")
    (folder / "part" / "b.bin").write_bytes(b"\x00\x01\x02")
    return {"answer": 42}


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def test_a_folder_is_written_with_the_size_and_checksum_of_every_file(tmp_path):
    folder = folders.write_folder(tmp_path, "one", two_files)
    assert folder == tmp_path / "one"
    assert folders.read_manifest(folder) == {
        "answer": 42,
        "files": {
            "a.txt": {"size": 5, "sha256": hashlib.sha256(b"alpha").hexdigest()},
            "part/b.bin": {"size": 3, "sha256": hashlib.sha256(b"\x00\x01\x02").hexdigest()},
        },
    }
    folders.verify(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_who_waits_for_a_folder_is_asked_and_may_give_up(tmp_path):
    def gives_up():
        raise KeyError("waited")

    with (
        folders.exclusive_lock(tmp_path),
        pytest.raises(KeyError, match="waited"),
        folders.exclusive_lock(tmp_path, gives_up),
    ):
        raise AssertionError("two were in there")
    with folders.exclusive_lock(tmp_path), folders.exclusive_lock(tmp_path, lambda: False) as is_ours:
        assert not is_ours
    with folders.exclusive_lock(tmp_path, gives_up) as is_ours:
        assert is_ours


def test_who_waits_for_a_folder_comes_in_when_the_other_goes(tmp_path):
    with ExitStack() as other:
        other.enter_context(folders.exclusive_lock(tmp_path))
        with (
            folders.exclusive_lock(tmp_path, lambda: other.close() is None),
            pytest.raises(KeyError),
            folders.exclusive_lock(tmp_path, {}.popitem),
        ):
            raise AssertionError("two were in there")


def test_a_failure_on_the_way_leaves_nothing(tmp_path):
    def fail(folder):
        two_files(folder)
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        folders.write_folder(tmp_path, "one", fail)
    assert list(tmp_path.iterdir()) == []


def test_values_that_json_cannot_hold_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        folders.write_folder(tmp_path, "one", lambda _: {"metric": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_is_a_clear_error_and_leaves_nothing(tmp_path):
    def write_much(folder):
        np.save(folder / "array.npy", np.zeros(10_000))
        return {}

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(RecsysError, match=r"one could not be written: .* bytes are free there"):
            folders.write_folder(tmp_path, "one", write_much)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecsysError, match="could not be written"):
        folders.write_folder(tmp_path / "file" / "deeper", "one", two_files)


def test_a_name_that_is_taken_is_refused_and_the_folder_stays(tmp_path):
    folders.write_folder(tmp_path, "one", two_files)
    with pytest.raises(RecsysError, match="exists already"):
        folders.write_folder(tmp_path, "one", lambda _: {"answer": 0})
    assert folders.read_manifest(tmp_path / "one")["answer"] == 42


def test_what_a_killed_process_left_is_no_folder_and_is_removed_by_the_next(tmp_path):
    program = (
        "import pathlib, sys\n"
        "from recsys.data import folder as folders\n"
        "def fill(folder):\n"
        "    (folder / 'half').write_text('half')\n"
        "    folders.failpoint('half way')\n"
        "    return {}\n"
        "folders.write_folder(pathlib.Path(sys.argv[1]), 'one', fill)\n"
    )
    environment = {**os.environ, "RECSYS_CRASH_AT": "half way"}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-one"]
    folders.write_folder(tmp_path, "two", two_files)
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_a_failpoint_of_another_name_does_nothing(monkeypatch):
    monkeypatch.setenv("RECSYS_CRASH_AT", "elsewhere")
    folders.failpoint("here")


def test_a_missing_file_and_a_wrong_size_are_named_with_what_was_expected(tmp_path):
    folder = folders.write_folder(tmp_path, "one", two_files)
    folders.verify(folder)
    (folder / "a.txt").write_text("alphabet")
    with pytest.raises(BundleError, match=r"a\.txt: expected 5 bytes, found 8 bytes"):
        folders.verify(folder)
    (folder / "a.txt").unlink()
    with pytest.raises(BundleError, match=r"a\.txt: expected 5 bytes, found no such file"):
        folders.verify(folder)


def test_a_flipped_byte_is_found_with_expected_and_found_checksum(tmp_path):
    folder = folders.write_folder(tmp_path, "one", two_files)
    flip_a_byte(folder / "part" / "b.bin")
    found = hashlib.sha256(b"\x01\x01\x02").hexdigest()
    with pytest.raises(BundleError, match=rf"b\.bin is damaged: expected sha256 [0-9a-f]{{64}}, found {found}"):
        folders.verify(folder)


def test_a_byte_flipped_after_a_check_is_found_even_with_the_old_time(tmp_path):
    folder = folders.write_folder(tmp_path, "one", two_files)
    folders.verify(folder)
    before = (folder / "a.txt").stat()
    flip_a_byte(folder / "a.txt")
    os.utime(folder / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BundleError, match=r"a\.txt is damaged"):
        folders.verify(folder)


def test_a_damaged_folder_is_damaged_at_the_second_look_too(tmp_path):
    folder = folders.write_folder(tmp_path, "one", two_files)
    flip_a_byte(folder / "a.txt")
    for _ in range(2):
        with pytest.raises(BundleError, match="damaged"):
            folders.verify(folder)


def test_checksums_are_read_once_a_machine(tmp_path, own_temporary_folder):
    folder = folders.write_folder(tmp_path, "one", two_files)
    folders.verify(folder)
    (remembered,) = own_temporary_folder.rglob("recsys-verified-*/*")
    # A file whose checksum was never right passes now only because this state of the files is remembered.
    manifest = folders.read_manifest(folder)
    manifest["files"]["a.txt"]["sha256"] = "0" * 64
    folders.write_manifest(folder, manifest)
    with pytest.raises(BundleError, match="damaged"):
        folders.verify(folder)
    remembered.write_text(folders._fingerprint(folder, folders.read_manifest(folder)["files"]))
    folders.verify(folder)
    remembered.unlink()
    with pytest.raises(BundleError, match="damaged"):
        folders.verify(folder)


def test_a_machine_that_cannot_remember_checks_again(tmp_path, own_temporary_folder):
    (own_temporary_folder / f"recsys-verified-{os.getuid()}").write_text("in the way")
    folder = folders.write_folder(tmp_path, "one", two_files)
    folders.verify(folder)
    flip_a_byte(folder / "a.txt")
    with pytest.raises(BundleError, match="damaged"):
        folders.verify(folder)


def test_a_flipped_bit_in_a_manifest_is_found_and_one_of_before_had_no_checksum(tmp_path):
    folder = folders.write_folder(tmp_path, "one", lambda place: {**two_files(place), "rows": 40, "share": 0.1, 7: "ä"})
    path, kept = folder / "manifest.json", folders.read_manifest(folder)
    text = path.read_text()
    path.write_text(text.replace('"rows": 40', '"rows": 41'))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        folders.read_manifest(folder)
    path.write_text(json.dumps(json.loads(text)))  # other blanks, same values
    assert folders.read_manifest(folder) == kept
    path.write_text(json.dumps(kept | {"rows": 41}))
    assert folders.read_manifest(folder)["rows"] == 41


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', "\x00"])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        folders.read_manifest(tmp_path)


def test_a_folder_without_manifest_was_never_finished(tmp_path):
    with pytest.raises(BundleError, match="never finished"):
        folders.read_manifest(tmp_path / "nowhere")


def test_current_is_none_then_what_was_set(tmp_path):
    assert folders.current(tmp_path) is None
    folders.set_current(tmp_path, "one")
    folders.set_current(tmp_path, "two")
    assert folders.current(tmp_path) == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["CURRENT"]


def test_current_that_cannot_be_written_stays_and_is_a_clear_error(tmp_path):
    folders.set_current(tmp_path, "one")
    (tmp_path / ".CURRENT.new").mkdir()
    with pytest.raises(RecsysError, match="CURRENT could not be written"):
        folders.set_current(tmp_path, "two")
    assert folders.current(tmp_path) == "one"


def test_a_removed_folder_is_gone_and_its_neighbor_stays(tmp_path):
    for name in ("one", "two"):
        folders.write_folder(tmp_path, name, two_files)
    folders.remove_folder(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


@given(ids=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), unique=True, max_size=30))
@settings(deadline=None, max_examples=30)
def test_a_vocabulary_comes_back_as_it_was(ids):
    with tempfile.TemporaryDirectory() as name:
        folder = folders.Path(name)
        folders.save_vocabulary(folder, "ids", Vocabulary.from_ids(ids))
        found = folders.open_vocabulary(folder, "ids")
        assert list(found) == ids
        assert found.rows_of(ids).tolist() == list(range(len(ids)))
        assert found.row_of("not among them, being too long") == -1


def test_a_vocabulary_is_memory_mapped_and_read_only(tmp_path):
    folders.save_vocabulary(tmp_path, "ids", Vocabulary.from_ids(["a", "b"]))
    found = folders.open_vocabulary(tmp_path, "ids")
    for array in (found.blob, found.ends, found.hashes, found.order):
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable


def test_a_pickle_in_place_of_an_array_is_refused(tmp_path):
    np.save(tmp_path / "array.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickle|object"):
        folders.open_array(tmp_path / "array.npy")


def test_the_manifest_is_json_that_others_read(tmp_path):
    folder = folders.write_folder(tmp_path, "one", lambda _: {"name": "Grüße"})
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["name"] == "Grüße"
