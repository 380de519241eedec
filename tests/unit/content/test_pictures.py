"""Pictures to vectors: the graph gives what torch gives, and no file can do more than be refused."""

import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_networks
import torch
from PIL import Image
from tiny_networks import picture

from recsys.content import mobilenet, pictures
from recsys.content.export import prepare_picture
from recsys.content.picture_folder import PictureSettings, read_picture_settings
from recsys.content.picture_network import open_picture_network
from recsys.content.pictures import PictureError, decode
from recsys.data.folder import read_manifest
from recsys.errors import ConfigError

SMALL = PictureSettings(size=32, resize=36)
PLAIN = PictureSettings(size=8, resize=8, mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0))


def declare(folder: Path, **values: object) -> Path:
    said = {"size": 32, "resize": 36, "mean": SMALL.mean, "deviation": SMALL.deviation, "license": "MIT"}
    (folder / "picture.json").write_text(json.dumps(said | values))
    return folder


def test_the_graph_gives_what_torch_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobilenet, "_BLOCKS", ((1, 16, 1, 1), (6, 24, 2, 2), (6, 24, 1, 1)))  # of 17; export takes long
    source = declare(tmp_path)
    network = tiny_networks.picture_weights(source / "tiny.pth")
    prepared = prepare_picture(source, tmp_path / "out", "tiny")
    found = open_picture_network(prepared)
    values = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(values)).numpy()
    assert np.abs(found.run(values) - expected).max() < 1e-5
    vector = found.encode(picture())
    assert vector.shape == (1280,)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert read_manifest(prepared)["weights"]["license"] == "MIT"
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "graph.onnx").write_bytes((prepared / "model.onnx").read_bytes())
    again = open_picture_network(prepare_picture(declare(tmp_path / "again"), tmp_path / "out", "graph"))
    assert np.array_equal(again.encode(picture()), vector)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_formats_show_the_same_color(form: str) -> None:
    values = decode(picture(form=form), PLAIN) * 255
    assert values.shape == (3, 8, 8)
    assert np.abs(values.mean(axis=(1, 2)) - [200, 30, 30]).max() < 6


def test_odd_modes_are_shown_in_color() -> None:
    cmyk = decode(picture(mode="CMYK"), PLAIN).mean(axis=(1, 2)) * 255
    assert cmyk[0] > 180
    assert cmyk[1] < 80
    half = decode(picture(mode="RGBA", form="PNG"), PLAIN).mean(axis=(1, 2)) * 255
    assert np.abs(half - [227, 142, 142]).max() < 4  # over white
    gray = decode(picture(mode="I;16", form="PNG"), PLAIN) * 255
    assert np.allclose(gray, 0, atol=1)
    for mode in ("L", "P", "1", "LA"):
        assert decode(picture(mode=mode, form="PNG"), PLAIN).shape == (3, 8, 8)


def test_the_first_frame_of_an_animation_counts() -> None:
    first, second = (Image.new("RGB", (20, 20), color) for color in ("red", "blue"))
    for form in ("GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        first.save(file, form, save_all=True, append_images=[second] * 5)
        red, _, blue = decode(file.getvalue(), PLAIN).mean(axis=(1, 2))
        assert red > 0.9
        assert blue < 0.1


def test_a_photograph_is_turned_as_its_camera_says() -> None:
    halves = Image.new("RGB", (40, 40), "white")
    halves.paste("black", (0, 0, 20, 40))
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    halves.save(file, "JPEG", exif=exif)
    values = decode(file.getvalue(), PLAIN)[0]
    assert values[0].mean() < 0.1
    assert values[-1].mean() > 0.9


def test_all_of_a_picture_is_seen_or_its_middle() -> None:
    stripes = Image.new("RGB", (40, 120), "white")
    stripes.paste("black", (0, 40, 40, 80))
    file = io.BytesIO()
    stripes.save(file, "PNG")
    whole, middle = (decode(file.getvalue(), replace(PLAIN, crop=crop)).mean() for crop in (False, True))
    assert whole == pytest.approx(2 / 3, abs=0.05)
    assert middle == pytest.approx(0, abs=0.05)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no picture that is known"),
    "truncated": (picture((200, 200), quality=95)[:-300], "damaged"),
    "truncated png": (picture((200, 200), form="PNG")[:-40], "damaged"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "no picture that is known"),
    "page": (b"<!doctype html><p>not found</p>", "no picture that is known"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that is known"),
    "bomb": (png(30_000, 30_000, zlib.compress(b"\0" * 100_000)), "pixels"),
    "large bomb": (png(2**31 - 1, 2**31 - 1, b""), "pixels"),
    "short of pixels": (png(3000, 3000, zlib.compress(b"\0" * 100)), "damaged"),
    "needle": (picture((2000, 2)), "too narrow"),
    "large file": (b"\xff\xd8" + b"\0" * pictures.MOST_BYTES, "bytes; allowed are 20,000,000"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_their_reason(name: str) -> None:
    content, said = HOSTILE[name]
    with pytest.raises(PictureError, match=said) as caught:
        decode(content, PLAIN)
    assert caught.value.cause


def test_any_bytes_are_a_picture_or_an_error() -> None:
    draw = np.random.default_rng(3)
    for form in ("JPEG", "PNG", "WEBP", "GIF"):
        whole = np.frombuffer(picture((64, 64), form=form), np.uint8)
        for _ in range(30):
            spoiled = whole.copy()
            spoiled[draw.integers(0, len(whole), 6)] = draw.integers(0, 256, 6)
            try:
                assert decode(spoiled.tobytes(), PLAIN).shape == (3, 8, 8)
            except PictureError:
                continue


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": "x"}, "does not say size, mean and deviation"),
        ({"mean": [1, 2]}, "does not say size, mean and deviation"),
        ({"size": 5000, "resize": 5000}, "expected 0 < size <= resize <= 1024"),
        ({"deviation": [0, 1, 1]}, "deviations above 0"),
        ({"sise": 3}, "unknown key sise; allowed are architecture, size"),
        ({"architecture": "resnet"}, "allowed are mobilenet_v2, or a graph"),
    ],
)
def test_wrong_declarations_are_refused(values: dict[str, object], said: str, tmp_path: Path) -> None:
    (declare(tmp_path, **values) / "w.safetensors").touch()
    with pytest.raises(ConfigError, match=said):
        prepare_picture(tmp_path, tmp_path / "out", "tiny")


def test_declarations_of_hugging_face_are_read(tmp_path: Path) -> None:
    said = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | {"image_std": [0.2, 0.2, 0.2]}))
    expected = PictureSettings(size=32, crop=True, resize=40, mean=(0.5, 0.5, 0.5), deviation=(0.2, 0.2, 0.2))
    assert read_picture_settings(tmp_path) == expected


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        prepare_picture(tmp_path / "nowhere", tmp_path / "out", "tiny")
    with pytest.raises(ConfigError, match="found none"):
        prepare_picture(declare(tmp_path), tmp_path / "out", "tiny")
    torch.save({"features.0.0.weight": torch.zeros(1, 2)}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"is \(1, 2\), expected \(32, 3, 3, 3\)"):
        prepare_picture(tmp_path, tmp_path / "out", "tiny")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="holds no named arrays"):
        prepare_picture(tmp_path, tmp_path / "out", "tiny")
