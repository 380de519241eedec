"""Encoding a catalog: every night only what is new, each picture once, and what cannot be read is counted."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny_networks
from tiny_networks import picture

from recsys.config.settings import Config, ContentSettings, StorageSettings
from recsys.content.encoders import ENCODERS, Items, encode
from recsys.content.picture_sources import Pictures
from recsys.content.pictures import PictureError
from recsys.content.vector_cache import cached
from recsys.data.arrays import Float32
from recsys.errors import ConfigError
from recsys.progress import no_progress
from recsys.training.looks import encode_looks

LANTERNS = ["Paper lantern", "red paper lantern", None, "Paper lantern", "tea cup"]


def catalog(**columns: list[Any]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> ContentSettings:
    folder = tmp_path_factory.mktemp("networks")
    text, pictures = tiny_networks.text_graph(folder / "text"), tiny_networks.picture_graph(folder / "pictures")
    return ContentSettings(text_network=text, picture_network=pictures)


def test_the_next_night_encodes_what_is_new(networks: ContentSettings, tmp_path: Path) -> None:
    first = encode("text", Items(catalog(title=LANTERNS), networks, tmp_path))
    assert first.vectors.shape == (5, 8)
    assert (first.encoded, first.problems) == (4, {"no text": 1})  # the text that comes twice is encoded once
    assert first.weights["license"] == "Apache-2.0"
    later = encode("text", Items(catalog(title=[*LANTERNS[::-1], "new cup"]), networks, tmp_path))
    assert later.encoded == 1
    assert np.array_equal(later.vectors[:5], first.vectors[::-1])
    small = networks.model_copy(update={"int8": True})
    assert encode("text", Items(catalog(title=LANTERNS), small, tmp_path)).encoded == 4  # other weights, other vectors


def test_a_night_that_is_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.content.vector_cache.BLOCK", 2)
    done: list[int] = []

    def work(block: list[int]) -> list[Float32 | None]:
        if len(done) >= 4 and 5 not in done and 4 in block:
            raise KeyboardInterrupt
        done.extend(block)
        return [np.array([at, 1], np.float32) for at in block]

    names = [f"text {at}" for at in range(6)]
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, names, work)
    assert done == [0, 1, 2, 3]
    done.append(5)
    (tmp_path / "000000000000-new.npy").write_bytes(b"cut off")
    vectors, new = cached(tmp_path, names, work)
    assert new == 4  # the damaged block and the last
    assert np.array_equal(vectors[:, 0], np.arange(6))
    assert [path.name for path in tmp_path.iterdir()] == ["all.npy"]
    assert cached(tmp_path, names[:3], work)[1] == 0
    assert cached(tmp_path, names, work)[1] == 3  # what was in the catalog no more is forgotten


def test_what_has_no_vector_is_tried_again(tmp_path: Path) -> None:
    for _ in range(2):
        vectors, new = cached(tmp_path, ["a", "b"], lambda block: [None for _ in block])
        assert (vectors.shape, new) == ((2, 0), 2)


class Shop(SimpleHTTPRequestHandler):
    """Serves a folder and counts what is asked."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path.startswith("/to-loopback"):
            self.send_response(302)
            self.send_header("Location", "http://localhost/one.jpg")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(picture())
    (folder / "page.jpg").write_text("<svg/>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Shop(*a, directory=str(folder)))
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def test_pictures_of_urls_and_files(networks: ContentSettings, tmp_path: Path, shop: tuple[str, list[str]]) -> None:
    address, asked = shop
    (tmp_path / "media" / "same.jpg").write_bytes(picture())
    (tmp_path / "secret.jpg").write_bytes(picture())
    (tmp_path / "media" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    names = [f"{address}/one.jpg", "same.jpg", f"{address}/page.jpg", f"{address}/none.jpg", f"{address}/to-loopback"]
    names += ["http://localhost/x.jpg", "../secret.jpg", "link.jpg", str(tmp_path / "secret.jpg"), "gone.jpg", None]
    settings = networks.model_copy(update={"pictures": tmp_path / "media", "picture_hosts": ("127.0.0.1",)})
    found = encode("pictures", Items(catalog(image_url=names), settings, tmp_path / "files"))
    assert found.vectors.shape == (11, 6)
    assert found.vectors.any(axis=1).tolist() == [True, True, *[False] * 9]
    assert np.array_equal(found.vectors[0], found.vectors[1])
    reasons = {"unknown format": 1, "status 404": 1, "private": 2, "outside": 3, "no file": 1, "no picture": 1}
    assert found.problems == reasons
    assert "localhost" in found.examples["private"]
    before = len(asked)
    again = encode("pictures", Items(catalog(image_url=names[:2]), settings, tmp_path / "files"))
    assert again.encoded == 0
    assert len(asked) == before
    alone = networks.model_copy(update={"picture_hosts": ()})
    closed = encode("pictures", Items(catalog(image_url=[f"{address}/new.jpg", "same.jpg"]), alone, tmp_path / "files"))
    assert closed.problems == {"private": 1, "outside": 1}
    assert len(asked) == before


def test_a_host_that_fails_is_asked_no_more_and_downloads_grow_old(tmp_path: Path) -> None:
    pictures = Pictures(None, tmp_path, ("127.0.0.1",), now=1e9)
    causes = []
    for at in range(22):
        with pytest.raises(PictureError) as caught:
            pictures.read(f"http://127.0.0.1:9/{at}.jpg")  # nobody listens there
        causes.append(caught.value.cause)
    assert causes == ["network"] * 20 + ["host"] * 2
    url = "https://shop.example/a.jpg"
    later = [Pictures(None, tmp_path, now=1e9 + days * 86_400).version(url) for days in range(61)]
    assert len(set(later)) == 3
    old = tmp_path / "ab" / "old"
    old.parent.mkdir()
    old.touch()
    Pictures(None, tmp_path, now=old.stat().st_mtime + 86_400).remove_old()
    assert old.exists()
    Pictures(None, tmp_path, now=old.stat().st_mtime + 61 * 86_400).remove_old()
    assert not old.exists()


def test_encoders_are_a_table_and_say_what_they_lack(tmp_path: Path) -> None:
    words = encode("words", Items(catalog(title=LANTERNS), ContentSettings(), tmp_path))
    assert words.vectors.shape[0] == 5
    assert words.problems == {"no words": 2}  # one has no title, one only words that no other item has
    with pytest.raises(ConfigError, match="text_network is not set"):
        encode("text", Items(catalog(title=LANTERNS), ContentSettings(), tmp_path))
    with pytest.raises(ConfigError, match="picture_network is not set"):
        encode("pictures", Items(catalog(title=LANTERNS), ContentSettings(), tmp_path))
    with pytest.raises(ConfigError, match=f"unknown name 'sound'; known: {', '.join(ENCODERS)}"):
        encode("sound", Items(catalog(title=LANTERNS), ContentSettings(), tmp_path))


def test_a_night_encodes_pictures_and_goes_on_without_them(networks: ContentSettings, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    (tmp_path / "b.png").write_bytes(picture(mode="RGBA", form="PNG"))
    counts: dict[str, Any] = {}

    def run_with(settings: ContentSettings) -> Any:
        config = Config(content=settings, storage=StorageSettings(path=tmp_path / "files"))
        shown = catalog(image_url=["a.jpg", "b.png", None])
        return SimpleNamespace(
            config=config,
            dataset=SimpleNamespace(catalog=SimpleNamespace(columns=shown)),
            progress=no_progress,
            step=lambda _name: nullcontext(counts),
        )

    assert encode_looks(run_with(ContentSettings())) is None
    looks = encode_looks(run_with(networks.model_copy(update={"pictures": tmp_path})))
    assert looks is not None
    assert looks.any(axis=1).tolist() == [True, True, False]
    assert counts == {"encoded": 3, "no picture": 1}
    broken = networks.model_copy(update={"picture_network": tmp_path / "nowhere"})
    assert encode_looks(run_with(broken)) is None
    assert "is not there" in counts["failed"]
