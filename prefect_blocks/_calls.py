"""Calls of this package's tasks: the key by which a retry finds the job of a call, its labels, and what it reads."""

from __future__ import annotations

from copy import copy
from pathlib import PurePath
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from prefect import Task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.task_runners import TaskRunner
from prefect.utilities.callables import get_call_parameters
from typing_extensions import ParamSpec, Self

from carto_auth_integrations.warehouse.jobs import RunKey

from ._digests import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

P = ParamSpec("P")
R = TypeVar("R")

DIGEST_LENGTH = 16
"""Hexadecimal digits of the digest in a key: 64 bits make collisions in a run negligible."""
SMALL = 20
"""The most members of a list or mapping that is read when a call is counted: that happens in the flow's own thread."""
CONTENT = ("sql", "parameters", "source", "destination")
"""The arguments of the tasks that say what a call does."""

_counting = Lock()
_begun: set[UUID] = set()
"""The task runs that have begun to read an iterator, and have not succeeded yet."""


class CountedTask(Task[P, R]):
    """A task that counts its calls where the flow makes them, in the order of the flow's code.

    Prefect starts submitted calls in any order, and keeps nothing of a call between two tries of a flow run: the task
    run's id and its `dynamic_key` are new in each.

    Attributes:
        position: Which call this is: of its group of similar calls, and its number in that group. Empty outside of a
            flow run.
    """

    position: str = ""

    if not TYPE_CHECKING:  # the types are those of Prefect's own methods

        def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
            task = self.counted(get_call_parameters(self.fn, args, kwargs))
            return Task.__call__(task, *args, return_state=return_state, wait_for=wait_for, **kwargs)

        def submit(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
            task = self.counted(get_call_parameters(self.fn, args, kwargs))
            return Task.submit(task, *args, return_state=return_state, wait_for=wait_for, **kwargs)

        def map(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
            context = FlowRunContext.get()
            if context is None or kwargs.get("deferred"):
                return super().map(*args, return_state=return_state, wait_for=wait_for, **kwargs)
            kwargs.pop("deferred", None)
            parameters = get_call_parameters(self.fn, args, kwargs, apply_defaults=False)
            futures = _CountingRunner(context.task_runner).map(self, parameters, wait_for)
            if not return_state:
                return futures
            futures.wait()
            return [future.state for future in futures]

        def with_options(self, **options: Any) -> Self:
            task = super().with_options(**options)
            task.__class__ = type(self)  # Prefect makes a plain Task
            return task

    def counted(self, parameters: Mapping[str, Any]) -> Self:
        """Return a copy of this task for one call, with the position of that call."""
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return self
        digest = Digest(largest=SMALL)
        _add_call(digest, self.fn.__name__, {name: parameters.get(name) for name in CONTENT})
        group = digest.hexdigest()[:DIGEST_LENGTH]
        task = copy(self)
        with _counting:
            task.position = f"{group}-{_next_number(context, group)}"
        return task


class _CountingRunner(TaskRunner[Any]):
    """Passes the calls of a `map` on to a task runner, each with its position."""

    def __init__(self, runner: TaskRunner[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._runner = runner
        self._started = True

    def duplicate(self) -> Self:
        """Return a runner of the same kind."""
        return type(self)(self._runner)

    def submit(  # type: ignore[override]  # Prefect's has overloads for sync and async tasks
        self, task: CountedTask[Any, Any], parameters: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Submit a call."""
        return self._runner.submit(task.counted(parameters), parameters, *args, **kwargs)


def idempotency_key(kind: str, what: Mapping[str, Any]) -> RunKey | None:
    """Return the key of this call of a task: the same for each try of the task and of its flow run, and for no other.

    A flow run keeps its id when it is tried again, while its task runs get new ones. So a call is known by the digest
    of what it does, and equal calls are counted: they are interchangeable, so the order in which they begin does not
    matter. If the digest does not cover all content (see `Digest.exact`), it does, and the call is known by its
    position in the flow as well. In another process than the flow's (Dask, a process pool) nobody counts equal calls,
    and they are one.

    A subflow gets a new run when its parent is tried again, but keeps the parent's task run that stands for it.

    Args:
        kind: `query` or `load`.
        what: What the call does.

    Returns:
        The key; None outside of a run of this package's tasks: another task may make equal calls intentionally.
    """
    task_context, context = TaskRunContext.get(), FlowRunContext.get()
    if task_context is None or not isinstance(task_context.task, CountedTask):
        return None
    task_run = task_context.task_run
    if context is None or context.flow_run is None:
        return RunKey(f"{kind}-{task_run.id}")
    # Kept where Prefect counts its own calls: this lives exactly as long as one try of the flow run.
    keys, own = context.task_run_dynamic_keys, f"carto/{task_run.id}"
    if own not in keys:  # else this is another try of the task, and its arguments may have changed
        digest = Digest()
        _add_call(digest, kind, what)
        group, _, position = task_context.task.position.rpartition("-")
        if digest.exact or not group:
            with _counting:
                name = digest.hexdigest()
                position = "0" if context.detached else str(_next_number(context, name))
        else:
            digest.add(group)
            name = digest.hexdigest()
        run = context.flow_run.parent_task_run_id or context.flow_run.id
        keys[own] = f"{kind}-{run}-{name[:DIGEST_LENGTH]}-{position}"
    return RunKey(keys[own])


def _add_call(digest: Digest, kind: str, what: Mapping[str, Any]) -> None:
    digest.add(kind)
    for name, value in sorted(what.items()):
        digest.add(name)
        digest.add(_as_path(value) if name == "source" else value)


def _as_path(source: Any) -> Any:
    """Return the names of files as paths, which count by their last part."""
    if isinstance(source, (list, tuple)) and source and isinstance(source[0], (str, PurePath)):
        return [_as_path(each) for each in source]
    if not isinstance(source, str) or source.startswith("gs://"):
        return source
    return PurePath(urlsplit(source).path if "://" in source else source)  # a signed URL is new in each try


def _next_number(context: FlowRunContext, name: str) -> int:
    """Return how many calls of that name there were before in this try of the flow run."""
    keys, counter = context.task_run_dynamic_keys, f"carto/{name}"
    number = int(keys.get(counter, 0))
    keys[counter] = number + 1
    return number


def run_labels() -> dict[str, str]:
    """Return the labels by which a job is found in BigQuery's lists of jobs, and its cost in the bill."""
    task_context, flow_context = TaskRunContext.get(), FlowRunContext.get()
    if task_context is None:
        return {}
    labels = {"prefect-task": task_context.task.name, "prefect-task-run": str(task_context.task_run.id)}
    if task_context.task_run.flow_run_id:
        labels["prefect-run"] = str(task_context.task_run.flow_run_id)
    if flow_context and flow_context.flow:
        labels["prefect-flow"] = flow_context.flow.name
    if flow_context and flow_context.flow_run and flow_context.flow_run.deployment_id:
        labels["prefect-deployment"] = str(flow_context.flow_run.deployment_id)
    return labels


def readable_source(source: Any) -> Any:
    """Return what this try of the task reads.

    Args:
        source: What is to be loaded, or a function that returns it, which is called for each try.
    """
    if callable(source):
        return source()
    context = TaskRunContext.get()
    return _OneTry(source, context.task_run.id) if context and hasattr(source, "__next__") else source


def forget_source() -> None:
    """Note that this task run has succeeded: there will be no other try."""
    context = TaskRunContext.get()
    if context:
        _begun.discard(context.task_run.id)


class _OneTry:
    """An iterator that one try of a task run can read; loading the rest of it in another would leave out rows."""

    def __init__(self, rows: Iterator[Any], task_run: UUID) -> None:
        self._rows = rows
        self._task_run = task_run

    def __iter__(self) -> Iterator[Any]:
        if self._task_run in _begun:
            raise ValueError(
                "An earlier try of this task has begun to read this iterator, which can be read only once: pass a "
                "function that returns the rows, a file or a frame."
            )
        _begun.add(self._task_run)
        return iter(self._rows)
