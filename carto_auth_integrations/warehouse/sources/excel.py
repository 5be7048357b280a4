"""Read sheets of Excel workbooks."""

from __future__ import annotations

import datetime
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from ..packages import required
from .base import Chunk, Source
from .reading import CHUNK_ROWS, guarded, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from ..options import LoadOptions

    Cell: TypeAlias = Any
    """A cell of openpyxl, whose packages have no types."""
    Worksheet: TypeAlias = Any

ERRORS = (EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What openpyxl raises for damaged files: it has few errors of its own, and those of XML are syntax errors."""
MIDNIGHT = datetime.time()
FORMULA = (b"<f>", b"<f ", b"<f/")
"""How a formula begins in the XML of a sheet."""


@dataclass
class _Sheet:
    """What the first pass over a sheet finds.

    Attributes:
        names: Column names by index; columns without a value anywhere are not in it.
        first_row: The row of the first data.
        last_row: The last row that has a value.
        times: Columns whose dates have a time of day, or a number format that shows one.
    """

    names: dict[int, str] = field(default_factory=dict)
    first_row: int = 1
    last_row: int = 0
    times: set[int] = field(default_factory=set)


def open_excel(path: Path, place: str, options: LoadOptions) -> Source:
    """Open a sheet of a workbook. Rows are called by their numbers in the sheet.

    A column of dates is a DATE if none of its cells has a time of day or a number format that shows one; otherwise all
    of it is DATETIME. A formula stands for the value that Excel stored last, an empty text for NULL. Columns without
    any value are left out, and so are empty rows at the end.

    Raises:
        ValueError: If the file is damaged, has several sheets with values and none is named, or a cell holds an error
            or a formula without a value.
    """
    openpyxl = required("openpyxl", "files")
    try:
        with catch_warnings():
            simplefilter("ignore")  # about styles and extensions, which do not matter here
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        has_formulas = _has_formulas(path)
        formulas = openpyxl.load_workbook(path, read_only=True) if has_formulas else None
    except ERRORS as error:
        raise unreadable(place, "an Excel workbook", error) from None
    name = _sheet_name(book, place, options)
    where = f"{place}: sheet {name}"
    sheet = _scanned(book[name], formulas[name] if formulas else None, where, options)
    size, counted = path.stat().st_size, [0]

    def chunks() -> Iterator[Chunk]:
        rows: list[dict[str, object]] = []
        first = sheet.first_row
        for number, values in _rows(book[name], where, values_only=True):
            if number < sheet.first_row:
                continue
            if number > sheet.last_row:
                break
            rows.append({each: _value(values, index, sheet) for index, each in sheet.names.items()})
            counted[0] = number
            if len(rows) == CHUNK_ROWS:
                yield Chunk(rows, first, where)
                first, rows = number + 1, []
        if rows:
            yield Chunk(rows, first, where)
        elif first == sheet.first_row:
            yield Chunk([(each, list[object]()) for each in sheet.names.values()], first, where)
        book.close()

    found = {"format": "EXCEL", "layer": name, "header": options.header}
    return Source(chunks(), found, size, lambda: size * counted[0] // max(sheet.last_row, 1))


def _sheet_name(book: Any, place: str, options: LoadOptions) -> str:
    """Return the sheet that is meant: the named one, or the only one that has values."""
    names = [sheet.title for sheet in book.worksheets]
    if options.layer is not None:
        if options.layer not in names:
            raise ValueError(f"{place} has no sheet {options.layer}: pass layer= with one of {', '.join(names)}.")
        return options.layer
    filled = [sheet.title for sheet in book.worksheets if any(_is_filled(cells) for _, cells in _rows(sheet, place))]
    if not filled:
        raise ValueError(f"{place} has no values in any sheet: there is nothing to load.")
    if len(filled) > 1:
        raise ValueError(f"{place} has several sheets with values: name one with layer=, one of {', '.join(filled)}.")
    return str(filled[0])


def _rows(sheet: Worksheet, where: str, *, values_only: bool = False) -> Iterator[tuple[int, Sequence[Cell]]]:
    """Return the rows of a sheet with their numbers. What the file says about its own size is often wrong."""
    sheet.reset_dimensions()
    rows = guarded(sheet.iter_rows(values_only=values_only), where, "a sheet of Excel", ERRORS)
    return enumerate(rows, start=1)


def _is_filled(cells: Sequence[Cell]) -> bool:
    return any(cell.value is not None for cell in cells)


def _scanned(sheet: Worksheet, formulas: Worksheet | None, where: str, options: LoadOptions) -> _Sheet:
    """Read a sheet once: check its cells, and find its columns, its end, and which of them hold dates alone."""
    found = _Sheet(first_row=options.skip_rows + (2 if options.header else 1))
    header: Sequence[Cell] = ()
    used: set[int] = set()
    other = _rows(formulas, where) if formulas else iter(())
    for number, cells in _rows(sheet, where):
        _, asked = next(other, (number, ()))
        if number == found.first_row - 1 and options.header:
            header = cells
        if number <= options.skip_rows:
            continue
        for index, cell in enumerate(cells):
            _check(cell, asked[index] if index < len(asked) else None, where)
            if cell.value is not None:
                found.last_row = number
                used.add(index)
                if number >= found.first_row and _has_time(cell):
                    found.times.add(index)
    if not used:
        raise ValueError(f"{where} has no values after row {options.skip_rows}: there is nothing to load.")
    found.names = _names(header, used, where) if options.header else {n: f"column_{n + 1}" for n in sorted(used)}
    return found


def _names(header: Sequence[Cell], used: set[int], where: str) -> dict[int, str]:
    """Return the column names of a header."""
    names: dict[int, str] = {}
    letter = required("openpyxl.utils", "files").get_column_letter
    for index in sorted(used):
        value = header[index].value if index < len(header) else None
        cell = f"{where}: the header of column {letter(index + 1)}"
        if value is None or not str(value).strip():
            raise ValueError(f"{cell} is empty: name the column, clear it, or pass skip_rows= or header=False.")
        if isinstance(value, (bool, datetime.date, datetime.time)):
            raise ValueError(f"{cell} is {value}, not text: correct it, or pass skip_rows= or header=False.")
        if str(value) in names.values():
            raise ValueError(f"{cell} is {value}, which is the name of another column too: rename one of them.")
        names[index] = str(value)
    return names


def _check(cell: Cell, formula: Cell, where: str) -> None:
    """Raise if a cell holds an error, or a formula whose value is not in the file."""
    if cell.value is not None and cell.data_type == "e":
        raise ValueError(f"{where}: cell {cell.coordinate} holds the error {cell.value}: correct or clear it.")
    is_formula = formula is not None and formula.value is not None and formula.data_type == "f"
    if is_formula and cell.value is None and cell.data_type not in ("s", "str"):  # those hold an empty text
        raise ValueError(
            f"{where}: cell {formula.coordinate} holds a formula without its value: open the workbook in Excel, and "
            "save it."
        )


def _has_time(cell: Cell) -> bool:
    """Whether a cell holds a date with a time of day, or one whose number format shows a time."""
    if not isinstance(cell.value, datetime.datetime):
        return False
    shows = required("openpyxl.styles.numbers", "files").is_datetime(cell.number_format)
    return bool(cell.value.time() != MIDNIGHT or shows != "date")


def _value(values: Sequence[object], index: int, sheet: _Sheet) -> object:
    value: object = values[index] if index < len(values) else None
    if isinstance(value, datetime.datetime) and index not in sheet.times:
        return value.date()
    return value


def _has_formulas(path: Path) -> bool:
    """Whether a sheet of a workbook holds a formula, which takes a second look at each of its cells."""
    with zipfile.ZipFile(path) as archive:
        return any(_contains(archive, name) for name in archive.namelist() if name.startswith("xl/worksheets/"))


def _contains(archive: zipfile.ZipFile, name: str) -> bool:
    piece_bytes, overlap = 1024 * 1024, max(map(len, FORMULA))
    with archive.open(name) as file:
        rest = b""
        while piece := file.read(piece_bytes):
            if any(each in rest + piece for each in FORMULA):
                return True
            rest = piece[-overlap:]
    return False
