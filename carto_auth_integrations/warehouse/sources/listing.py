"""Which files a source names: paths, URLs, lists, globs and directories, and the columns that are in their paths."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from .formats import is_directory_format
from .remote import RemoteFile, files_at, is_hidden, is_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias, TypeGuard

    PathOrPaths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    """A path or a URL, or a list of these."""

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
PARTITION = re.compile(r"([^=/\\]+)=([^/\\]*)")
TABLES = {
    "_delta_log": ("Delta", 'deltalake.DeltaTable("{path}").to_pyarrow_table()'),
    ".hoodie": ("Hudi", 'spark.read.format("hudi").load("{path}").toPandas()'),
    "metadata/*.metadata.json": ("Iceberg", 'catalog.load_table("…").scan().to_arrow()'),
}
"""Directories that hold more than the rows of a table, by what they contain, and how the table is read."""
SIDE_FILES = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg", ".sbn", ".sbx", ".qix", ".qpj", ".qmd", ".cst", ".fix", ".shp.xml"),
    ".tab": (".dat", ".map", ".id", ".ind"),
    ".mif": (".mid",),
    ".gml": (".gfs", ".xsd"),
    ".gpkg": (".gpkg-wal", ".gpkg-shm", ".gpkg-journal"),
}
"""Files that are parts of another one of the same name."""


@dataclass(frozen=True)
class File:
    """A file that a source names.

    Attributes:
        place: What messages call it.
        path: Where it is; None if it has to be copied first.
        remote: Where to copy it from.
        partitions: The columns that its path holds, `country=DE/year=2026`, as text.
    """

    place: str
    path: Path | None = None
    remote: RemoteFile | None = None
    partitions: Mapping[str, str | None] = field(default_factory=dict)


def is_files(source: object) -> TypeGuard[PathOrPaths]:
    """Whether a source is a path, a URL, or a list of these."""
    if isinstance(source, (list, tuple)):
        return bool(source) and all(isinstance(each, (str, os.PathLike)) for each in source)
    return isinstance(source, (str, os.PathLike))


def listed(source: PathOrPaths) -> list[File]:
    """Return the files that a source names: those of a list in its order, those of a directory or glob by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a directory is empty, a glob matches nothing, a file is named twice, or the paths of some files
            hold other columns than those of the others.
    """
    items = source if isinstance(source, (list, tuple)) else (source,)
    files = [file for item in items for file in _files_of(os.fsdecode(item), len(items) > 1)]
    seen: set[str] = set()
    for file in files:
        key = file.remote.path if file.remote else os.path.realpath(file.place)
        if key in seen:
            raise ValueError(f"{file.place} is named twice: its rows would be loaded twice.")
        seen.add(key)
        if file.partitions.keys() != files[0].partitions.keys():
            names = [" and ".join(each.partitions) or "no columns" for each in (files[0], file)]
            raise ValueError(f"{file.place} has {names[1]} in its path, but {files[0].place} has {names[0]}.")
    return files


def _files_of(item: str, is_one_of_several: bool) -> Iterator[File]:
    if not item.strip():
        raise ValueError("The path of a file is empty: there is nothing to load.")
    if is_url(item):
        for remote, below in files_at(item, is_one_of_several):
            yield File(remote.place, remote=remote, partitions=_partitions(below, remote.place))
        return
    if item.lower().startswith("file:"):
        item = url2pathname(urlsplit(item).path)
    path = Path(item)
    if path.is_dir() and not is_directory_format(path):
        yield from _files_below(path, path)
    elif path.exists():
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"{path} is not a regular file: copy its content to one.")
        yield File(str(path), path, partitions=_partitions(item, item) if is_one_of_several else {})
    elif glob.has_magic(item):
        yield from _matches(item)
    else:
        raise FileNotFoundError(f"There is no file {path}: check the path.")


def _matches(pattern: str) -> Iterator[File]:
    matches = [Path(each) for each in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207  # takes absolute ones
    files = [each for each in _without_side_files(matches) if each.is_file() or is_directory_format(each)]
    for path in files:
        yield File(str(path), path, partitions=_partitions(str(path), str(path)))
    if files:
        return
    if not matches:
        raise FileNotFoundError(f"No file matches {pattern}: check the pattern.")
    for directory in matches:
        for file in _files_below(directory, directory):
            yield replace(file, partitions=_partitions(file.place, file.place))


def _files_below(path: Path, root: Path) -> Iterator[File]:
    """Yield the files below a directory, sorted by path."""
    for mark, (name, code) in TABLES.items():
        if any(path.glob(mark)):
            raise ValueError(
                f"{path} is a {name} table, whose files hold deleted rows too: load({code.format(path=path)}, …)."
            )
    found = sorted(_without_side_files(list(_walked(path, set()))))
    if not found:
        raise ValueError(f"{path} is a directory without files: there is nothing to load.")
    for each in found:
        yield File(str(each), each, partitions=_partitions(str(each.relative_to(root)), str(each)))


def _walked(path: Path, seen: set[str]) -> Iterator[Path]:
    """Yield the files below a directory but for the hidden ones; through links, but never in a circle."""
    real = os.path.realpath(path)
    if real in seen:
        return
    seen.add(real)
    for each in path.iterdir():
        if is_hidden(each.name):
            continue
        if each.is_dir() and not is_directory_format(each):
            yield from _walked(each, seen)
        else:
            yield each


def _without_side_files(paths: Iterable[Path]) -> list[Path]:
    """Leave out the files that are parts of another one: `stores.dbf` beside `stores.shp`."""
    paths = list(paths)
    names = {str(path).lower() for path in paths}

    def is_part(path: Path) -> bool:
        name = str(path).lower()
        return any(
            name.endswith(part) and f"{name.removesuffix(part)}{whole}" in names
            for whole, parts in SIDE_FILES.items()
            for part in parts
        )

    return [path for path in paths if not is_part(path)]


def _partitions(below: str, place: str) -> dict[str, str | None]:
    """Return the columns that the directories of a path hold, as Hive writes them."""
    found: dict[str, str | None] = {}
    for part in PurePosixPath(below.replace(os.sep, "/")).parts[:-1]:
        match = PARTITION.fullmatch(part)
        if match is None:
            continue
        name, value = unquote(match[1]), unquote(match[2])
        if name in found:
            raise ValueError(f"{place} has the column {name} twice in its path: rename one of the directories.")
        found[name] = None if value == HIVE_NULL else value
    return found
