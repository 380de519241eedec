import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny

from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.errors import BundleError, NotFoundError
from recsys.index import flat
from recsys.index.flat import FlatIndex
from recsys.index.registry import IndexKind


def live(folder):
    return [version.version for version in versions.list_versions(folder) if version.live]


def test_publishing_moves_current(tmp_path):
    first, second = tiny.saved(tmp_path, 2, publish=False)
    assert live(tmp_path) == []
    assert versions.publish(tmp_path, first)
    assert live(tmp_path) == [first]
    assert versions.publish(tmp_path, second)
    assert bundles.load(tmp_path).version == second


def test_a_version_that_is_not_there_is_not_published(tmp_path):
    (version,) = tiny.saved(tmp_path)
    with pytest.raises(NotFoundError, match=f"no bundle 'x'.*there are: {version}"):
        versions.publish(tmp_path, "x")
    with pytest.raises(NotFoundError, match=r"no bundle '\.\./"):
        versions.publish(tmp_path, f"../bundles/{version}")
    assert live(tmp_path) == [version]


def test_a_damaged_version_is_neither_published_nor_rolled_back_to(tmp_path):
    first, second, third = tiny.saved(tmp_path, 3)
    for name in (first, second):
        (tmp_path / "bundles" / name / "popularity.npy").write_bytes(b"")
    with pytest.raises(BundleError, match=r"popularity\.npy"):
        versions.publish(tmp_path, first)
    with pytest.raises(BundleError, match=r"popularity\.npy"):
        versions.rollback(tmp_path)
    assert live(tmp_path) == [third]
    assert versions.pinned(tmp_path) is None


class Mute(FlatIndex):
    """Opens, and finds nothing."""

    def search(self, queries, k, **_):
        return super().search(queries, k, allowed=np.zeros(len(self), np.bool_))


class Failing(FlatIndex):
    """Opens, and fails when it is asked."""

    def search(self, *_, **__):
        raise RuntimeError("no such graph")


MUTE = IndexKind(flat.build, lambda path, vectors: Mute(flat.load(path, vectors)._index, vectors))
FAILING = IndexKind(flat.build, lambda path, vectors: Failing(flat.load(path, vectors)._index, vectors))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("not_installed:HNSW", "index kind 'not_installed:HNSW'.*cannot be loaded"),
        ("cubic", "unknown name 'cubic'"),
        ("test_bundle_life:MUTE", "does not answer: a search for 1 of 6 items finds none"),
        ("test_bundle_life:FAILING", "does not answer: RuntimeError: no such graph"),
    ],
)
def test_a_version_that_no_server_could_open_is_neither_published_nor_rolled_back_to(tmp_path, kind, message):
    first, second, third = tiny.saved(tmp_path, 3)
    unusable = bundles.save(
        replace(tiny.bundle(np.eye(6)), manifest={"index": {"kind": kind}}), tmp_path, facts=tiny.FACTS
    )
    for change in (versions.publish, partial(versions.publish, unless_pinned=True)):
        with pytest.raises(BundleError, match=message):
            change(tmp_path, unusable)
    shutil.rmtree(tmp_path / "bundles" / second)
    (tmp_path / "bundles" / unusable).rename(tmp_path / "bundles" / second)
    with pytest.raises(BundleError, match=message):
        versions.rollback(tmp_path)
    assert live(tmp_path) == [third]
    assert versions.pinned(tmp_path) is None
    assert versions.rollback(tmp_path, first) == first


def test_a_version_that_was_just_checked_is_not_opened_again(tmp_path, monkeypatch):
    first, _ = tiny.saved(tmp_path, 2)
    monkeypatch.setattr(versions, "check", lambda *_: pytest.fail("it was opened"))
    assert versions.publish(tmp_path, first, unless_pinned=True, is_checked=True)
    assert live(tmp_path) == [first]


def test_an_empty_shop_is_published(tmp_path):
    version = bundles.save(tiny.bundle(np.zeros((0, 2))), tmp_path, facts=tiny.FACTS)
    assert versions.publish(tmp_path, version)


def test_rollback_goes_back_step_by_step_and_ends_with_a_clear_error(tmp_path):
    first, second, third = tiny.saved(tmp_path, 3)
    assert live(tmp_path) == [third]
    assert versions.rollback(tmp_path) == second
    assert versions.rollback(tmp_path) == first
    assert live(tmp_path) == [first]
    with pytest.raises(NotFoundError, match="no earlier bundle"):
        versions.rollback(tmp_path)


def test_rollback_to_a_version_takes_only_what_was_live(tmp_path):
    first, second, third = tiny.saved(tmp_path, 3)
    unpublished = bundles.save(tiny.bundle(np.eye(6)), tmp_path, facts=tiny.FACTS)
    with pytest.raises(
        NotFoundError, match=f"'{unpublished}' was not live before {third}; earlier ones: {first}, {second}"
    ):
        versions.rollback(tmp_path, unpublished)
    assert versions.rollback(tmp_path, first) == first
    assert live(tmp_path) == [first]


def test_a_rollback_pins_so_that_a_run_saves_but_does_not_publish(tmp_path):
    first, _ = tiny.saved(tmp_path, 2)
    versions.rollback(tmp_path)
    assert versions.pinned(tmp_path) == first
    tonight = bundles.save(tiny.bundle(np.eye(6)), tmp_path, facts=tiny.FACTS)
    assert not versions.publish(tmp_path, tonight, unless_pinned=True)
    assert live(tmp_path) == [first]
    assert [version.version for version in versions.list_versions(tmp_path) if version.pinned] == [first]
    assert versions.publish(tmp_path, tonight)
    assert versions.pinned(tmp_path) is None
    assert live(tmp_path) == [tonight]
    after = bundles.save(tiny.bundle(np.eye(6)), tmp_path, facts=tiny.FACTS)
    assert versions.publish(tmp_path, after, unless_pinned=True)


def test_what_was_rolled_back_from_is_not_gone_back_to(tmp_path):
    first, second, bad = tiny.saved(tmp_path, 3)
    versions.rollback(tmp_path)
    (fourth,) = tiny.saved(tmp_path)
    assert versions.rollback(tmp_path) == second
    assert versions.rollback(tmp_path) == first
    assert bad not in live(tmp_path)
    assert fourth not in live(tmp_path)


def test_a_version_published_again_goes_back_to_the_one_it_replaced(tmp_path):
    first, _, third = tiny.saved(tmp_path, 3)
    versions.publish(tmp_path, first)
    assert versions.rollback(tmp_path) == third


def test_publishing_the_live_version_only_lifts_the_pin(tmp_path):
    first, _ = tiny.saved(tmp_path, 2)
    versions.rollback(tmp_path)
    assert versions.publish(tmp_path, first)
    assert versions.pinned(tmp_path) is None
    with pytest.raises(NotFoundError, match="no earlier bundle"):
        versions.rollback(tmp_path)


def test_versions_are_listed_newest_first_with_their_figures(tmp_path):
    first, second = tiny.saved(tmp_path, 2)
    found = versions.list_versions(tmp_path)
    assert [version.version for version in found] == [second, first]
    assert [version.live for version in found] == [True, False]
    assert found[0].created_at > found[1].created_at
    assert (found[0].model, found[0].metrics) == ("mf", tiny.FACTS["metrics"])
    place = tmp_path / "bundles" / second
    on_disk = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    assert found[0].size == on_disk - (place / "manifest.json").stat().st_size


def test_an_empty_folder_has_no_versions(tmp_path):
    assert versions.list_versions(tmp_path / "new") == []
    assert versions.prune(tmp_path / "new", 2) == []


def test_pruning_keeps_the_newest(tmp_path):
    names = tiny.saved(tmp_path, 5)
    assert versions.prune(tmp_path, 3) == [names[1], names[0]]
    assert [version.version for version in versions.list_versions(tmp_path)] == names[:1:-1]


def test_pruning_never_takes_the_live_the_pinned_or_the_one_to_go_back_to(tmp_path):
    names = tiny.saved(tmp_path, 4)
    versions.rollback(tmp_path)
    versions.rollback(tmp_path)  # names[1] is live and pinned, names[0] before it
    newer = tiny.saved(tmp_path, 2, publish=False)
    assert versions.prune(tmp_path, 1) == [newer[0], names[3], names[2]]
    assert live(tmp_path) == [names[1]]
    assert versions.rollback(tmp_path) == names[0]


def test_pruning_keeps_a_live_bundle_that_is_old_and_not_pinned(tmp_path):
    names = tiny.saved(tmp_path, 2)
    newer = tiny.saved(tmp_path, 2, publish=False)
    assert versions.prune(tmp_path, 1) == [newer[0]]
    assert live(tmp_path) == [names[1]]
    assert bundles.load(tmp_path).version == names[1]


def test_pruning_takes_what_was_saved_before_a_newer_one_was_published_and_what_failed(tmp_path):
    (before,) = tiny.saved(tmp_path, publish=False)
    (first,) = tiny.saved(tmp_path)
    waiting, failed = tiny.saved(tmp_path, 2, publish=False)
    assert versions.prune(tmp_path, 7, failed={failed, first}) == [failed, before]
    assert [version.version for version in versions.list_versions(tmp_path)] == [waiting, first]


@pytest.mark.parametrize("point", ["in save", "in publish"])
def test_a_process_killed_on_the_way_leaves_the_live_bundle_live(tmp_path, point):
    first, second = tiny.saved(tmp_path, 2)
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "import numpy as np, tiny; from recsys.bundle import bundle, versions\n"
        "folder = Path(sys.argv[1])\n"
        "versions.publish(folder, bundle.save(tiny.bundle(np.eye(6)), folder, facts={'config_hash': 'x'}))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(tiny.__file__).parent)]
    assert subprocess.run(command, env={**os.environ, "RECSYS_CRASH_AT": point}, check=False).returncode == -9
    assert bundles.load(tmp_path).version == second
    assert len(versions.list_versions(tmp_path)) == (2 if point == "in save" else 3)
    (after,) = tiny.saved(tmp_path)
    assert bundles.load(tmp_path).version == after
    assert not list((tmp_path / "bundles").glob(".tmp-*"))
    assert versions.rollback(tmp_path) == second
    assert versions.rollback(tmp_path) == first
