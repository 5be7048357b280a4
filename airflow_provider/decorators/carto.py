"""`@task.carto_load`: a task that loads what a function returns or yields."""

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
    """Load what a function returns or yields.

    Args:
        python_callable: The function.
        op_args: Its positional arguments.
        op_kwargs: Its keyword arguments.
        kwargs: The arguments of `CartoLoadOperator`, without `source`.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, source=None, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, and load what it returns."""
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        self.source = self.python_callable(*self.op_args, **arguments)
        return CartoLoadOperator.execute(self, context)


def carto_load_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task that loads what a function returns or yields. DAG files call it `@task.carto_load`.

    The function returns a frame, a GeoDataFrame, Arrow, a list of dicts, or files as `CartoWarehouse.load` takes them,
    or yields dicts, frames or Arrow batches, which are streamed. A function that yields does not run if a retry finds
    its rows loaded.

    Example:
        ```python
        @task.carto_load(destination="shared.stores", geometry="geom")
        def stores():
            yield {"id": 1, "geom": "POINT(-3.7 40.4)"}
        ```

    Args:
        python_callable: The function.
        kwargs: The arguments of `CartoLoadOperator`, without `source`. Defaults are left to the operator, which looks
            at the DAG's `default_args` first.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=CartoLoadDecoratedOperator, **kwargs
    )
