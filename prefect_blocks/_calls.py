"""Which call of which run this is: the key under which a retry finds its job, the job's labels, and what it reads."""

from __future__ import annotations

import json
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING

from prefect.context import FlowRunContext, TaskRunContext

from carto_auth_integrations.account.account import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any
    from uuid import UUID

DIGEST = 16
"""Hexadecimal digits by which a call is told from the other calls of its run: 64 bits."""
STREAM = "stream"
"""What stands for rows that come once."""

_counting = Lock()
_read_by: set[UUID] = set()
"""The task runs that have begun to read rows which come only once; until the task run has ended well."""


def idempotency_key(kind: str, *what: Any) -> str | None:
    """Name this call of a task: the same for each try of the task and of its flow run, and for no other call.

    The flow run keeps its id when it is tried again, but its tasks get new ones. So a call is known by what it does,
    and of equal calls by how many there were before it in this try of the flow run. In another process than the flow's
    (Dask, a process pool) nobody counts, and equal calls are one.

    A subflow gets a new run when its parent is tried again, but keeps the parent's task run that stands for it.

    Args:
        kind: `query` or `load`.
        what: What it does, with a stable `repr`.

    Returns:
        The key; None outside of a task run of this package's own: another task may make equal calls of its own accord.
    """
    task_context, context = TaskRunContext.get(), FlowRunContext.get()
    if task_context is None or task_context.task.fn.__module__.partition(".")[0] != __package__:
        return None
    task_run = task_context.task_run
    if context is None or context.flow_run is None:
        return f"{kind}-{task_run.id}"
    run = context.flow_run.parent_task_run_id or context.flow_run.id
    digest = sha256_of(json.dumps([kind, *map(repr, what)]))[:DIGEST]
    # Kept where Prefect counts the calls of its own: what lives exactly as long as this try of the flow run does.
    keys, own, calls = context.task_run_dynamic_keys, f"carto/{task_run.id}", f"carto/{digest}"
    with _counting:
        if own not in keys:  # else this is another try of the task, whatever its arguments have become
            number = 0 if context.detached else int(keys.get(calls, 0))
            keys[own], keys[calls] = f"{kind}-{run}-{digest}-{number}", number + 1
        return str(keys[own])


def run_labels() -> dict[str, str]:
    """Give the labels by which a job is found in BigQuery's own lists, and its cost in the bill."""
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


def identity_of(source: Any) -> str:
    """Tell a source of rows from others: a file by its place, rows in memory by their content, a function by its code.

    Rows that come once have nothing to be told apart by.
    """
    from carto_auth_integrations.warehouse.loads import IN_MEMORY
    from carto_auth_integrations.warehouse.loads import identity_of as place_of

    if _comes_once(source):
        return STREAM
    if callable(source):
        return _digest_of_function(source)
    place = place_of(source)
    return place if place != IN_MEMORY else _digest_of(source)


def readable_source(source: Any) -> Any:
    """Give what a try of the task reads: rows that an earlier try has begun to read are gone, and that is an error.

    Args:
        source: What is to be loaded, or a function that gives it, which is called for each try.
    """
    if callable(source):
        return source()
    context = TaskRunContext.get()
    return _RowsOnce(source, context.task_run.id) if context and _comes_once(source) else source


def forget_source() -> None:
    """Say that this task run has ended well, and tries nothing again."""
    context = TaskRunContext.get()
    if context:
        _read_by.discard(context.task_run.id)


class _RowsOnce:
    """Rows that can be read once, by one try of one task run.

    Loading what is left of them would leave out rows in silence.
    """

    def __init__(self, rows: Any, task_run: UUID) -> None:
        self._rows = rows
        self._task_run = task_run

    def __iter__(self) -> Iterator[Any]:
        if self._task_run in _read_by:
            raise ValueError(
                "An earlier try of this task has begun to read these rows, and they come only once: give a function "
                "that makes them, a file or a frame."
            )
        _read_by.add(self._task_run)
        return iter(self._rows)


def _comes_once(source: Any) -> bool:
    return hasattr(source, "__next__")


def _digest_of_function(function: Any) -> str:
    """Give a digest of a function with all it holds, such as the arguments of a `partial`."""
    import cloudpickle  # type: ignore[import-untyped]  # it has no types

    try:
        pickled = cloudpickle.dumps(function)
    except Exception:  # it holds a lock or the like: whatever its class raises for that
        pickled = repr((function.__module__, function.__qualname__)).encode()
    return sha256(pickled).hexdigest()[:DIGEST]


def _digest_of(source: Any) -> str:
    digest = sha256()
    if hasattr(source, "to_batches"):  # of Arrow, whose stream format is the same for the same rows
        _write_arrow(source, digest)
    elif hasattr(source, "iloc"):
        _write_frame(source, digest)
    else:
        _write_pickle(source, digest)
    return digest.hexdigest()[:DIGEST]


def _write_arrow(table: Any, digest: Any) -> None:
    import pyarrow

    with pyarrow.ipc.new_stream(pyarrow.PythonFile(_Sink(digest), "w"), table.schema) as stream:
        stream.write_table(table)


def _write_frame(frame: Any, digest: Any) -> None:
    import pandas

    digest.update(repr(list(frame.columns)).encode())
    try:
        digest.update(pandas.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    except TypeError:  # cells that hold lists and the like
        _write_pickle(frame, digest)


def _write_pickle(value: Any, digest: Any) -> None:
    """Take a value's pickle into a digest, without ever having it whole in memory."""
    import pickle

    pickler = pickle.Pickler(_Sink(digest), protocol=pickle.DEFAULT_PROTOCOL)
    pickler.fast = True  # the same for equal values, whether or not parts of them are the same object
    pickler.dump(value)


class _Sink:
    """A file that keeps of what is written to it a digest alone."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Have nothing to do: there is no buffer."""

    def close(self) -> None:
        """Have nothing to do: there is no file."""
