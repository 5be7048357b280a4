"""Text files as UTF-8: gzip, byte order marks and encodings are found and undone."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GZIP = b"\x1f\x8b"
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
MARK = "\ufeff"
SAMPLE_BYTES = 4096
PIECE_BYTES = 1024 * 1024
FEW_ZEROS, MANY_ZEROS = 0.05, 0.3
"""UTF-16 without a mark: more of its high bytes are zero than the second share, less of its low ones than the first."""
FALLBACK = "cp1252"
"""The encoding of old Windows software, which has all printable characters of Latin-1 at the same places."""


@dataclass(frozen=True)
class TextFile:
    """A text file that can be read.

    Attributes:
        path: Where it is.
        place: What messages call it.
        encoding: Its encoding, a name that Python knows.
        is_compressed: Whether it is compressed with gzip.
        size: Its bytes as it is stored.
    """

    path: Path
    place: str
    encoding: str
    is_compressed: bool
    size: int

    @contextmanager
    def open(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Open it as UTF-8 without a mark; the second file is the stored one, whose position is the progress."""
        with self.path.open("rb") as stored, _unpacked(stored, self.is_compressed) as plain:
            recoded: IO[bytes] = io.BufferedReader(_Recoded(plain, self.encoding), PIECE_BYTES)
            yield recoded, stored


def text_file(path: Path, place: str, given: str | None, fallback: str | None = None) -> TextFile:
    """Find out how a text file is compressed and encoded. All of it is read.

    Args:
        path: The file.
        place: What messages call it.
        given: The encoding that it is said to have.
        fallback: The encoding if none is given and the file is neither marked, nor UTF-16, nor valid UTF-8.

    Raises:
        ValueError: If the encoding is unknown or the content is not encoded so, naming the line; or if the file is
            damaged.
    """
    try:
        with path.open("rb") as file:
            is_compressed = file.read(len(GZIP)) == GZIP
        with path.open("rb") as stored, _unpacked(stored, is_compressed) as plain:
            sample = plain.read(SAMPLE_BYTES)
        encoding = _encoding(sample, given, place)
        try:
            _check(path, is_compressed, encoding, place)
        except UnicodeError as error:
            if given is not None or encoding != "utf-8" or fallback is None:
                raise ValueError(str(error)) from None
            encoding = fallback
            _check(path, is_compressed, encoding, place)
    except UnicodeError as error:
        raise ValueError(str(error)) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{place} is damaged: gzip cannot unpack it ({error}).") from None
    return TextFile(path, place, encoding, is_compressed, path.stat().st_size)


def _unpacked(stored: IO[bytes], is_compressed: bool) -> IO[bytes]:
    return gzip.GzipFile(fileobj=stored) if is_compressed else stored  # type: ignore[return-value]  # it is a file


def _encoding(sample: bytes, given: str | None, place: str) -> str:
    """Return the encoding that is given, that a mark tells, or that the first bytes look like."""
    marked = next((name for mark, name in MARKS.items() if sample.startswith(mark)), None)
    if given is None:
        return marked or _unmarked(sample)
    try:
        "".encode(given)
        name = codecs.lookup(given).name
    except (LookupError, ValueError):
        raise ValueError(
            f"encoding: Python knows no text encoding {given}; use a name such as utf-8 or cp1252."
        ) from None
    if name in ("utf-8-sig", "utf-16", "utf-32"):
        name = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[name]
        return marked if marked and marked[:6] == name[:6] else name
    if marked == "utf-8" and name != "utf-8":
        raise ValueError(f"{place} begins with the mark of UTF-8, but encoding= is {given}: leave encoding= out.")
    return name


def _unmarked(sample: bytes) -> str:
    half = max(len(sample) // 2, 1)
    even, odd = sample[0::2].count(0) / half, sample[1::2].count(0) / half
    if odd > MANY_ZEROS and even < FEW_ZEROS:
        return "utf-16-le"
    if even > MANY_ZEROS and odd < FEW_ZEROS:
        return "utf-16-be"
    return "utf-8"


def _check(path: Path, is_compressed: bool, encoding: str, place: str) -> None:
    """Raise `UnicodeError` if a file cannot be decoded."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with path.open("rb") as stored, _unpacked(stored, is_compressed) as plain:
        while True:
            piece = plain.read(PIECE_BYTES)
            try:
                line += decoder.decode(piece, final=not piece).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(encoding, errors="ignore").count("\n")
                wrong = error.object[error.start : error.start + 1].hex()
                raise UnicodeError(
                    f"{place}: line {line} is not {encoding}: the byte 0x{wrong} does not fit; pass encoding=, for "
                    'example encoding="cp1252" or "shift_jis".'
                ) from None
            if not piece:
                return


class _Recoded(io.RawIOBase):
    """A file as UTF-8 without a mark."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
        self._rest = b""
        self._is_first = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # `io` passes a memoryview
        while not self._rest:
            piece = self._file.read(len(buffer))
            self._rest = piece if self._decoder is None else self._decoder.decode(piece, final=not piece).encode()
            if self._is_first and self._rest:
                self._rest = self._rest.removeprefix(codecs.BOM_UTF8)
                self._is_first = False
            if not piece:
                break
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)
