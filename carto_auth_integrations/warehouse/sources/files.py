"""Open the files that a source names, each with the reader of its format."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..packages import required
from . import avro, kinds, parquet
from .base import Source
from .delimited import open_delimited
from .excel import open_excel
from .formats import FORMATS, format_of, members_of
from .json_files import open_geojson, open_json
from .listing import File, is_files, listed
from .remote import copied
from .vector import open_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow

    from ..options import LoadOptions
    from .base import Chunk
    from .listing import PathOrPaths

__all__ = ["FORMATS", "as_is", "format_of", "is_files", "open_files"]


READERS = {
    "JSON": open_json,
    "GEOJSON": open_geojson,
    "PARQUET": parquet.open_parquet,
    "ARROW": parquet.open_arrow,
    "AVRO": avro.open_avro,
    "EXCEL": open_excel,
}
PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
"""Column names that are valid in every format."""


@dataclass(frozen=True)
class _Ready:
    """A file that can be read: here, and unpacked.

    Attributes:
        path: Where it is; text for a path in GDAL's virtual file systems.
        place: What messages call it.
        format: One of `FORMATS`.
        size: Its bytes.
    """

    path: Path | str
    place: str
    format: str
    size: int


@dataclass
class _Progress:
    """How many bytes have been read: those of the files before, and what the reader of this one says."""

    before: int = 0
    current: Callable[[], int] = lambda: 0

    def position(self) -> int:
        return self.before + self.current()


def open_files(source: PathOrPaths, options: LoadOptions) -> Source:
    """Open the files that a source names, as one source: all of one format.

    In directories, files and directories whose names begin with `.` or `_` are left out, as Hive and Spark do. Copies
    of files from other machines are removed as soon as they have been read.

    Args:
        source: A path, a URL, a directory, a glob, or a list of these. Directories such as `country=DE` become columns.
        options: How they are read; `format` is stronger than the extensions.

    Raises:
        FileNotFoundError: If there is no such file.
        MissingDependency: If what a format or protocol needs is not installed; the message names it.
        ConnectionError: If another machine cannot be reached, or refuses.
        ValueError: If there is nothing to load, a format is unknown or not the one that the content is of, or a file
            cannot be read; the message names the file.
    """
    files = listed(source)
    kinds = [(file.place, format_of(file.path, file.place, options.format)) for file in files if file.path]
    for place, kind in kinds:
        _check_alike(place, kind, *kinds[0])  # before any of them is read
    stack = ExitStack()
    try:
        first = stack.enter_context(_ready(files[0], options))
        if first.format == "CSV":
            opened = _open_together(files, first, options, stack)
        else:
            opened = _open_in_turn(files, first, options, stack)
    except BaseException:
        stack.close()
        raise
    found = {**opened.found, "format": first.format}
    if len(files) > 1:
        found["files"] = len(files)
    if files[0].partitions:
        found["partitions"] = list(files[0].partitions)
    return replace(opened, found=found)


def as_is(source: object, options: LoadOptions) -> tuple[Path, str] | None:
    """Return the path and format of a file that BigQuery itself reads exactly, so that it is sent as it is.

    That is a single local Avro or Parquet file of plain types, with no option that changes its columns.

    Returns:
        The path, and `AVRO` or `PARQUET`; None if the source has to be read here.
    """
    changes = (options.geometry, options.lon, options.lat, options.column_types, options.schema)
    if any(changes) or options.crs is not None or not is_files(source):
        return None
    files = listed(source)
    path = files[0].path
    if len(files) > 1 or path is None or files[0].partitions:
        return None
    kind = format_of(path, files[0].place, options.format)
    readers = {"PARQUET": parquet.plain_columns, "AVRO": avro.plain_columns}
    names = readers[kind](path) if kind in readers else []
    are_valid = all(PLAIN_NAME.fullmatch(name) for name in names) and len({*map(str.lower, names)}) == len(names)
    return (path, kind) if names and are_valid else None


@contextmanager
def _ready(file: File, options: LoadOptions) -> Iterator[_Ready]:
    """Make a file ready to be read: copy it from where it is, unpack it. What was copied is removed afterwards."""
    with ExitStack() as stack:
        path = file.path
        if path is None:
            assert file.remote is not None, "a file is here or elsewhere"  # noqa: S101
            path = stack.enter_context(copied(file.remote))
        kind = format_of(path, file.place, options.format)
        size = _size(path)
        is_archive = kind == "VECTOR" and path.suffix.lower() not in (".kmz", ".shz") and zipfile.is_zipfile(path)
        if kind == "ZIP" or is_archive:
            yield stack.enter_context(_member(path, file.place, options))
        else:
            _check_parts(path, file)
            yield _Ready(path, file.place, kind, size)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a geodatabase."""
    return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else (path,)))


@contextmanager
def _member(path: Path, place: str, options: LoadOptions) -> Iterator[_Ready]:
    """Open the only data file of a ZIP archive; GDAL reads shapefiles and the like in the archive itself."""
    names, is_vector = members_of(path, place)
    if is_vector:
        yield _virtual(path, place, names, options)
        return
    if len(names) > 1:
        some = ", ".join(sorted(names)[:10])
        raise ValueError(f"{place} holds {len(names)} files ({some}): unpack it, and load those that you mean.")
    inside = f"{place}/{names[0]}"
    with tempfile.TemporaryDirectory(prefix="carto-load-") as directory:
        unpacked = Path(directory) / PurePosixPath(names[0]).name
        try:
            with zipfile.ZipFile(path) as archive, archive.open(names[0]) as member, unpacked.open("wb") as file:
                shutil.copyfileobj(member, file)
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise ValueError(f"{inside} cannot be unpacked: {error}.") from None
        kind = format_of(unpacked, inside, options.format)
        if kind == "ZIP":
            raise ValueError(f"{inside} is an archive in an archive: unpack it first.")
        yield _Ready(unpacked, inside, kind, unpacked.stat().st_size)


def _virtual(path: Path, place: str, names: Sequence[str], options: LoadOptions) -> _Ready:
    """Return the only shapefile of an archive, or the one that `layer=` names, at its path for GDAL."""
    meant = [name for name in names if len(names) == 1 or PurePosixPath(name).stem == options.layer]
    if len(meant) != 1:
        layers = ", ".join(sorted(PurePosixPath(name).stem for name in names))
        raise ValueError(f"{place} has several layers: name one with layer=, one of {layers}.")
    with zipfile.ZipFile(path) as archive:
        parts = [
            each
            for each in archive.infolist()
            if each.filename.startswith(str(PurePosixPath(meant[0]).with_suffix("")))
        ]
    size = sum(each.file_size for each in parts)
    return _Ready(f"/vsizip/{{{path.absolute()}}}/{meant[0]}", place, "VECTOR", size)


def _check_parts(path: Path, file: File) -> None:
    """Raise if a shapefile lacks the files without which its attributes or shapes would be missing."""
    if path.suffix.lower() != ".shp":
        return
    there = {each.name.lower() for each in path.parent.iterdir()}
    missing = [part for part in (".dbf", ".shx") if f"{path.stem}{part}".lower() not in there]
    if missing:
        advice = "load a ZIP archive of all its parts" if file.remote else "put it beside"
        raise ValueError(f"{file.place} is one part of a shapefile, and {' and '.join(missing)} is missing: {advice}.")


def _check_alike(place: str, kind: str, first: str, expected: str) -> None:
    """Raise if a file is of another format than the first one. That of a file in an archive is not known yet."""
    if kind != expected and "ZIP" not in (kind, expected):
        raise ValueError(
            f"{place} is {kind}, but {first} is {expected}: load files of one format at a time, for example with a "
            "glob such as *.csv."
        )


def _open_together(files: Sequence[File], first: _Ready, options: LoadOptions, stack: ExitStack) -> Source:
    """Open CSV files, whose types are decided over all of them."""
    ready = [first, *(stack.enter_context(_ready(file, options)) for file in files[1:])]
    for each in ready:
        _check_alike(each.place, each.format, first.place, first.format)
    opened = open_delimited([(Path(each.path), each.place) for each in ready], options)
    added = _typed_partitions(files)
    by_place = {each.place: values for each, values in zip(ready, added, strict=True)}

    def chunks() -> Iterator[Chunk]:
        with stack:
            for chunk in opened.chunks:
                yield _with_columns(chunk, by_place[chunk.place] if any(added) else {})

    return replace(opened, chunks=chunks())


def _open_in_turn(files: Sequence[File], first: _Ready, options: LoadOptions, stack: ExitStack) -> Source:
    """Open files one after the other; only one of those that are copied or unpacked is there at a time."""
    progress, added = _Progress(), _typed_partitions(files)
    opened = _read(first, options)
    progress.current = opened.position
    sizes = [first.size, *(_size(file.path) if file.path else None for file in files[1:])]
    size = opened.size if len(files) == 1 else None if None in sizes else sum(each or 0 for each in sizes)

    def chunks() -> Iterator[Chunk]:
        with stack:
            for chunk in opened.chunks:
                yield _with_columns(chunk, added[0])
        for file, values in zip(files[1:], added[1:], strict=True):
            with _ready(file, options) as ready:
                _check_alike(ready.place, ready.format, first.place, first.format)
                progress.before, progress.current = progress.position(), lambda: 0
                source = _read(ready, options)
                progress.current = source.position
                for chunk in source.chunks:
                    yield _with_columns(chunk, values)

    return Source(chunks(), opened.found, size, progress.position)


def _read(ready: _Ready, options: LoadOptions) -> Source:
    if ready.format == "VECTOR":
        return open_vector(ready.path, ready.place, options, ready.size)
    return READERS[ready.format](Path(ready.path), ready.place, options)


def _typed_partitions(files: Sequence[File]) -> list[dict[str, pyarrow.Scalar]]:
    """Return the columns that each file's path holds, typed over all files as those of a CSV file are."""
    typed: list[dict[str, pyarrow.Scalar]] = [{} for _ in files]
    if not files[0].partitions:
        return typed
    arrow = required("pyarrow")
    for name in files[0].partitions:
        texts = arrow.array([file.partitions[name] for file in files], arrow.string())
        values = kinds.read(texts, kinds.text_kind(texts.drop_null().to_pylist()))
        for columns, value in zip(typed, values, strict=True):
            columns[name] = value
    return typed


def _with_columns(chunk: Chunk, added: Mapping[str, pyarrow.Scalar]) -> Chunk:
    """Add the columns of a path to a chunk.

    Raises:
        ValueError: If the file has such a column, with another value.
    """
    if not added:
        return chunk
    arrow, columns = required("pyarrow"), chunk.columns()
    count = len(chunk.data) if not _is_columns(chunk) else len(columns[0][1])
    there = {name.lower(): values for name, values in columns}
    for name, value in added.items():
        if name.lower() not in there:
            columns.append((name, arrow.array([value.as_py()] * count, value.type)))
            continue
        values = there[name.lower()]
        for index, other in enumerate(values.to_pylist() if hasattr(values, "to_pylist") else values):
            if other != value.as_py() and str(other) != str(value.as_py()):
                raise ValueError(
                    f"{chunk.row(index)}, column {name} holds {other!r}, but the path of the file says "
                    f"{value.as_py()!r}: correct one of them."
                )
    return replace(chunk, data=columns)


def _is_columns(chunk: Chunk) -> bool:
    return isinstance(chunk.data, (list, tuple)) and bool(chunk.data) and isinstance(chunk.data[0], tuple)
