import numpy as np
import pytest
from extracts import KINDS, ROWS, WATERMARK, extracted, read

from recsys.data.extract import open_extract, publish, write
from recsys.data.folder import read_manifest, write_manifest
from recsys.errors import BundleError, NotFoundError


def test_an_extract_comes_back_as_it_was_written_and_is_mapped_from_disk(tmp_path):
    loaded = read(ROWS)
    extract = extracted(tmp_path, loaded)
    assert list(extract.users) == ["ann", "bob", "idle"]
    assert list(extract.items) == ["apple", "pear", "plum"]
    assert (extract.kinds, extract.watermark, extract.as_of) == (KINDS, WATERMARK, 401)
    assert extract.events.item_count == 3
    for name in ("offsets", "items", "kinds", "times", "values"):
        array = getattr(extract.events, name)
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, getattr(loaded.events, name))


def test_a_shop_without_events_has_an_extract_too(tmp_path):
    extract = extracted(tmp_path, read([], users=(), items=()))
    assert (len(extract.users), len(extract.items), len(extract.events), extract.as_of) == (0, 0, 0, 0)


def test_without_an_extract_the_error_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="recsys train"):
        open_extract(tmp_path)


def test_a_written_extract_counts_only_when_published(tmp_path):
    extracted(tmp_path, read(ROWS))
    write(tmp_path, read(ROWS[:1]))
    assert len(open_extract(tmp_path).events) == 4


def test_two_versions_are_kept_and_an_open_one_survives_its_removal(tmp_path):
    first = extracted(tmp_path, read(ROWS))
    names = [write(tmp_path, read(ROWS[:count])) for count in (1, 2, 3)]
    for name in names:
        publish(tmp_path, name)
    versions = sorted(path.name for path in (tmp_path / "extract").iterdir() if path.is_dir())
    assert versions == names[1:]
    assert len(open_extract(tmp_path).events) == 3
    assert first.events.times.tolist() == [100, 200, 400, 300]


@pytest.mark.parametrize("name", ["items.npy", "users_blob.npy", "times.npy"])
def test_a_flipped_byte_is_found(tmp_path, name):
    version = write(tmp_path, read(ROWS))
    publish(tmp_path, version)
    path = tmp_path / "extract" / version / name
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BundleError, match=name):
        open_extract(tmp_path)


@pytest.mark.parametrize(("key", "value", "says"), [("format", 2, "format 2"), ("events", 5, "do not agree")])
def test_a_manifest_that_does_not_fit_is_refused(tmp_path, key, value, says):
    version = write(tmp_path, read(ROWS))
    publish(tmp_path, version)
    place = tmp_path / "extract" / version
    write_manifest(place, read_manifest(place) | {key: value})
    with pytest.raises(BundleError, match=says):
        open_extract(tmp_path)
