"""Limits for what compressed files hold: a small file may expand to more than memory holds."""

import zipfile
from typing import BinaryIO

from recsys.errors import SourceError

MAX_RATIO = 200  # bytes out of one: exports of shops have 5 to 40, and deflate ends at 1,032
FREE_MIB = 64  # up to here no ratio counts: small files of one repeated row compress very well

_MIB = 1 << 20


def check_archive(archive: zipfile.ZipFile, names: list[str], size: int, max_mib: int) -> None:
    """Refuse an archive of `size` bytes by what it says that it holds under these names.

    Python reads no more of a member than the archive says. Raises SourceError with the sizes found and allowed.
    """
    _check(sum(archive.getinfo(name).file_size for name in names), size, max_mib, "holds")


class LimitedStream:
    """Bytes that come out of compressed ones; reading raises SourceError beyond the limits."""

    def __init__(self, expanded: BinaryIO, compressed: BinaryIO, max_mib: int) -> None:
        self._expanded, self._compressed, self._max_mib = expanded, compressed, max_mib

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, all by default."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_MIB), b""))
        found = self._expanded.read(size)
        _check(self._expanded.tell(), self._compressed.tell(), self._max_mib, "already holds")
        return found

    def seek(self, at: int) -> int:
        """Go to a place; the size found so far does not shrink by it."""
        return self._expanded.seek(at)


def _check(expanded: int, compressed: int, max_mib: int, holds: str) -> None:
    found, given = expanded / _MIB, compressed / _MIB
    if found > max_mib:
        raise SourceError(
            f"it {holds} {found:,.0f} MiB, expanded from {given:,.1f}; [import] max_expanded_mib allows {max_mib:,}"
        )
    if found > FREE_MIB and expanded > MAX_RATIO * compressed:
        raise SourceError(
            f"it {holds} {found:,.0f} MiB, expanded from {given:,.1f}; above {FREE_MIB} MiB at most {MAX_RATIO} times "
            "the compressed size is allowed; is it an export? expand it first if it is"
        )
