"""Pages of mapped arrays are at hand before anybody reads them."""

import resource

import numpy as np

from recsys.data.resident import bring_in


def test_reading_an_array_that_was_brought_in_touches_no_page_for_the_first_time(tmp_path):
    np.save(tmp_path / "array.npy", np.ones(4 * 2**20))  # 32 MB
    array, empty = np.load(tmp_path / "array.npy", mmap_mode="r"), np.zeros(0)
    bring_in([array, empty])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert array[::512].sum() == len(array) / 512
    # One page has 512 numbers; where the kernel maps neighbors too, 8,192 pages are some 500 first touches.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 100
