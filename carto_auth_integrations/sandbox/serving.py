"""Run a sandbox in the foreground until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from .options import SandboxOptions
from .sandbox import Sandbox

# Seconds of one sleep while the sandbox serves: any length will do, as a signal interrupts it.
_SLEEP = 3600


def serve(
    options: SandboxOptions,
    *,
    credentials_file: Path | None = None,
    on_ready: Callable[[Sandbox, Path], None],
) -> None:
    """Run a sandbox until Ctrl-C or SIGTERM, then remove all its files.

    Args:
        options: The options of the sandbox.
        credentials_file: Where to write the credentials file; None for a temporary folder.
        on_ready: Called with the sandbox and the path of the credentials file once both are ready.

    Raises:
        SandboxError: If the sandbox does not start.
        FileExistsError: If `credentials_file` exists already.
        OSError: If the port is taken.
    """
    with _until_signal(), Sandbox(options) as sandbox, tempfile.TemporaryDirectory() as directory:
        file = sandbox.write_credentials(credentials_file or Path(directory, "carto-credentials.json"))
        try:
            on_ready(sandbox, file)
            while True:
                time.sleep(_SLEEP)
        finally:
            file.unlink(missing_ok=True)


@contextmanager
def _until_signal() -> Iterator[None]:
    """Leave the block at the first Ctrl-C or SIGTERM, and ignore later ones, so that the cleanup completes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows signal handlers in the main thread only
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, interrupt)
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
