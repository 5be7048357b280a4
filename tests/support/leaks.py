"""A search for secrets in everything that an error shows."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import BEARER, SECRET

_TESTS = str(Path(__file__).parents[1])


def raised_by(function: Callable[[], Any]) -> BaseException:
    """Return the error that a function raises, with a traceback that holds the frames and locals of the package."""
    with pytest.raises(BaseException) as info:  # noqa: PT011 - the test looks at it
        function()
    return info.value


def shown_by(error: BaseException) -> str:
    """Return all that a debugger or a log handler shows of an error: text, attributes, chain, traceback with locals.

    Frames of the tests are left out, since their locals hold the secrets.
    """
    parts = [str(error), repr(error), repr(vars(error))]
    frames = [
        pair for pair in traceback.walk_tb(error.__traceback__) if not pair[0].f_code.co_filename.startswith(_TESTS)
    ]
    parts += traceback.StackSummary.extract(frames, capture_locals=True, lookup_lines=False).format()
    for chained in (error.__cause__, error.__context__):
        if chained is not None:
            parts.append(shown_by(chained))
    return "\n".join(parts)


def assert_shows_no_secret(error: BaseException, *secrets: str) -> None:
    """Assert law 4: nothing that an error shows holds a secret."""
    shown = shown_by(error)
    for secret in (SECRET, BEARER, *secrets):
        assert secret not in shown, shown
