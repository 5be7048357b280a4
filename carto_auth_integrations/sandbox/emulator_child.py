"""Program that serves `local-bigquery` until its parent process ends.

It is run by its path, with the Python of the emulator's environment. This package is not installed there, so it
imports only the standard library and the emulator.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Seconds between checks whether the parent process still exists.
PARENT_CHECK = 0.2

# Connections that may wait while the emulator is still loading.
BACKLOG = 128


def main() -> None:
    """Serve until standard input closes or the parent process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--lenient", action="store_true")
    arguments = parser.parse_args()
    threading.Thread(target=_watch_stdin, args=(arguments.home,), daemon=True).start()
    if os.name == "posix":  # on Windows, getppid() keeps returning the id of a parent that has ended
        threading.Thread(target=_watch_parent, args=(arguments.home, arguments.parent), daemon=True).start()
    _provide_extensions(arguments.home)
    _serve(arguments.home, arguments.port_file, arguments.project, strict=not arguments.lenient)


def _watch_stdin(home: Path) -> None:
    """Exit when the parent sends a byte, or ends without one: then remove the files, as the parent no longer can."""
    if not sys.stdin.buffer.read(1):
        shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _watch_parent(home: Path, parent: int) -> None:
    """Exit when the parent process ends, even if standard input stays open in another process that it forked.

    PR_SET_PDEATHSIG is no alternative: it sends its signal when the *thread* ends that started this process
    (https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html).
    """
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _provide_extensions(home: Path) -> None:
    """Link the DuckDB extensions that are installed as packages to where DuckDB looks before it downloads them."""
    duckdb: Any = importlib.import_module("duckdb")
    with duckdb.connect() as connection:
        (platform,) = connection.execute("PRAGMA platform").fetchone()
    target = home / ".duckdb" / "extensions" / f"v{duckdb.__version__}" / platform
    target.mkdir(parents=True)
    packages = Path(duckdb.__file__).parents[1]
    for extension in packages.glob("duckdb_extension_*/extensions/*/*.duckdb_extension"):
        try:
            (target / extension.name).symlink_to(extension)
        except OSError:  # Windows, without the privilege to create symbolic links
            shutil.copy2(extension, target)


def _rules() -> Any:
    """Return the package `strict` beside this file: the package around it is not installed here."""
    file = Path(__file__).with_name("strict") / "__init__.py"
    spec: Any = importlib.util.spec_from_file_location(
        "carto_strict", file, submodule_search_locations=[str(file.parent)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _serve(home: Path, port_file: Path, project: str, *, strict: bool) -> None:
    """Write the port to a file and serve; the rename makes sure that the parent never reads a half-written file."""
    settings = importlib.import_module("local_bigquery.settings").settings
    settings.data_dir = home / "data"
    settings.default_project_id = project
    uvicorn = importlib.import_module("uvicorn")
    app = importlib.import_module("local_bigquery").app
    _rules().install(strict=strict)
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        port_file.with_suffix(".new").write_text(str(listener.getsockname()[1]))
        port_file.with_suffix(".new").replace(port_file)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
