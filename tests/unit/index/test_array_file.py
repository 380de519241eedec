"""Arrays in one file: they come back aligned, whatever their sizes."""

import numpy as np
import pyarrow as pa

from recsys.index.array_file import open_arrays, write_arrays

ARRAYS = [np.arange(count).astype(kind) for count, kind in ((7, "i4"), (3, "f8"), (0, "f4"), (100, "u1"), (5, "i8"))]


def test_arrays_of_any_size_come_back_aligned(tmp_path):
    write_arrays(tmp_path / "index", ARRAYS)
    for array, opened in zip(ARRAYS, open_arrays(tmp_path / "index", len(ARRAYS)), strict=True):
        np.testing.assert_array_equal(opened, array)
        assert opened.size == 0 or opened.ctypes.data % 64 == 0  # without elements there is no place in the file


def test_a_file_without_padding_opens(tmp_path):
    with pa.OSFile(str(tmp_path / "index"), "wb") as sink:
        for array in ARRAYS:
            pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
    for array, opened in zip(ARRAYS, open_arrays(tmp_path / "index", len(ARRAYS)), strict=True):
        np.testing.assert_array_equal(opened, array)
