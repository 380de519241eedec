import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
from box_shop import bundle_of, drawn_events

from recsys.bundle import bundle as bundles
from recsys.data import folder as folders
from recsys.data.prices import no_changes
from recsys.errors import BundleError


def test_the_demand_of_a_bundle_is_saved_and_mapped(tmp_path):
    bundle = bundle_of(drawn_events())
    found = bundles.load(tmp_path, bundles.save(bundle, tmp_path, facts=tiny.FACTS)).demand
    weights = (0.2, 0.5, 1.0)
    np.testing.assert_array_equal(found.between(50, 90, weights, 60), bundle.demand.between(50, 90, weights, 60))
    assert (found.until, found.half_life_days) == (bundle.demand.until, bundle.demand.half_life_days)
    assert isinstance(found.items.base, np.memmap)


def test_the_prices_of_a_bundle_are_saved_and_mapped(tmp_path):
    bundle = bundle_of(drawn_events())
    version = bundles.save(bundle, tmp_path, facts=tiny.FACTS)
    found = bundles.load(tmp_path, version).prices
    for name in ("rows", "times", "former", "current"):
        np.testing.assert_array_equal(getattr(found, name), getattr(bundle.prices, name))
    assert isinstance(found.rows.base, np.memmap)
    nothing = bundles.save(replace(bundle, prices=no_changes()), tmp_path, facts=tiny.FACTS)
    assert len(bundles.load(tmp_path, nothing).prices) == 0
    place = tmp_path / "bundles" / version
    folders.write_manifest(place, folders.read_manifest(place) | {"prices": {"changes": 41}})
    with pytest.raises(BundleError, match="expected 41 changes"):
        bundles.load(tmp_path, version)


def test_a_bundle_of_before_has_none(tmp_path):
    [version] = tiny.saved(tmp_path)
    found = bundles.load(tmp_path, version)
    assert (found.demand, found.prices) == (None, None)
    assert "demand" not in json.loads((tmp_path / "bundles" / version / "manifest.json").read_text())


def test_counts_that_do_not_fit_each_other_are_refused(tmp_path):
    bundle = bundle_of(drawn_events())
    place = tmp_path / "bundles" / bundles.save(bundle, tmp_path, facts=tiny.FACTS)
    np.save(place / "demand" / "counts.npy", bundle.demand.counts[:-1])
    manifest = folders.read_manifest(place)
    del manifest["files"]["demand/counts.npy"]
    folders.write_manifest(place, manifest)
    with pytest.raises(BundleError, match="as many items as counts"):
        bundles.load(tmp_path, place.name)
