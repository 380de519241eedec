"""Publishing, rolling back and pruning at the same time end as if one had come after the other."""

import threading

import numpy as np
import tiny

from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.data import folder as folders
from recsys.errors import NotFoundError

SOON = 0.5  # whoever is not kept out is done by then


def saved(folder, count):
    return [bundles.save(tiny.bundle(np.eye(6)), folder, facts=tiny.FACTS) for _ in range(count)]


def published(folder, count):
    names = saved(folder, count)
    for name in names:
        versions.publish(folder, name)
    return names


def after_verifying(monkeypatch, then):
    """Whoever verifies a bundle next finds that meanwhile `then` has happened."""
    real = folders.verify

    def verify(place):
        monkeypatch.setattr(folders, "verify", real)
        real(place)
        then()

    monkeypatch.setattr(folders, "verify", verify)


class Other(threading.Thread):
    """Somebody else who does something meanwhile; what came out of it is kept."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.result, self.error = act, None, None
        self.start()

    def run(self):
        try:
            self.result = self.act()
        except Exception as error:
            self.error = error


def test_a_rollback_while_a_night_verifies_its_bundle_is_not_undone(tmp_path, monkeypatch):
    first, _ = published(tmp_path, 2)
    (tonight,) = saved(tmp_path, 1)
    after_verifying(monkeypatch, lambda: versions.rollback(tmp_path))
    assert not versions.publish(tmp_path, tonight, unless_pinned=True)
    assert bundles.load(tmp_path).version == versions.pinned(tmp_path) == first


def test_a_rollback_waits_for_a_publication_that_has_begun_and_goes_back_from_it(tmp_path, monkeypatch):
    _, second = published(tmp_path, 2)
    (tonight,) = saved(tmp_path, 1)
    others = []

    def meanwhile(point):
        if point == "in publish":
            others.append(Other(lambda: versions.rollback(tmp_path)))
            others[0].join(SOON)

    monkeypatch.setattr(versions, "failpoint", meanwhile)
    assert versions.publish(tmp_path, tonight, unless_pinned=True)
    others[0].join()
    assert others[0].result == second
    assert bundles.load(tmp_path).version == versions.pinned(tmp_path) == second


def test_a_publication_while_a_rollback_verifies_is_what_it_goes_back_from(tmp_path, monkeypatch):
    _, second = published(tmp_path, 2)
    (tonight,) = saved(tmp_path, 1)
    after_verifying(monkeypatch, lambda: versions.publish(tmp_path, tonight))
    assert versions.rollback(tmp_path) == second
    assert bundles.load(tmp_path).version == versions.pinned(tmp_path) == second


def test_pruning_never_takes_a_bundle_that_goes_live_meanwhile(tmp_path, monkeypatch):
    first, *_, last = published(tmp_path, 4)
    others, verified = [], threading.Event()
    remove, verify = folders.remove_folder, folders.verify

    def verify_and_tell(place):
        verify(place)
        verified.set()

    def meanwhile(place):
        if not others:
            others.append(Other(lambda: versions.publish(tmp_path, first)))
            verified.wait(60)
            others[0].join(SOON)
        remove(place)

    monkeypatch.setattr(folders, "verify", verify_and_tell)
    monkeypatch.setattr(folders, "remove_folder", meanwhile)
    assert first in versions.prune(tmp_path, 2)
    others[0].join()
    assert isinstance(others[0].error, NotFoundError)
    assert bundles.load(tmp_path).version == last
