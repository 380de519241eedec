"""A picture network at work, by onnxruntime: pictures to vectors, on the calling thread and without torch.

Shapes: n pictures, B of one batch, S pixels a side, F dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.content.picture_folder import PictureSettings
from recsys.content.pictures import decode
from recsys.data.arrays import Float32
from recsys.data.folder import read_manifest, verify
from recsys.errors import ConfigError
from recsys.onnx_session import open_session

Run = Callable[[Float32], Float32]
"""Pictures [B, 3, S, S] -> vectors [B, F]."""


@dataclass(frozen=True)
class PictureNetwork:
    """Pictures to vectors."""

    settings: PictureSettings
    run: Run

    def encode(self, content: bytes) -> Float32:
        """The vector of a picture, of length 1: float32 [F]. Raises PictureError when the file is no picture."""
        vector = self.run(decode(content, self.settings)[None])[0]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def open_picture_network(folder: Path) -> PictureNetwork:
    """Open what `prepare_picture` wrote. Raises BundleError for a damaged folder, ConfigError for no such graph."""
    verify(folder)
    values = read_manifest(folder)["settings"]
    lists: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    settings = PictureSettings(**lists)
    return PictureNetwork(settings, _runner(folder / "model.onnx", settings.size))


def _runner(path: Path, size: int) -> Run:
    try:
        session = open_session(str(path))
        (name,), output = [one.name for one in session.get_inputs()], session.get_outputs()[0].name
        found = session.run([output], {name: np.zeros((1, 3, size, size), np.float32)})[0]
    except Exception as error:  # onnxruntime has many kinds of its own
        raise ConfigError(f"{path} does not read a picture of {size} x {size}: {str(error)[:200]}") from error
    if found.ndim not in (2, 4) or len(found) != 1:
        raise ConfigError(f"{path} gives {found.shape} for a picture; expected [1, F] or [1, F, rows, columns]")

    def run(pictures: Float32) -> Float32:
        vectors = np.asarray(session.run([output], {name: pictures})[0], np.float32)
        return vectors if vectors.ndim == 2 else np.asarray(vectors.mean(axis=(2, 3)), np.float32)

    return run
