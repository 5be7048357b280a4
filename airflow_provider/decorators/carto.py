"""`@task.carto_load`: a function that returns or yields data, as a task that loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider.operators.carto import CartoLoadOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from airflow.providers.common.compat.sdk import Context, TaskDecorator


class CartoLoadDecoratedOperator(DecoratedOperator, CartoLoadOperator):
    """Loads what a function returns or yields.

    Args:
        python_callable: The function.
        op_args: Its positional arguments.
        op_kwargs: Its keyword arguments.
        load_options: What `CartoLoadOperator` takes, but `source`.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(field for field in CartoLoadOperator.template_fields if field != "source"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **CartoLoadOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.carto_load"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **load_options: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, source=None, **load_options
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, and load its data."""
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        self.source = self.python_callable(*self.op_args, **arguments)
        return CartoLoadOperator.execute(self, context)


def carto_load_task(python_callable: Callable[..., Any] | None = None, **load_options: Any) -> TaskDecorator:
    """Make a task of a function whose data it loads; DAG files call it `@task.carto_load`.

    The function returns a frame, a GeoDataFrame, Arrow, a list of dicts, a path or a `gs://` URI, or yields dicts,
    frames or Arrow batches, which are streamed. A retry that finds the rows loaded does not run one that yields.

    Args:
        python_callable: The function.
        load_options: What `CartoLoadOperator` takes, but `source`: `destination` above all.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=CartoLoadDecoratedOperator, **load_options
    )
