"""The bytes of text files as UTF-8, a block at a time."""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .refusal import Refusal

# Bytes that are read at a time.
BLOCK = 1024 * 1024

_GZIP = b"\x1f\x8b"
_MARK = "\ufeff"
_CODECS = {"UTF-8": "utf-8", "ISO-8859-1": "latin-1"}


def to_utf8(file: Path, target: Path, encoding: str, *, controls: bool) -> None:
    """Write a text file as UTF-8, without byte order mark.

    Characters that cannot be decoded become U+FFFD, as in BigQuery.

    Args:
        file: The text file, perhaps compressed with gzip.
        target: Where to write it.
        encoding: BigQuery's name of its encoding.
        controls: Whether NUL is accepted.

    Raises:
        Refusal: If there is a NUL, and it is not accepted.
    """
    decoder = codecs.getincrementaldecoder(_CODECS.get(encoding, encoding))(errors="replace")
    with target.open("wb") as out:
        for number, block in enumerate(_blocks(file)):
            text = decoder.decode(block)
            if number == 0:
                text = text.removeprefix(_MARK)
            if "\0" in text and not controls:
                raise Refusal(
                    "Error while reading data, error message: Bad character (ASCII 0) encountered; set "
                    "preserveAsciiControlCharacters to load it"
                )
            out.write(text.encode())
        out.write(decoder.decode(b"", final=True).encode())


def _blocks(file: Path) -> Iterator[bytes]:
    with open_bytes(file) as stream:
        while block := stream.read(BLOCK):
            yield block


def open_bytes(file: Path) -> IO[bytes]:
    """Open a file, decompressed if it starts like gzip."""
    with file.open("rb") as stream:
        compressed = stream.read(len(_GZIP)) == _GZIP
    return gzip.open(file) if compressed else file.open("rb")  # type: ignore[return-value]  # gzip's own class of file
