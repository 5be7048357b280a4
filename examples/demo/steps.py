"""What the demo is doing, told as it happens: each step with its time, a failed one with the end of its log."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Lines of a failed step's log that are shown: a screenful; and the innermost frames of an error in it.
TAIL = 30
FRAMES = 8

TOKEN = re.compile(r"sandbox-(carto|dw|refresh)-[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""The sandbox's tokens, and the JSON web tokens of Airflow: neither belongs on a screen."""


class StepFailed(Exception):
    """A step did not work.

    Args:
        message: What went wrong.
        log: The file that says more.
        secrets: What must not be shown of it.
    """

    def __init__(self, message: str, log: Path | None = None, secrets: list[str] | None = None) -> None:
        super().__init__(message)
        self.step = ""
        self.tail = _tail(log, secrets or [])


class Steps:
    """The steps so far.

    Attributes:
        seconds: How long each took, by its title.
        console: Where they are told.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.console = Console(highlight=False)
        self._begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the first step began."""
        return time.monotonic() - self._begun

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell one step while it runs, and its time when it is done.

        Args:
            title: What it does.

        Raises:
            StepFailed: If it fails, whatever the error was.
        """
        begun = time.monotonic()
        try:
            with self.console.status(title):
                yield
        except Exception as error:
            failure = error if isinstance(error, StepFailed) else StepFailed(f"{type(error).__name__}: {error}")
            failure.step = title
            raise failure from error
        self.seconds[title] = time.monotonic() - begun
        self.console.print(f"[green]✓[/] {title} [dim]{self.seconds[title]:.1f} s[/]")

    def say(self, text: str) -> None:
        """Tell something that is no step."""
        self.console.print(text)

    def show_failure(self, failure: StepFailed) -> None:
        """Tell which step failed, why, and how its log ends."""
        self.console.print(f"[red]✗ {failure.step}[/]")
        self.console.print(Text(str(failure)))
        if failure.tail:
            self.console.print(Panel(Text(failure.tail), title="the end of its log", border_style="red"))


def _tail(log: Path | None, secrets: list[str]) -> str:
    """Read the end of a log now, as its directory is about to go, without the secrets in it."""
    if log is None or not log.exists():
        return ""
    lines = [_plain(line) for line in log.read_text(errors="replace").splitlines()]
    text = "\n".join("\n".join(lines).splitlines()[-TAIL:])
    for secret in secrets:
        text = text.replace(secret, "***")
    return TOKEN.sub("***", text)


def _plain(line: str) -> str:
    """Give what a line of Airflow's JSON logs says, an error with where it was raised; any other line as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    parts = [f"{entry.get('level', '')}: {entry['event']}"]
    for error in entry.get("error_detail") or ():
        parts += [f"  {frame['filename']}:{frame['lineno']} {frame['name']}" for frame in error["frames"][-FRAMES:]]
        parts.append(f"  {error['exc_type']}: {error['exc_value']}")
    return "\n".join(parts)
