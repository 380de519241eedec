"""Where pictures come from: files below one folder, or URLs of the shop, kept once they were downloaded."""

import hashlib
import threading
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from recsys.content.pictures import MOST_BYTES, PictureError
from recsys.data.vocabulary import hash_id
from recsys.outbound import OutboundError, request

_PERIOD = 30 * 86_400  # seconds for which a downloaded picture counts as what its URL shows
_MOST_FAILURES = 20  # in a row of one host: then it is asked no more in this run
_SECONDS = 20.0  # for one picture
_URLS = ("http", "https")


class Pictures:
    """Reads pictures by what image_url says.

    files: the folder of those that are no URLs; None: none are. downloads: where those of URLs are kept. trusted: hosts
    that may lie in a private network. now: seconds since 1970.
    """

    def __init__(self, files: Path | None, downloads: Path, trusted: Collection[str] = (), *, now: float) -> None:
        self.files, self.downloads, self.trusted, self.now = files, downloads, trusted, now
        self._failures: Counter[str] = Counter()
        self._lock = threading.Lock()

    def version(self, name: str) -> str:
        """What changes when the picture of that name may have: the file does, or a URL's 30 days are over."""
        if _is_url(name):
            return f"{name} {self._period(name)}"
        path = self._file(name)
        if path is None or not path.is_file():
            return name
        said = path.stat()
        return f"{name} {said.st_size} {said.st_mtime_ns}"

    def read(self, name: str) -> bytes:
        """The bytes of a picture. Raises PictureError: its cause says in a few words why there are none."""
        if not name:
            raise PictureError("the item has no image_url", cause="no picture")
        if _is_url(name):
            return self._fetch(name)
        path = self._file(name)
        if path is None:
            raise PictureError("is neither a URL nor below [content] pictures", cause="outside")
        return _read(path)

    def _file(self, name: str) -> Path | None:
        """The file of a name, which lies below the folder, also where a link leads; None where it may not be read."""
        if self.files is None or not name or "\0" in name:
            return None
        folder = self.files.resolve()
        try:
            path = (folder / name).resolve()
        except (OSError, RuntimeError):  # links that lead to themselves
            return None
        return path if path.is_relative_to(folder) else None

    def remove_old(self) -> None:
        """Remove downloads that no night reads any more."""
        for path in self.downloads.glob("*/*"):
            if self.now - path.stat().st_mtime > 2 * _PERIOD:
                path.unlink(missing_ok=True)

    def _period(self, url: str) -> int:
        """The number of the 30 days that a download counts for; they begin for each URL at another time."""
        return int((self.now + hash_id(url) % _PERIOD) // _PERIOD)

    def _download(self, url: str) -> Path:
        name = hashlib.sha256(self.version(url).encode()).hexdigest()
        return self.downloads / name[:2] / name

    def _fetch(self, url: str) -> bytes:
        path = self._download(url)
        if path.is_file():
            return _read(path)
        host = urlsplit(url).netloc
        if self._failures[host] >= _MOST_FAILURES:
            raise PictureError(f"{host} failed {_MOST_FAILURES} times in a row and is asked no more", cause="host")
        try:
            reply = request("GET", url, most_bytes=MOST_BYTES, timeout_seconds=_SECONDS, trusted_hosts=self.trusted)
        except OutboundError as error:
            self._count(host, failed=error.cause in ("network", "address"))
            raise PictureError(str(error), cause=error.cause) from error
        self._count(host, failed=reply.status >= 500)
        if reply.status != 200 or not reply.body:
            raise PictureError(f"status {reply.status}, {len(reply.body)} bytes", cause=f"status {reply.status}")
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{threading.get_ident()}")
        aside.write_bytes(reply.body)
        aside.replace(path)
        return reply.body

    def _count(self, host: str, *, failed: bool) -> None:
        with self._lock:
            self._failures[host] = self._failures[host] + 1 if failed else 0


def _is_url(name: str) -> bool:
    return name.partition("://")[0].lower() in _URLS


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PictureError(f"{path.stat().st_size:,} bytes; allowed are {MOST_BYTES:,}", cause="too large")
        return path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}", cause="no file") from error
