"""Read CSV files and their kin as they are written: no value is guessed from the first rows."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal, TypedDict

from ..packages import required
from .base import Chunk, Source
from .declared import field_of, kind_of
from .kinds import Kind, read, without_empty
from .names import valid_names
from .texts import FALLBACK, TextFile, text_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow

    from ..options import LoadOptions


DELIMITERS = (",", ";", "\t", "|")
BY_EXTENSION = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
HEAD_CHARACTERS = 1024 * 1024
"""Characters at the beginning of a file in which its header has to end."""
SAMPLE_RECORDS = 100
"""Records by which the delimiter is found."""
BLOCK_BYTES = 4 * 1024 * 1024
MOST_BLOCK_BYTES = 128 * 1024 * 1024
"""Bytes of the longest record; BigQuery takes 100 MB: https://cloud.google.com/bigquery/quotas#load_jobs"""
END = "\x1aend\x1a"
"""A record of this text follows the last one of a file: where it is missing, a quote was not closed."""
KEEPS_EMPTY = ("STRING", "BYTES")


class _Dialect(TypedDict):
    delimiter: str
    quotechar: str | None
    quoting: Literal[0, 3]


@dataclass
class _Table:
    """A file, and how its rows are written.

    Attributes:
        file: The file.
        dialect: How its rows are split into fields, in the words of `csv`.
        names: Its columns.
        start: Where its data begin, in bytes of UTF-8.
        first_line: The line in which its data begin.
        block_bytes: Bytes that are read at once; a record has to fit.
        quotes_are_checked: Whether all its quotes are known to be right.
    """

    file: TextFile
    dialect: _Dialect
    names: list[str]
    start: int
    first_line: int
    block_bytes: int
    quotes_are_checked: bool = False

    @property
    def has_one_column(self) -> bool:
        """Whether an empty line is a row: it holds a NULL."""
        return len(self.names) == 1


@dataclass
class _Progress:
    """Bytes that were read in both passes over all files."""

    done: int = 0
    current: IO[bytes] | None = None

    def position(self) -> int:
        return (self.done + (self.current.tell() if self.current else 0)) // 2


@dataclass
class _Invalid:
    """The row that ended the reading, if one did, and how many rows were read before."""

    rows: int = 0
    found: list[pyarrow.csv.InvalidRow] = field(default_factory=list)

    def handle(self, row: pyarrow.csv.InvalidRow) -> str:
        self.found.append(row)
        return "error"


def open_delimited(files: Sequence[tuple[Path, str]], options: LoadOptions) -> Source:
    """Open CSV files as one table. Columns belong together by name; one that a file does not have is NULL there.

    Encoding, compression and delimiter are found for each file. Types are decided over all files by the rules of
    `kinds.Kind`. An empty field is NULL; a quoted empty field is an empty text in a STRING column, and NULL in others.
    An empty line is no row, except in a file of one column, where it is a NULL. Columns whose type an option names are
    handed over as text.

    Args:
        files: Paths, and what messages call them.
        options: How they are read.

    Raises:
        ValueError: If a header is missing, has an empty name or one twice, the delimiter is not clear, the encoding
            does not fit, or an option names a column that is not there. Reading the chunks raises one for a row that is
            too short or too long and for a quote that is not closed, naming the line.
    """
    _check_characters(options)
    tables = [_table(path, place, options) for path, place in files]
    names = list(dict.fromkeys(itertools.chain.from_iterable(table.names for table in tables)))
    if not options.header:
        _check_widths(tables)
    given = _given_types(names, options)
    progress = _Progress()
    found = {
        "format": "CSV",
        "delimiter": _common(table.dialect["delimiter"] for table in tables),
        "encoding": _common(table.file.encoding for table in tables),
        "compression": _common("gzip" if table.file.is_compressed else "none" for table in tables),
        "header": options.header,
    }
    size = sum(table.file.size for table in tables)
    return Source(_chunks(tables, names, given, options, progress), found, size, progress.position)


def _common(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _check_characters(options: LoadOptions) -> None:
    delimiter = _unescaped(options.delimiter)
    for name, value in (("delimiter", delimiter), ("quote", options.quote)):
        if value and (len(value) > 1 or not value.isascii() or value in "\r\n"):
            raise ValueError(f"{name}={value!r}: it has to be one ASCII character.")
    if delimiter == "" or (delimiter and delimiter == options.quote):
        raise ValueError(f"delimiter={options.delimiter!r} cannot split fields: it has to be one character.")
    if options.skip_rows < 0:
        raise ValueError(f"skip_rows={options.skip_rows}: it has to be 0 or more.")


def _unescaped(delimiter: str | None) -> str | None:
    r"""Return a delimiter; `\t`, as it is written on a command line, is a tab."""
    return "\t" if delimiter == "\\t" else delimiter


def _check_widths(tables: Sequence[_Table]) -> None:
    for table in tables[1:]:
        if len(table.names) != len(tables[0].names):
            raise ValueError(
                f"{table.file.place} has {len(table.names)} columns, {tables[0].file.place} has "
                f"{len(tables[0].names)}: without a header, all files need the same columns."
            )


def _given_types(names: Sequence[str], options: LoadOptions) -> dict[str, str]:
    """Return the types that options name, by the names that columns have in the files.

    Raises:
        ValueError: If there is no such column.
    """
    meant = dict(zip(names, valid_names(names, "sanitize"), strict=True)) if options.column_names == "sanitize" else {}
    types = {each.name: kind_of(each.to_api_repr()) for each in options.schema or ()}
    types |= {name: kind_of(field_of(name, text)) for name, text in (options.column_types or {}).items()}
    for name in options.column_types or ():
        if name not in names and name not in meant.values():
            raise ValueError(f"column_types: there is no column {name}; the columns are {', '.join(names)}.")
    types |= dict.fromkeys(options.geometry_columns, "GEOGRAPHY")
    given = {name: types.get(name) or types.get(meant.get(name, name)) for name in names}
    return {name: kind for name, kind in given.items() if kind}


def _table(path: Path, place: str, options: LoadOptions) -> _Table:
    """Find out how a file is written."""
    file = text_file(path, place, options.encoding, FALLBACK)
    with file.open() as (stream, _):
        head = io.TextIOWrapper(stream, "utf-8", newline="").read(HEAD_CHARACTERS)
    lines = list(io.StringIO(head, newline=""))
    skipped = options.skip_rows
    while skipped < len(lines) and not lines[skipped].strip("\r\n"):
        skipped += 1
    if skipped >= len(lines):
        raise ValueError(f"{place} has no line after the first {options.skip_rows}: there is nothing to load.")
    is_whole = len(head) < HEAD_CHARACTERS
    delimiter = _unescaped(options.delimiter) or _delimiter(lines[skipped:], path.name, place, options, is_whole)
    dialect = _dialect(delimiter, options)
    reader = _records(lines[skipped:], dialect)
    first = next(reader, ([], 0))[0]
    used = skipped + _lines_of_first(lines[skipped:], dialect) if options.header else skipped
    if options.header and used >= len(lines) and not is_whole:
        raise ValueError(f"{place}: the header does not end in its first {HEAD_CHARACTERS} characters: check quote=.")
    names = _header(first, skipped + 1, place) if options.header else [f"column_{n + 1}" for n in range(len(first))]
    return _Table(file, dialect, names, len("".join(lines[:used]).encode()), used + 1, BLOCK_BYTES)


def _dialect(delimiter: str, options: LoadOptions) -> _Dialect:
    return {
        "delimiter": delimiter,
        "quotechar": options.quote or None,
        "quoting": csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
    }


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let `csv` read fields of any length: its limit is one for the whole process."""
    limit = csv.field_size_limit(max(csv.field_size_limit(), MOST_BLOCK_BYTES))
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _records(lines: Sequence[str] | IO[str], dialect: _Dialect) -> Iterator[tuple[list[str], int]]:
    """Yield the records of some lines, each with the number of the line in which it begins."""
    reader = csv.reader(lines, **dialect)
    begin = 1
    while True:
        try:
            with _long_fields():
                record = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"line {begin} of the data cannot be read as CSV: {error}.") from None
        if record is None:
            return
        yield record, begin
        begin = reader.line_num + 1


def _lines_of_first(lines: Sequence[str], dialect: _Dialect) -> int:
    begins = [begin for _, begin in itertools.islice(_records(lines, dialect), 2)]
    return begins[1] - 1 if len(begins) > 1 else len(lines)


def _header(record: Sequence[str], line: int, place: str) -> list[str]:
    where = f"{place}: the header (line {line})"
    advice = "name the columns, or pass header=False or skip_rows="
    if empty := [str(index + 1) for index, name in enumerate(record) if not name.strip()]:
        raise ValueError(f"{where} has no name for column {', '.join(empty)}: {advice}.")
    if twice := [name for name, count in Counter(record).items() if count > 1]:
        raise ValueError(f"{where} names several columns {', '.join(twice)}: rename them, or pass header=False.")
    return list(record)


def _delimiter(lines: Sequence[str], name: str, place: str, options: LoadOptions, is_whole: bool) -> str:
    """Return the delimiter that splits the first records into equally many fields.

    Raises:
        ValueError: If several do.
    """
    shares: dict[str, float] = {}
    for delimiter in DELIMITERS:
        records = (record for record, _ in _records(lines, _dialect(delimiter, options)))
        widths = [len(record) for record in itertools.islice(records, SAMPLE_RECORDS) if record]
        if len(widths) > 1 and len(widths) < SAMPLE_RECORDS and not is_whole:
            widths.pop()
        width = widths[0] if options.header else Counter(widths).most_common(1)[0][0]
        shares[delimiter] = widths.count(width) / len(widths) if width > 1 else 0.0
    best = max(shares.values())
    if best == 0.0:
        return DELIMITERS[0]
    equal = [delimiter for delimiter, share in shares.items() if share == best]
    usual = BY_EXTENSION.get("." + name.lower().removesuffix(".gz").rpartition(".")[2])
    if len(equal) > 1 and usual not in equal:
        raise ValueError(f"{place}: the delimiter may be {' or '.join(map(repr, equal))}: pass delimiter=.")
    return usual if usual in equal else equal[0]


def _chunks(
    tables: Sequence[_Table],
    names: Sequence[str],
    given: Mapping[str, str],
    options: LoadOptions,
    progress: _Progress,
) -> Iterator[Chunk]:
    """Read the files twice: to find the types, and to convert the values."""
    arrow = required("pyarrow")
    found = {name: Kind() for name in names if name not in given}
    for table in tables:
        nothing = arrow.RecordBatch.from_arrays([arrow.nulls(0)] * len(table.names), names=table.names)
        for batch in _first_pass(table, options, progress):
            for name, texts in zip(batch.schema.names, batch.columns, strict=True):
                if name in found:
                    found[name].add(texts)
            yield Chunk(nothing, place=table.file.place)  # so that the progress is seen to move
    types = {name: kind.type() for name, kind in found.items()}
    for table in tables:
        row = 1
        for batch in _batches(table, options, progress):
            columns = [
                _convert(texts, given.get(name), types.get(name))
                for name, texts in zip(batch.schema.names, batch.columns, strict=True)
            ]
            yield Chunk(arrow.RecordBatch.from_arrays(columns, names=batch.schema.names), row, table.file.place)
            row += len(batch)


def _convert(texts: pyarrow.StringArray, given: str | None, found: pyarrow.DataType | None) -> pyarrow.Array:
    if found is not None:
        return read(texts, found)
    return texts if given in KEEPS_EMPTY else without_empty(texts)


def _first_pass(table: _Table, options: LoadOptions, progress: _Progress) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of a file, some of them twice if a record is longer than the blocks so far."""
    while True:
        try:
            yield from _batches(table, options, progress)
        except _TooLong:
            table.block_bytes *= 2
        else:
            return


class _TooLong(Exception):
    """A record is longer than the blocks that are read."""


def _batches(table: _Table, options: LoadOptions, progress: _Progress) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of a file as text."""
    arrow = required("pyarrow")
    invalid, is_complete = _Invalid(), False
    with table.file.open() as (stream, stored):
        stream.read(table.start)
        body = _Body(stream, table)
        progress.current = stored
        try:
            for batch in _reader(table, body, options, invalid):
                rows = len(batch)
                is_complete = rows > 0 and all(column[rows - 1].as_py() == END for column in batch.columns)
                yield batch.slice(0, rows - 1) if is_complete else batch
                invalid.rows += rows
        except arrow.ArrowInvalid as error:
            if "straddling" in str(error) and table.block_bytes < MOST_BLOCK_BYTES:
                raise _TooLong from None
            raise _error(table, invalid, str(error)) from None
        finally:
            progress.current = None
        progress.done += table.file.size
    if body.has_stray_quote and not table.quotes_are_checked:
        _check_quotes(table)
    if not is_complete:
        raise _unclosed(table, invalid.rows)


def _reader(table: _Table, body: _Body, options: LoadOptions, invalid: _Invalid) -> pyarrow.csv.CSVStreamingReader:
    arrow, reading = required("pyarrow"), required("pyarrow.csv")
    quote = table.dialect["quotechar"]
    markers = {"", options.null_marker or ""}
    return reading.open_csv(
        body,
        read_options=reading.ReadOptions(column_names=table.names, block_size=table.block_bytes, use_threads=False),
        parse_options=reading.ParseOptions(
            delimiter=table.dialect["delimiter"],
            quote_char=quote or False,
            newlines_in_values=bool(quote),
            ignore_empty_lines=not table.has_one_column,
            invalid_row_handler=invalid.handle,
        ),
        convert_options=reading.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(table.names, arrow.string()),
            null_values=sorted(markers),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


class _Body(io.RawIOBase):
    """The data of a file, with the record `END` after them.

    Attributes:
        has_stray_quote: Whether a quote is between other characters, where it neither opens nor closes a field.
    """

    def __init__(self, file: IO[bytes], table: _Table) -> None:
        delimiter, quote = table.dialect["delimiter"], table.dialect["quotechar"]
        self.has_stray_quote = False
        self._file = file
        self._end = delimiter.join([END] * len(table.names)).encode()
        self._quote = (quote or "").encode()
        self._may_be_beside = f"{delimiter}{quote}\r\n".encode()
        self._last = b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        if not piece:
            end = self._end if self._last[-1:] in b"\r\n" else b"\n" + self._end
            self._end = self._last = b""
            return end
        if self._quote and not self.has_stray_quote and self._quote in piece:
            self.has_stray_quote = self._is_stray(self._last + piece)
        self._last = piece[-2:]
        return piece

    def _is_stray(self, data: bytes) -> bool:
        numpy = required("numpy")
        characters = numpy.frombuffer(data, numpy.uint8)
        usual = numpy.isin(numpy.arange(256), list(self._may_be_beside))
        quotes = numpy.flatnonzero(characters[1:-1] == self._quote[0]) + 1
        return bool((~usual[characters[quotes - 1]] & ~usual[characters[quotes + 1]]).any())


def _check_quotes(table: _Table) -> None:
    """Raise if a quoted field goes on after its closing quote; in an unquoted one, quotes are text."""
    with table.file.open() as (stream, _):
        stream.read(table.start)
        lines = io.TextIOWrapper(stream, "utf-8", newline="")
        reader = csv.reader(lines, **table.dialect, strict=True)
        try:
            with _long_fields():
                for _record in reader:
                    pass
        except csv.Error as error:
            raise ValueError(
                f"{table.file.place}: line {table.first_line + reader.line_num - 1}: a quoted field goes on after its "
                f"closing quote ({error}): double the quotes inside of fields, or pass quote=."
            ) from None
    table.quotes_are_checked = True


def _error(table: _Table, invalid: _Invalid, text: str) -> ValueError:
    place = table.file.place
    if not invalid.found:
        line = _line(table, invalid.rows)
        reason = "a record is longer than 128 MB, or a quote is not closed" if "straddling" in text else text
        return ValueError(f"{place}: line {line} or later: {reason}.")
    row = invalid.found[0]
    number = invalid.rows if row.number is None else row.number
    if END in row.text:
        return _unclosed(table, number)
    fields = f"{row.actual_columns} field{'s' * (row.actual_columns != 1)}"
    against = "the header has" if table.first_line > 1 else "the first one has"
    return ValueError(
        f"{place}: line {_line(table, number)} has {fields}, {against} {row.expected_columns}: correct it, or check "
        "delimiter=, quote= and skip_rows=."
    )


def _unclosed(table: _Table, record: int) -> ValueError:
    return ValueError(
        f"{table.file.place}: line {_line(table, record)}: a quote is not closed before the file ends: close it, or "
        "pass quote=."
    )


def _line(table: _Table, record: int) -> int:
    """Return the line in which a record begins; the first one is 1."""
    with table.file.open() as (stream, _):
        stream.read(table.start)
        count = 0
        for fields, begin in _records(io.TextIOWrapper(stream, "utf-8", newline=""), table.dialect):
            count += bool(fields) or table.has_one_column
            if count == record:
                return table.first_line + begin - 1
    return table.first_line
