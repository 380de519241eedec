"""Folders that are complete or absent: written aside, sealed by a manifest with checksums, then renamed into place.

Bundles and the extract are such folders. CURRENT, a file beside them, names the live one.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError, RecsysError

MANIFEST = "manifest.json"
CURRENT = "CURRENT"
_CHECKSUM = "sha256"  # of a manifest's other values
_LEFTOVER, _LOCK = ".tmp-", ".lock"
_POLL_SECONDS = 0.1
_ANEW = "; `recsys train` makes a new one, `recsys rollback` goes back to an earlier bundle"
_NEEDED = "[storage] path needs a folder that this user may read and write"


def failpoint(name: str) -> None:
    """Kill this process, as a power cut would, when RECSYS_CRASH_AT in the environment is `name`. For tests."""
    if os.environ.get("RECSYS_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def write_folder(parent: Path, name: str, fill: Callable[[Path], dict[str, Any]]) -> Path:
    """Write the folder `parent`/`name` so that it is complete or absent, whatever happens on the way.

    `fill` writes files into the temporary folder that it gets and returns the values of the manifest. "files", with
    the size and sha256 of each, is added to them. Leftovers of killed processes are removed first.
    Raises RecsysError when the name is taken or a file cannot be written, and leaves nothing behind.
    """
    target, temporary = parent / name, parent / f"{_LEFTOVER}{name}"
    if target.exists():
        raise RecsysError(f"{target} exists already; a folder is written once and never changed")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        temporary.mkdir()
        _seal(temporary, fill(temporary))
        temporary.rename(target)
        _sync_folder(parent)
    except OSError as error:
        free = _free_space(parent)  # before what was written is removed
        shutil.rmtree(temporary, ignore_errors=True)
        raise RecsysError(f"{target} could not be written: {error}; {free}") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def remove_folder(folder: Path) -> None:
    """Remove a folder. It is renamed first, so that no reader sees half of it."""
    aside = folder.with_name(f"{_LEFTOVER}{folder.name}")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove the temporary folders of writers that were killed."""
    for leftover in parent.glob(f"{_LEFTOVER}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder. Raises BundleError when there is none, it is not a manifest, or it is damaged."""
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder} has no {MANIFEST}: it is not there or was never finished{_ANEW}") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("files"), dict):
        raise BundleError(f'{path} is no manifest: expected an object with "files"')
    expected = values.pop(_CHECKSUM, None)  # a manifest of before version 0.2 has none
    if expected is not None and (found := _digest(values)) != expected:
        raise BundleError(f"{path} is damaged: expected sha256 {expected} of its values, found {found}{_ANEW}")
    return values


def write_manifest(folder: Path, values: dict[str, Any]) -> None:
    """Write the manifest of a folder, with a checksum of its values."""
    path = folder / MANIFEST
    text = json.dumps({**values, _CHECKSUM: _digest(values)}, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    _sync(path)


def verify(folder: Path) -> None:
    """Check the files of a folder against its manifest: sizes always, sha256 once per machine.

    The result is remembered outside the folder under sizes, inodes and times of change, so a file that changes is read
    again. Raises BundleError with the file, what was expected and what was found.
    """
    files = read_manifest(folder)["files"]
    for name, expected in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != expected["size"]:
            is_found = "no such file" if found is None else f"{found} bytes"
            raise BundleError(f"{path}: expected {expected['size']} bytes, found {is_found}{_ANEW}")
    fingerprint = _fingerprint(folder, files)
    marker = _marker(folder)
    if _is_remembered(marker, fingerprint):
        return
    for name, expected in files.items():
        digest = _sha256(folder / name)
        if digest != expected["sha256"]:
            raise BundleError(
                f"{folder / name} is damaged: expected sha256 {expected['sha256']}, found {digest}{_ANEW}"
            )
    _remember(marker, fingerprint)


@contextmanager
def exclusive_lock(parent: Path, waits: Callable[[], bool] | None = None) -> Iterator[bool]:
    """Hold the lock of a folder, which one thread of one process can have at a time.

    The kernel releases it when the process ends. It does not nest. Do not wait for the database while holding it: a run
    takes it while it holds its lease. waits: called repeatedly while another one has the lock; returns whether to wait
    on. Yields whether the lock is held: always, unless `waits` gave up.
    Raises RecsysError when the folder cannot be written to.
    """
    try:
        descriptor = os.open(parent / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise RecsysError(
            f"{parent} cannot be changed: {error.strerror}; a folder is needed that can be written"
        ) from None
    try:
        while waits and _is_taken(descriptor):
            if not waits():
                yield False
                return
            time.sleep(_POLL_SECONDS)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield True
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    """Try to take the lock. Returns whether another one has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def check_folder(folder: Path, *, writable: bool = False) -> None:
    """Check that a folder can be read, or created if it does not exist. writable: and written to.

    Raises RecsysError with the folder, what was found there, and what is needed.
    """
    try:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        is_folder = existing.is_dir()
    except OSError as error:
        raise RecsysError(f"{folder} cannot be looked at: {error.strerror}; {_NEEDED}") from None
    if not is_folder:
        raise RecsysError(f"{existing} is a file; {_NEEDED}")
    if not os.access(existing, os.R_OK | os.X_OK):
        raise RecsysError(f"{existing} may not be read; {_NEEDED}")
    if writable and not os.access(existing, os.W_OK):
        raise RecsysError(f"{existing} may not be written to; {_NEEDED}")


def current(parent: Path) -> str | None:
    """Read the name in CURRENT: None when nothing is published. Raises RecsysError when it cannot be read."""
    return read_text(parent / CURRENT).strip() or None


def read_text(path: Path) -> str:
    """Read a small file; empty when there is none. Raises RecsysError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise RecsysError(f"{path} cannot be read: {error}; {_NEEDED}") from None


def read_utf8(path: Path, what: str, error: type[RecsysError]) -> str:
    """Read a file of somebody else's, with or without a mark of its byte order. what: what messages call it.

    Raises `error` when it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as wrong:
        raise error(f"{what} {path} cannot be read: {wrong.strerror}") from None
    except UnicodeDecodeError as wrong:
        raise error(f"{what} {path} is not UTF-8 (byte {wrong.start}); save it as UTF-8") from None


def set_current(parent: Path, name: str) -> None:
    """Write `name` into CURRENT. A reader finds the old or the new name, nothing between."""
    replace_text(parent / CURRENT, name + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replace a small file atomically and durably. Raises RecsysError when it cannot be written."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` to write a file to, which then takes its place, atomically and durably.

    When the writing fails, what was there before stays. Raises RecsysError when it cannot be written.
    """
    aside = path.with_name(f".{path.name}.new")
    try:
        yield aside
        _sync(aside)
        failpoint("in file")
        aside.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        free = _free_space(path.parent)  # before what was written is removed
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RecsysError(f"{path} could not be written: {error}; {free}") from error
        raise


def save_vocabulary(folder: Path, stem: str, vocabulary: Vocabulary) -> None:
    """Write the arrays of a vocabulary as `stem`_blob.npy, _ends.npy, _hashes.npy and _order.npy."""
    for part in _VOCABULARY_PARTS:
        np.save(folder / f"{stem}_{part}.npy", getattr(vocabulary, part), allow_pickle=False)


def open_vocabulary(folder: Path, stem: str) -> Vocabulary:
    """Open what save_vocabulary wrote, memory-mapped. Raises OSError or ValueError as numpy does."""
    parts = {part: open_array(folder / f"{stem}_{part}.npy") for part in _VOCABULARY_PARTS}
    return Vocabulary(**parts)


_VOCABULARY_PARTS = ("blob", "ends", "hashes", "order")


def open_array(path: Path) -> Any:
    """Open a .npy file, memory-mapped and read-only; never a pickle."""
    # A plain array over the same pages: every slice of a memmap costs some microseconds more.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _seal(folder: Path, values: dict[str, Any]) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)} for path in paths
    }
    for path in paths:
        _sync(path)
    write_manifest(folder, {**values, "files": files})
    for path in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        _sync_folder(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(values: dict[str, Any]) -> str:
    """The sha256 of JSON values, however they are spaced."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _free_space(parent: Path) -> str:
    try:
        return f"{shutil.disk_usage(parent).free:,} bytes are free there"
    except OSError:
        return "the disk cannot be asked for its free space"


def _fingerprint(folder: Path, files: dict[str, Any]) -> str:
    digest = hashlib.sha256((folder / MANIFEST).read_bytes())
    for name in sorted(files):
        state = (folder / name).stat()
        # ctime cannot be set back by a program, mtime can.
        seen = (name, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        digest.update(repr(seen).encode())
    return digest.hexdigest()


def _marker(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"recsys-verified-{os.getuid()}" / name


def _is_remembered(marker: Path, fingerprint: str) -> bool:
    try:
        # A folder that somebody else made in the shared temporary folder proves nothing.
        return marker.parent.stat().st_uid == os.getuid() and marker.read_text(encoding="utf-8") == fingerprint
    except OSError:
        return False


def _remember(marker: Path, fingerprint: str) -> None:
    with suppress(OSError):  # a machine that cannot remember checks again
        marker.parent.mkdir(mode=0o700, exist_ok=True)
        if marker.parent.stat().st_uid == os.getuid():
            marker.write_text(fingerprint, encoding="utf-8")
