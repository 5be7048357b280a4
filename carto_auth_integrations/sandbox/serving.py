"""A sandbox that runs in the foreground until it is told to stop."""

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

# Seconds between two looks at nothing at all: a signal ends the wait.
_NAP = 3600


def serve(
    options: SandboxOptions,
    *,
    credentials_file: Path | None = None,
    on_ready: Callable[[Sandbox, Path], None],
) -> None:
    """Runs a sandbox until Ctrl-C or SIGTERM and leaves nothing behind.

    Args:
        options: How it behaves.
        credentials_file: Where to write the credentials; None takes a temporary place.
        on_ready: Called with the sandbox and the credentials file once both are there.

    Raises:
        SandboxError: The sandbox does not start.
        FileExistsError: There is a file already at `credentials_file`.
        OSError: The port is taken.
    """
    with _signals_interrupt(), Sandbox(options) as sandbox, tempfile.TemporaryDirectory() as directory:
        file = sandbox.write_credentials(credentials_file or Path(directory, "carto-credentials.json"))
        try:
            on_ready(sandbox, file)
            while True:
                time.sleep(_NAP)
        finally:
            file.unlink(missing_ok=True)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Ends the block at the first Ctrl-C or SIGTERM, wherever it is; later ones do not disturb the end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's alone
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
