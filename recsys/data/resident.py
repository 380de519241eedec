"""Have the pages of memory-mapped arrays at hand before anybody asks: else each first touch costs a request time."""

import ctypes
import mmap
from collections.abc import Iterable

from recsys.data.arrays import Array

_POPULATE_READ = 22  # of Linux 5.14 and later; an older kernel refuses it, and pages come one by one as before


def bring_in(arrays: Iterable[Array]) -> None:
    """Map all pages of the arrays into this process. They stay shared with others, and may be dropped as any."""
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for array in arrays:
        if array.nbytes:
            start = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
            madvise(start, array.ctypes.data + array.nbytes - start, _POPULATE_READ)
