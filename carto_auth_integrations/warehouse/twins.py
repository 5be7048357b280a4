"""Every method of the warehouse is written once, as steps; these make the sync method and its async twin of it."""

from __future__ import annotations

from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..bigquery.errors import google_error
from ..errors import CallFailed
from ..waiting import arun, run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..waiting import Steps

Self = TypeVar("Self")
Args = ParamSpec("Args")
T = TypeVar("T")

ASYNC_NOTE = """
        This is a coroutine that never holds the event loop. If it is cancelled, its job goes on: a later call with the
        same key takes it, and `acancel` ends it. A load that is cancelled loads nothing.
"""


def sync(steps: Callable[Concatenate[Self, Args], Steps[T]]) -> Callable[Concatenate[Self, Args], T]:
    """Return a method that runs the steps on the calling thread."""

    def method(self: Self, /, *args: Args.args, **kwargs: Args.kwargs) -> T:
        return run(_raising_google_errors(steps(self, *args, **kwargs)))

    update_wrapper(method, steps)
    return method


def twin_of(method: Callable[Concatenate[Self, Args], T]) -> Callable[Concatenate[Self, Args], Coroutine[Any, Any, T]]:
    """Return the async twin of a `sync` method: same arguments and result, without holding the event loop."""
    steps: Callable[Concatenate[Self, Args], Steps[T]] = method.__wrapped__  # type: ignore[attr-defined]

    async def twin(self: Self, /, *args: Args.args, **kwargs: Args.kwargs) -> T:
        return await arun(lambda: _raising_google_errors(steps(self, *args, **kwargs)))

    update_wrapper(twin, method)
    twin.__name__ = f"a{method.__name__}"
    twin.__qualname__ = f"CartoWarehouse.{twin.__name__}"
    twin.__doc__ = f"{method.__doc__}{ASYNC_NOTE}"
    return twin


def _raising_google_errors(steps: Steps[T]) -> Steps[T]:
    try:
        return (yield from steps)
    except CallFailed as error:
        failure = error
    raise google_error(failure)  # outside the handler: nothing of the call hangs on the error
