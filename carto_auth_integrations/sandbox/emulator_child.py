"""The program inside the emulator's own environment: `local-bigquery`, alive as long as its parent.

It runs by its path under another Python that does not have this package: standard library and emulator alone.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Seconds between two looks at whether the parent still lives.
PARENT_CHECK = 0.2

# Connections that may wait while the emulator still loads.
BACKLOG = 128


def main() -> None:
    """Serves until standard input closes or the parent is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--project", required=True)
    arguments = parser.parse_args()
    threading.Thread(target=_watch_stdin, args=(arguments.home,), daemon=True).start()
    if os.name == "posix":  # elsewhere a process keeps the number of a parent that is gone
        threading.Thread(target=_watch_parent, args=(arguments.home, arguments.parent), daemon=True).start()
    _provide_extensions(arguments.home)
    _serve(arguments.home, arguments.port_file, arguments.project)


def _watch_stdin(home: Path) -> None:
    """A byte is the parent's farewell; without one the kernel closed standard input as the parent died."""
    if not sys.stdin.buffer.read(1):
        shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _watch_parent(home: Path, parent: int) -> None:
    """A process the parent forked may hold standard input open, so look at the parent itself where one can.

    Not PR_SET_PDEATHSIG: it fires when the parent's *thread* ends that started the emulator.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _provide_extensions(home: Path) -> None:
    """Lays DuckDB's extensions, which came as packages, where DuckDB looks before it asks the internet."""
    duckdb: Any = importlib.import_module("duckdb")
    with duckdb.connect() as connection:
        (platform,) = connection.execute("PRAGMA platform").fetchone()
    target = home / ".duckdb" / "extensions" / f"v{duckdb.__version__}" / platform
    target.mkdir(parents=True)
    packages = Path(duckdb.__file__).parents[1]
    for extension in packages.glob("duckdb_extension_*/extensions/*/*.duckdb_extension"):
        try:
            (target / extension.name).symlink_to(extension)
        except OSError:  # Windows without the right to make links
            shutil.copy2(extension, target)


def _serve(home: Path, port_file: Path, project: str) -> None:
    settings = importlib.import_module("local_bigquery.settings").settings
    settings.data_dir = home / "data"
    settings.default_project_id = project
    uvicorn = importlib.import_module("uvicorn")
    app = importlib.import_module("local_bigquery").app
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        port_file.with_suffix(".new").write_text(str(listener.getsockname()[1]))
        port_file.with_suffix(".new").replace(port_file)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
