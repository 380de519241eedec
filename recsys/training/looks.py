"""A step of the training: the pictures of the catalog, for what looks alike."""

import numpy as np

from recsys.content.encoders import Items, encode
from recsys.content.looks import shorten
from recsys.data.arrays import Float32
from recsys.errors import RecsysError
from recsys.training.pipeline import TrainingRun


def encode_looks(run: TrainingRun) -> Float32 | None:
    """The shortened vectors of the catalog's pictures, [I, D]; None where [content] picture_network is not set.

    A network that cannot be used does not stop the night: the step says why, and nothing looks alike.
    """
    settings = run.config.content
    if settings.picture_network is None:
        return None
    with run.step("pictures") as counts:
        folder = run.config.storage.path / "content"
        try:
            found = encode("pictures", Items(run.dataset.catalog.columns, settings, folder, run.progress))
        except RecsysError as error:
            counts["failed"] = str(error)
            return None
        counts.update({"encoded": found.encoded, **found.problems})
        return shorten(np.asarray(found.vectors, np.float32))
