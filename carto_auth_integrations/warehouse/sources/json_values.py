"""JSON values of a file, one after the other: numbers are exact, keys are unique, errors name the line."""

from __future__ import annotations

import io
import re
from decimal import Decimal
from json import JSONDecodeError, JSONDecoder
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Parse: TypeAlias = Callable[[str, int], tuple[Any, int]]
    """Returns the value that begins at an index of a text, and the index after it; raises `JSONDecodeError`."""

BLANK = re.compile("[ \t\n\r\x1e]*")
"""What is between values. RFC 8142 puts a record separator before each of a sequence."""
MEMBER = re.compile(r'[ \t\n\r]*"((?:[^"\\]|\\.)*)"[ \t\n\r]*:[ \t\n\r]*')
NEXT = re.compile(r"[ \t\n\r]*([,}])")
EMPTY = re.compile(r"\{[ \t\n\r]*\}")
"""Parts of an object that is read member by member: a key and its colon, what is after a value, and no member."""
PIECE_CHARACTERS = 1024 * 1024
CUT_CHARACTERS = 256
"""An error so near to the end of what has been read may be one of reading; further reading tells."""
FLOAT_CHARACTERS = 16
"""A number of so many characters with a point has at most 15 digits, which a double holds as they are written."""


def _number(text: str) -> float | Decimal:
    """Return a number with a point or an exponent: as a float if its shortest form is the same number."""
    value = float(text)
    if (len(text) <= FLOAT_CHARACTERS and "e" not in text.lower()) or repr(value) == text:
        return value
    exact = Decimal(text)
    return value if exact == Decimal(repr(value)) else exact


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is twice in one object: remove or rename one")
    return found


exact: Parse = JSONDecoder(parse_float=_number, object_pairs_hook=_unique).raw_decode
"""Floats are `Decimal` where a double would be another number."""
rough: Parse = JSONDecoder(parse_float=str, parse_int=str, object_pairs_hook=_unique).raw_decode
"""Numbers are text: the fastest where they do not matter."""


def object_parser(raw: frozenset[str]) -> Parse:
    """Return what parses an object into its members and its own text; those members of `raw` are left as text.

    Text is all that is needed of large geometries, and faster than lists of numbers. A value that is no object is
    returned as it is.
    """

    def parse(text: str, index: int) -> tuple[Any, int]:
        if not text.startswith("{", index) or EMPTY.match(text, index):
            return exact(text, index)
        found: list[tuple[str, Any]] = []
        begin, index = index, index + 1
        while True:
            member = MEMBER.match(text, index)
            if member is None:
                raise _no_member(text, index)
            name, start = member[1], member.end()
            if "\\" in name:
                name, _ = exact(f'"{name}"', 0)
            value, index = (rough if name in raw else exact)(text, start)
            found.append((name, text[start:index] if name in raw and value is not None else value))
            after = NEXT.match(text, index)
            if after is None:
                raise JSONDecodeError("Expecting ',' delimiter", text, _blank(text, index))
            index = after.end()
            if after[1] == "}":
                return (_unique(found), text[begin:index]), index

    return parse


def _no_member(text: str, index: int) -> JSONDecodeError:
    """Return the error for an object that has no key and colon at an index."""
    index = _blank(text, index)
    if not text.startswith('"', index):
        return JSONDecodeError("Expecting property name enclosed in double quotes", text, index)
    try:
        _, index = exact(text, index)
    except JSONDecodeError as error:
        return error
    return JSONDecodeError("Expecting ':' delimiter", text, _blank(text, index))


def _blank(text: str, index: int) -> int:
    found = BLANK.match(text, index)
    return found.end() if found else index


class Values:
    """Reads a file value by value; no more of it is in memory than the longest value.

    Args:
        file: The file, as UTF-8.
        place: What messages call it.

    Attributes:
        characters: How many have been read.
    """

    def __init__(self, file: IO[bytes], place: str) -> None:
        self.characters = 0
        self._file = io.TextIOWrapper(file, "utf-8", newline="")
        self._place = place
        self._text = ""
        self._index = 0
        self._line = 1

    def peek(self) -> str:
        """Return the next character that is not blank; none at the end."""
        while True:
            if self._text[self._index : self._index + 1] <= " ":  # or nothing at all
                self._index = _blank(self._text, self._index)
            if self._index < len(self._text):
                return self._text[self._index]
            if not self._fill():
                return ""

    def take(self, character: str) -> None:
        """Read a character.

        Raises:
            ValueError: If it is another one.
        """
        if self.peek() != character:
            found = repr(self.peek()) if self.peek() else "the end of the file"
            raise self.error(f"{found} where {character!r} should be")
        self._index += 1

    def value(self, parse: Parse = exact) -> Any:
        """Read a value.

        Raises:
            ValueError: If it is malformed, or has a key twice; the message names the line.
        """
        self.peek()
        while True:
            try:
                value, end = parse(self._text, self._index)
            except JSONDecodeError as error:
                if self._may_be_cut(error) and self._fill():
                    continue
                raise self._malformed(error) from None
            except ValueError as error:
                raise self.error(str(error)) from None
            except RecursionError:
                raise self.error("the value is nested too deeply") from None
            if end < len(self._text) or not self._fill():
                self._index = end
                return value

    def items(self, parse: Parse = exact) -> Iterator[Any]:
        """Read an array item by item."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value(parse)
            if self.peek() != ",":
                break
            self._index += 1
        self.take("]")

    def members(self) -> Iterator[str]:
        """Read an object key by key; its reader reads the value after each."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.error("a key in quotes should be here")
            key = self.value()
            self.take(":")
            yield key
            if self.peek() != ",":
                break
            self._index += 1
        self.take("}")

    def all(self, parse: Parse = exact) -> Iterator[Any]:
        """Read all values to the end of the file."""
        while self.peek():
            yield self.value(parse)

    def end(self) -> None:
        """Check that nothing comes any more.

        Raises:
            ValueError: If something does.
        """
        if self.peek():
            raise self.error(f"{self.peek()!r} where the file should end")

    def error(self, reason: str) -> ValueError:
        """Return the error for what is here."""
        return ValueError(f"{self._place}: line {self._line_of(self._index)}: {reason}.")

    def _line_of(self, index: int) -> int:
        return self._line + self._text.count("\n", 0, index)

    def _may_be_cut(self, error: JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - CUT_CHARACTERS

    def _malformed(self, error: JSONDecodeError) -> ValueError:
        begin, line = self._line_of(self._index), self._line_of(error.pos)
        column = error.pos - self._text.rfind("\n", 0, error.pos)
        of = "" if line == begin else f" of the value that begins in line {begin}"
        ended = ": the file ends here" if error.pos >= len(self._text.rstrip()) else ""
        return ValueError(f"{self._place}: line {line}, character {column}{of}: not JSON: {error.msg}{ended}.")

    def _fill(self) -> bool:
        rest = self._text[self._index :]
        piece = self._file.read(max(PIECE_CHARACTERS, len(rest)))
        if not piece:
            return False
        self._line = self._line_of(self._index)
        self._text, self._index = rest + piece, 0
        self.characters += len(piece)
        return True
