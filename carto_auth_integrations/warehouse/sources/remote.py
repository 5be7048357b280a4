"""Files that other machines hold: which there are, and copies of them, through fsspec."""

from __future__ import annotations

import errno
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ...errors import MissingDependency
from ..packages import required

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = re.compile(r"[a-z][a-z0-9+.-]+:(:[a-z][a-z0-9+.-]+:)*//", re.IGNORECASE)
USER_INFO = re.compile(r"(?<=//)[^/@]*@")
WEB = ("http://", "https://")
CONNECT_TIMEOUT, READ_TIMEOUT = 30, 60
"""Seconds to connect, and without any byte. A whole file may take longer than aiohttp's five minutes."""
HIDDEN = (".", "_")
"""How the names of files begin that Hive, Spark and others keep for themselves, such as `_SUCCESS`."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on another machine.

    Attributes:
        system: The file system of fsspec that reads it.
        path: Its path there, which may hold a credential.
        place: What messages call it: the URL without user, query and fragment.
    """

    system: Any = field(repr=False)
    path: str = field(repr=False)
    place: str


def is_url(item: str) -> bool:
    """Whether a source is a URL of a file on another machine."""
    return bool(URL.match(item)) and not item.lower().startswith("file:")


def is_hidden(name: str) -> bool:
    """Whether a file or directory is left out of a listing; a column whose name begins so is not."""
    return name.startswith(HIDDEN) and "=" not in name


def shown(url: str) -> str:
    """Return a URL without what may be a credential: its user, query and fragment."""
    return USER_INFO.sub("", re.split(r"[?#]", url, maxsplit=1)[0] if url.lower().startswith(WEB) else url)


def files_at(url: str, is_one_of_several: bool) -> Iterator[tuple[RemoteFile, str]]:
    """Yield the files that a URL names, sorted, and the part of each path that may hold columns.

    Args:
        url: A file's; a directory's or a glob, where the protocol can list files.
        is_one_of_several: Whether it is an item of a list, so that its own path may hold columns.

    Raises:
        FileNotFoundError: If there is no file.
        MissingDependency: If fsspec, or what it needs for this protocol, is not installed.
        ConnectionError: If the other machine cannot be reached, or refuses.
        ValueError: If the protocol is unknown or cannot list files, or a directory has no files.
    """
    place = shown(url)
    if url.lower().startswith(WEB):
        if "*" in place or place.endswith("/"):
            raise ValueError(f"{place}: a web server does not list its files: name each of them, in a list.")
        with _explained(place):
            system, path = _opened(url)
        yield RemoteFile(system, path, place), urlsplit(url).path if is_one_of_several else ""
        return
    with _explained(place):
        system, path = _opened(url)
        is_glob = any(each in path for each in "*?[") and not system.exists(path)
        is_directory = not is_glob and system.isdir(path)
        paths = system.glob(path) if is_glob else system.find(path) if is_directory else [path]
        paths = sorted(each for each in paths if not is_glob or system.isfile(each))
    if is_directory:
        paths = [each for each in paths if not any(map(is_hidden, PurePosixPath(_below(each, path)).parts))]
    if not paths and is_glob:
        raise FileNotFoundError(f"No file matches {place}: check the pattern.")
    if not paths:
        raise ValueError(f"{place} is a directory without files: there is nothing to load.")
    for each in paths:
        full = shown(system.unstrip_protocol(each)) if is_glob or is_directory else place
        below = _below(each, path) if is_directory else each if is_glob or is_one_of_several else ""
        yield RemoteFile(system, each, full), below


@contextmanager
def copied(file: RemoteFile) -> Iterator[Path]:
    """Copy a file to a temporary directory, under its own name; the copy is removed afterwards.

    Raises:
        FileNotFoundError: If there is no such file.
        MissingDependency: If what its protocol needs is not installed.
        ConnectionError: If the other machine cannot be reached, or refuses.
    """
    with tempfile.TemporaryDirectory(prefix="carto-load-") as directory:
        name = PurePosixPath(unquote(urlsplit(file.place).path)).name
        path = Path(directory) / (name or "file")
        with _explained(file.place):
            file.system.get_file(file.path, str(path))
        yield path


def _opened(url: str) -> tuple[Any, str]:
    options: dict[str, object] = {}
    if url.lower().startswith(WEB):
        aiohttp = required("aiohttp", "remote")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        # A URL with % is encoded already: what is signed must not be encoded anew.
        options = {"client_kwargs": {"trust_env": True, "timeout": timeout}, "encoded": "%" in url}
    system, path = required("fsspec.core", "remote").url_to_fs(url, **options)
    return system, str(path)


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn the errors of fsspec and its protocols into those that are documented, without the URL's credentials."""
    try:
        yield
    except MissingDependency:
        raise
    except ImportError:
        raise _missing(place) from None
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {place}: check the URL.") from None
    except ValueError:
        raise ValueError(f"{place}: fsspec does not know this protocol, or not this form of URL.") from None
    except Exception as error:  # each protocol has its own
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        status = getattr(error, "status", None)
        reason = f"the server answered {status}" if status else type(error).__name__
        raise ConnectionError(f"{place} cannot be read: {reason}. Check the URL and your credentials.") from None


def _missing(place: str) -> MissingDependency:
    """Return the error for a protocol whose own package is not installed."""
    protocol = place.partition(":")[0].lower()
    known = required("fsspec.registry", "remote").known_implementations.get(protocol, {})
    package = str(known.get("class", protocol)).partition(".")[0]
    if package == "fsspec":
        return MissingDependency(f"{place} cannot be read: {known.get('err', 'a package is not installed')}.")
    return MissingDependency(f"{place} needs {package}, which is not installed: pip install {package}.")


def _below(path: str, directory: str) -> str:
    return path.removeprefix(directory).lstrip("/")
