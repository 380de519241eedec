"""Decoding of pictures that anybody may have made: formats, sizes and errors have limits.

Shapes: S pixels a side.
"""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from recsys.content.picture_folder import PictureSettings
from recsys.data.arrays import Float32
from recsys.errors import RecsysError

MOST_BYTES = 20_000_000  # of a file
MOST_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
_LONGEST_SHAPE = 50  # times as wide as high
_SIXTEEN_BITS = 257  # a value of 65,535 is 255


class PictureError(RecsysError):
    """A file is no picture that can be read. cause: the reason in a few words, to count by."""


def decode(content: bytes, settings: PictureSettings) -> Float32:
    """A picture as the network expects it: float32 [3, S, S].

    Of an animation the first frame counts; what is transparent is white. Raises PictureError.
    """
    if len(content) > MOST_BYTES:
        raise PictureError(f"{len(content):,} bytes; allowed are {MOST_BYTES:,}", cause="too large")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes, which are checked here
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(picture)
                picture.draft("RGB", (settings.resize, settings.resize))  # JPEG is decoded at about this size
                plain = _fit(_to_rgb(ImageOps.exif_transpose(picture)), settings)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(
            f"no picture that is known; allowed are {', '.join(FORMATS)}", cause="unknown format"
        ) from None
    except Image.DecompressionBombError:
        raise PictureError(f"more than {MOST_PIXELS:,} pixels", cause="too large") from None
    except Exception as error:  # each decoder raises its own kinds for damaged files
        raise PictureError(f"damaged: {type(error).__name__}: {str(error)[:100]}", cause="damaged") from error
    values = (np.asarray(plain, np.float32) / 255 - settings.mean) / settings.deviation
    return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise PictureError(f"{width} x {height} pixels; allowed are {MOST_PIXELS:,}", cause="too large")
    if min(width, height) < 1 or max(width, height) > _LONGEST_SHAPE * min(width, height):
        raise PictureError(f"{width} x {height} pixels: too narrow to show an item", cause="too narrow")


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # gray in 16 bits
        values = np.asarray(picture, np.float64) / (_SIXTEEN_BITS if picture.mode.startswith("I") else 1)
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        full = picture.convert("RGBA")
        white = Image.new("RGBA", full.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, full).convert("RGB")
    return picture.convert("RGB")


def _fit(picture: Image.Image, settings: PictureSettings) -> Image.Image:
    """All of a picture in `size` by `size` pixels, or its middle, once the shorter side has `resize`."""
    size = settings.size
    if not settings.crop:
        return picture.resize((size, size), Image.Resampling.BILINEAR)
    scale = settings.resize / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return small.crop((left, top, left + size, top + size))
