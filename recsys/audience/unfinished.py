"""What a run has done so far, in a file beside the one that it writes: a run that was killed goes on from there.

The file begins with a line of JSON that says which question it answers. Blocks of rows follow, each with its length and
checksum; what was only half written is cut off.
"""

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.data.folder import failpoint
from recsys.errors import RecsysError

_HEAD = struct.Struct("<II")  # bytes of a block, and their CRC-32


class Unfinished:
    """Blocks of rows that outlive the process."""

    def __init__(self, out: Path) -> None:
        """out: the file that the rows are for."""
        self._path = out.with_name(f".{out.name}.unfinished")
        self._end = 0  # of the last whole block

    def open(self, question: str, facts: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Go on with the same question, or begin. Returns the facts it was begun with, and whether it goes on.

        Blocks of another question are dropped. Raises RecsysError when the file cannot be written.
        """
        try:
            with self._path.open("rb") as file:
                head = json.loads(file.readline())
                if head["question"] == question:
                    self._end = file.tell()
                    for _ in self._read(file):
                        self._end = file.tell()
                    os.truncate(self._path, self._end)
                    return head["facts"], True
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        except OSError as error:
            raise RecsysError(f"{self._path} cannot be read: {error.strerror}") from error
        line = json.dumps({"question": question, "facts": facts}).encode() + b"\n"
        self._write(line, "wb")
        return facts, False

    def append(self, block: pa.Table) -> None:
        """Add a block, for good. Raises RecsysError when the disk is full."""
        buffer = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(buffer, block.schema, options=options) as writer:
            writer.write_table(block)
        body = buffer.getvalue()
        self._write(_HEAD.pack(len(body), zlib.crc32(body)) + body, "ab")
        failpoint("after block")

    def blocks(self) -> Iterator[pa.Table]:
        """All blocks, in the order they came."""
        with self._path.open("rb") as file:
            file.readline()
            yield from self._read(file)

    def remove(self) -> None:
        """Forget everything: the file is written."""
        self._path.unlink(missing_ok=True)

    def _read(self, file: Any) -> Iterator[pa.Table]:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            body = file.read(length)
            if len(body) < length or zlib.crc32(body) != checksum:
                return
            yield pa.ipc.open_stream(body).read_all()

    def _write(self, data: bytes, mode: str) -> None:
        try:
            with self._path.open(mode) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RecsysError(f"{self._path} could not be written: {error}") from error
