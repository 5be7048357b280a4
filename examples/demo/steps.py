"""Print the demo's steps as they happen: each with its time, a failed one with the end of its log."""

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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Lines shown of a failed step's log: a screenful; and frames of an error in it, the innermost.
TAIL = 30
FRAMES = 8

TOKEN = re.compile(r"sandbox-(carto|dw|refresh)-[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""The sandbox's tokens, and Airflow's JSON web tokens: both are masked."""


class StepFailed(Exception):
    """A step failed.

    Args:
        message: What went wrong.
        log: The file with the details.
        secrets: Values to mask in the message and the log.

    Attributes:
        message: What went wrong, masked.
        tail: The end of the log, masked.
        step: The title of the step.
    """

    def __init__(self, message: str, log: Path | None = None, secrets: Sequence[str] = ()) -> None:
        self.message = _masked(message, secrets)
        self.tail = _masked(_tail(log), secrets)  # now, as the log's directory is about to be removed
        self.step = ""
        super().__init__(f"{self.message}\n{self.tail}".rstrip())


class Steps:
    """The steps so far.

    Attributes:
        seconds: How long each step took, by its title.
        console: Where they are printed.
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
        """Show a step while it runs, and its time when it has ended.

        Args:
            title: What it does.

        Raises:
            StepFailed: If it fails with any error.
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
        """Print a text that is not a step."""
        self.console.print(text)

    def show_failure(self, failure: StepFailed) -> None:
        """Print which step failed, why, and the end of its log."""
        self.console.print(f"[red]✗ {failure.step}[/]")
        self.console.print(Text(failure.message))
        if failure.tail:
            self.console.print(Panel(Text(failure.tail), title="the end of its log", border_style="red"))


def _tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    lines = [_plain(line) for line in log.read_text(errors="replace").splitlines()]
    return "\n".join("\n".join(lines).splitlines()[-TAIL:])


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return TOKEN.sub("***", text)


def _plain(line: str) -> str:
    """Return the message of a line of Airflow's JSON logs, with the frames of its errors; other lines unchanged."""
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
