"""Text of any common encoding and line end as blocks of UTF-8 whose lines end with LF."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from recsys.errors import SourceError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ZEROS = 0.3  # of every second byte: text of Latin letters in UTF-16
_HEAD = 1 << 16
_ADVICE = "save it as UTF-8"
# In Windows-1252 letters with accents stand alone or in pairs; the words of other alphabets are bytes of this kind.
_HIGH, _RUNS = re.compile(rb"[\x80-\xff]"), re.compile(rb"[\x80-\xff]{3,}")


@dataclass
class Text:
    """A stream of bytes as text. Iterating yields blocks of UTF-8; the fields then say what was recognized."""

    stream: BinaryIO
    size: int  # bytes of a block, about
    encoding: str = "utf-8"
    has_bom: bool = False
    line_end: str = "LF"
    is_ascii: bool = True  # so far: which of the encodings it is was not to be told
    _first: bytes = field(default=b"", repr=False)

    @property
    def encoding_name(self) -> str:
        """The encoding as people write it."""
        name = {"cp1252": "Windows-1252 (Latin-1)"}.get(self.encoding, self.encoding.upper())
        return f"{name} with a byte order mark" if self.has_bom else name

    def __iter__(self) -> Iterator[bytes]:
        decoder = None if self.encoding == "utf-8" else codecs.getincrementaldecoder(self.encoding)("replace")
        held, chunk = b"", self._first
        while chunk:
            following = self.stream.read(self.size)
            block = chunk if decoder is None else self._decode(decoder, chunk, is_end=not following)
            if decoder is None and self.is_ascii and not block.isascii():
                block, decoder = self._meet_letters(block, is_end=not following)
            block = held + block
            held = b""
            if following and block.endswith(b"\r"):  # the LF that belongs to it may begin the next block
                block, held = block[:-1], b"\r"
            yield self._end_lines(block)
            chunk = following

    def _decode(self, decoder: codecs.IncrementalDecoder, chunk: bytes, *, is_end: bool) -> bytes:
        text = decoder.decode(chunk, is_end)
        if not text.isascii():
            self.is_ascii = False
        return text.encode("utf-8", "replace")

    def _meet_letters(self, block: bytes, *, is_end: bool) -> tuple[bytes, codecs.IncrementalDecoder | None]:
        """Decide by the first block with bytes beyond ASCII whether the text is UTF-8, and else Windows-1252."""
        end = len(block) if is_end else max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        whole = block[:end]  # the block may end within a letter
        if whole.isascii():
            return block, None
        self.is_ascii = False
        text = whole.decode("utf-8", "surrogateescape")
        wrong = len(re.findall(r"[\udc80-\udcff]", text))
        right = len(re.findall(r"[^\x00-\x7f\udc80-\udcff]", text))
        if right >= wrong:
            return block, None
        if sum(map(len, _RUNS.findall(whole))) > len(_HIGH.findall(whole)) / 2:
            raise SourceError(f"its text is of an alphabet other than the Latin one, in an old encoding; {_ADVICE}")
        try:
            whole.decode("cp1252")
        except UnicodeDecodeError:
            raise SourceError(f"its text is neither UTF-8, UTF-16 nor Windows-1252 (Latin-1); {_ADVICE}") from None
        self.encoding = "cp1252"
        decoder = codecs.getincrementaldecoder("cp1252")("replace")
        return self._decode(decoder, block, is_end=is_end), decoder

    def _end_lines(self, block: bytes) -> bytes:
        if b"\r" not in block:
            return block
        block = block.replace(b"\r\n", b"\n")
        return block.replace(b"\r", b"\n") if self.line_end == "CR" else block


def open_text(stream: BinaryIO, size: int) -> Text:
    """Recognize a text's encoding and line ends by its beginning.

    Raises SourceError when the bytes are no text.
    """
    first = stream.read(max(size, _HEAD))
    text = Text(stream, size)
    for bom, encoding in _BOMS:
        if first.startswith(bom):
            text.encoding, text.has_bom, first = encoding, True, first[len(bom) :]
            break
    else:
        text.encoding = _without_bom(first[:_HEAD])
    text._first = first
    head = first[:_HEAD].decode(text.encoding, "replace")
    if "\0" in head:
        raise SourceError(f"it is no text: it holds NUL bytes; {_ADVICE}")
    bare = re.sub(r'"[^"]*+"', "", head)
    both = bare.count("\r\n")
    ends = {"LF": bare.count("\n") - both, "CRLF": both, "CR": bare.count("\r") - both}
    text.line_end = max(ends, key=lambda name: ends[name])
    return text


def _without_bom(head: bytes) -> str:
    """UTF-16 of Latin letters has a zero in every second byte."""
    half = len(head) // 2
    if half and head[1::2].count(0) > _ZEROS * half and head[0::2].count(0) < head[1::2].count(0) / 10:
        return "utf-16-le"
    if half and head[0::2].count(0) > _ZEROS * half and head[1::2].count(0) < head[0::2].count(0) / 10:
        return "utf-16-be"
    return "utf-8"
