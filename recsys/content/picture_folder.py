"""What the weights of a picture network say of the pictures that they expect.

A folder says it in picture.json, or in Hugging Face's preprocessor_config.json. A single file of torchvision's weights
says nothing: the colors of ImageNet hold, which all of torchvision's networks expect.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.content.text_folder import find_license, read_json
from recsys.errors import ConfigError

DECLARATION, OTHER_DECLARATION = "picture.json", "preprocessor_config.json"
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".onnx")
_LARGEST = 1024  # pixels a side


@dataclass(frozen=True)
class PictureSettings:
    """How a picture becomes numbers. Size and colors are by default those of torchvision's networks."""

    architecture: str = "mobilenet_v2"  # of a file of weights; a graph has its own
    size: int = 224  # pixels a side that the network sees
    crop: bool = True  # whether it sees the middle; else all of the picture, squeezed
    resize: int = 224  # with crop: pixels of the shorter side before that; as `size`: as much as a square can show
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of red, green and blue, 0 to 1
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)
    license: str = "unknown"


def read_picture_settings(source: Path) -> PictureSettings:
    """Read what a file of weights or a folder declares. Raises ConfigError when it is damaged or out of bounds."""
    if source.is_file():
        return PictureSettings()
    if not source.is_dir():
        raise ConfigError(f"{source} is not there; expected the weights of a picture network, or a folder with them")
    own, other = read_json(source / DECLARATION), read_json(source / OTHER_DECLARATION)
    path = source / (DECLARATION if own else OTHER_DECLARATION)
    plain = PictureSettings(license=find_license(source))
    try:
        values = {**vars(plain), **own} if own else {**vars(plain), **_of_preprocessor(other)}
        settings = PictureSettings(
            architecture=str(values.pop("architecture")),
            size=int(values.pop("size")),
            crop=bool(values.pop("crop")),
            resize=int(values.pop("resize")),
            mean=_colors(values.pop("mean")),
            deviation=_colors(values.pop("deviation")),
            license=str(values.pop("license")),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} does not say size, mean and deviation as numbers: {error}") from error
    if values:
        raise ConfigError(f"{path}: unknown key {min(values)}; allowed are {', '.join(vars(plain))}")
    if not 0 < settings.size <= settings.resize <= _LARGEST or min(settings.deviation) <= 0:
        raise ConfigError(f"{path}: expected 0 < size <= resize <= {_LARGEST} and deviations above 0")
    return settings


def find_picture_weights(source: Path) -> Path:
    """The file of weights, or the graph. Raises ConfigError when there is none, or more than one."""
    found = [source] if source.is_file() else sorted(p for p in source.iterdir() if p.suffix in _WEIGHTS)
    if len(found) != 1 or found[0].suffix not in _WEIGHTS:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(f"{source}: expected one file of weights ({', '.join(_WEIGHTS)}), found {names}")
    return found[0]


def _colors(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _of_preprocessor(values: Any) -> dict[str, Any]:
    if not values:
        return {}
    resize, size = (_side(values.get(key)) for key in ("size", "crop_size"))
    found = {"resize": resize or size, "size": size or resize, "mean": values.get("image_mean")}
    found["crop"] = bool(values.get("do_center_crop", size is not None))
    return {key: value for key, value in (found | {"deviation": values.get("image_std")}).items() if value is not None}


def _side(value: Any) -> int | None:
    if isinstance(value, dict):
        return value.get("shortest_edge") or value.get("height")
    return value if isinstance(value, int) else None
