"""Types of plain arrays, and functions over any of them."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]
Bool = npt.NDArray[np.bool_]


def mean_or_zero(values: npt.NDArray[Any]) -> float:
    """Average values [N]; 0 when there are none."""
    return float(np.mean(values)) if len(values) else 0.0
