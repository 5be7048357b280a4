"""Formats of files, told by option, by name and by content."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = {
    **dict.fromkeys((".csv", ".tsv", ".psv", ".txt"), "CSV"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "JSON"),
    **dict.fromkeys((".geojson", ".geojsonl", ".geojsons", ".geojsonseq"), "GEOJSON"),
    **dict.fromkeys((".parquet", ".pq", ".geoparquet"), "PARQUET"),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), "ARROW"),
    ".avro": "AVRO",
    **dict.fromkeys((".xlsx", ".xlsm", ".xltx"), "EXCEL"),
    **dict.fromkeys((".shp", ".shz", ".dbf", ".gpkg", ".gdb", ".kml", ".kmz", ".fgb", ".tab", ".mif"), "VECTOR"),
    **dict.fromkeys((".gml", ".gpx", ".sqlite", ".topojson", ".dxf"), "VECTOR"),
}
"""Formats by file extension. ARROW is no choice of `format=`: Arrow files are told by their content."""
TEXT_FORMATS = frozenset({"CSV", "JSON", "GEOJSON"})
"""Formats whose readers also take gzip."""
DIRECTORY_FORMATS = (".gdb",)
MAGIC = {
    b"PAR1": "PARQUET",
    b"Obj\x01": "AVRO",
    b"ARROW1": "ARROW",
    b"\xff\xff\xff\xff": "ARROW",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "ZIP",
    b"PK\x05\x06": "an empty ZIP archive",
    b"SQLite format 3\x00": "VECTOR",
    b"fgb\x03fgb": "VECTOR",
    b"!table": "VECTOR",
    b"!TABLE": "VECTOR",
    b"\x00\x00\x27\x0a": "VECTOR",
    b"\xd0\xcf\x11\xe0": "an old or encrypted Office document",
    b"ORC": "ORC",
    b"PARE": "encrypted Parquet",
    b"FEA1": "Feather version 1",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf": "7-Zip",
    b"%PDF": "PDF",
}
"""Formats by the first bytes of their files; those that are not of `FORMATS` are for messages."""
MAGIC_BYTES = 512
INSTEAD = {
    ".xls": "load(pandas.read_excel({name!r}), …), with pip install xlrd",
    ".xlsb": "load(pandas.read_excel({name!r}), …), with pip install pyxlsb",
    ".ods": "load(pandas.read_excel({name!r}), …), with pip install odfpy",
    ".orc": "load(pyarrow.orc.read_table({name!r}), …)",
    ".dta": "load(pandas.read_stata({name!r}), …)",
    ".sav": "load(pandas.read_spss({name!r}), …), with pip install pyreadstat",
    ".sas7bdat": "load(pandas.read_sas({name!r}), …)",
    ".xml": "load(pandas.read_xml({name!r}), …)",
    ".html": "load(pandas.read_html({name!r})[0], …)",
    **dict.fromkeys((".bz2", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz"), "unpack it, and load what is inside"),
    ".h5": "load(pandas.read_hdf({name!r}), …)",
    **dict.fromkeys((".tif", ".tiff", ".nc", ".jp2"), "it is a raster: CARTO's raster-loader loads it"),
}
"""What to do with files that are not read here, by extension."""
ABOUT = ("readme", "license", "licence", "metadata")
"""Names of text files in archives that are about the data."""
ARCHIVED_PARTS = (".shp", ".tab", ".mif")
"""Formats of several files, which GDAL reads inside an archive."""


def format_of(path: Path, place: str | None = None, named: str | None = None) -> str:
    """Return the format of a file: one of `FORMATS`, or `ZIP` for an archive whose member is the file that is meant.

    Args:
        path: The file.
        place: What messages call it.
        named: The format that `format=` names; it is stronger than the extension.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, its format is unknown, or its first bytes are of another format.
    """
    place = place or str(path)
    if is_directory_format(path):
        return "VECTOR"
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {place}: check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{place} is empty: there is nothing to load.")
    content = _content(path)
    expected = named.upper() if named else _named_by_extension(path, place, content)
    if expected is None:
        return content or ""
    if content == "ZIP" and expected != "VECTOR" and _extension(path.name) not in FORMATS:
        return "ZIP"
    if not _agree(expected, content):
        said = f"{place} is not {expected}, as its extension or format= says"
        raise ValueError(f"{said}: its content is {content or 'another format'}.{_advice(content, expected)}")
    return expected


def is_directory_format(path: Path) -> bool:
    """Whether a directory is one source, as a file geodatabase is."""
    return path.suffix.lower() in DIRECTORY_FORMATS and path.is_dir()


def members_of(path: Path, place: str) -> tuple[Sequence[str], bool]:
    """Return the data files in a ZIP archive, and whether GDAL reads them there.

    Raises:
        ValueError: If the archive is damaged or encrypted, or holds no file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [each for each in archive.infolist() if not each.is_dir() and not _is_hidden(each.filename)]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{place} cannot be read as ZIP: {error}.") from None
    if any(each.flag_bits & 1 for each in infos):
        raise ValueError(f"{place} is encrypted: unpack it, and load what is inside.")
    names = [each.filename for each in infos]
    if not names:
        raise ValueError(f"{place} holds no file: there is nothing to load.")
    parts = [name for name in names if name.lower().endswith(ARCHIVED_PARTS)]
    parts += sorted({f"{name.split('.gdb/')[0]}.gdb" for name in names if ".gdb/" in name})
    if parts:
        return parts, True
    known = [each for each in names if _extension(each) in FORMATS and PurePosixPath(each).stem.lower() not in ABOUT]
    return known or names, False


def _content(path: Path) -> str | None:
    """Return what the first bytes of a file say that it is; None for text and what is not known."""
    with path.open("rb") as file:
        start = file.read(MAGIC_BYTES)
    found = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if found == "ZIP":
        return _archive_content(path)
    if found is None and text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return found


def _archive_content(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return "ZIP"
    if "xl/workbook.xml" in names:
        return "EXCEL"
    if "xl/workbook.bin" in names:
        return "an Excel workbook of the binary kind (.xlsb)"
    if {"mimetype", "content.xml"} <= names:
        return "an OpenDocument file"
    return "ZIP"


def _extension(name: str) -> str:
    """Return the last extension of a name, without that of gzip."""
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix


def _named_by_extension(path: Path, place: str, content: str | None) -> str | None:
    """Return the format that an extension stands for; None if content alone tells it.

    Raises:
        ValueError: If neither tells it.
    """
    extension = _extension(path.name)
    if extension == ".tab" and content in (None, "gzip"):
        return "CSV"  # separated by tabs: MapInfo's files of this name begin with !table
    if extension in FORMATS:
        return FORMATS[extension]
    if extension in INSTEAD:
        raise ValueError(f"{place} is not read here: {INSTEAD[extension].format(name=path.name)}.")
    if content in {*FORMATS.values(), "ZIP"}:
        return None
    known = ", ".join(sorted(FORMATS))
    reason = f"its content is {content}; " if content else ""
    raise ValueError(f"{place}: unknown format; {reason}pass format=, or use one of the file extensions {known}.")


def _agree(expected: str, content: str | None) -> bool:
    """Whether content may be of a format. GDAL tells its formats itself, but for those that are read otherwise."""
    if expected in TEXT_FORMATS:
        return content in (None, "gzip")
    if expected == "VECTOR":
        return content in (None, "VECTOR", "ZIP")
    return content == expected


def _advice(content: str | None, expected: str) -> str:
    if content == "gzip":
        return f" Unpack it with gunzip: {expected} has a compression of its own."
    if content in FORMATS.values():
        return f" Rename it, or pass format={content!r}." if content != "ARROW" else " Rename it to .arrow."
    return ""


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
