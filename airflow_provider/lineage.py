"""What a job read and wrote, for Airflow's assets and for OpenLineage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from carto_auth_integrations.warehouse.tables import asset_uri

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import Asset, AssetAlias, Context
    from airflow.providers.openlineage.extractors import OperatorLineage
    from google.cloud.bigquery import TableReference

NAMESPACE = "bigquery"
"""OpenLineage's name for BigQuery. https://openlineage.io/docs/spec/naming"""


def asset_of(table: str) -> Asset:
    """Return the asset of a table, `project.dataset.table`, under the same URI as Google's own provider."""
    from airflow.providers.common.compat.sdk import Asset

    return Asset(uri=asset_uri(table))


def outlets_of(carto_conn_id: str, destination: str) -> list[AssetAlias]:
    """Return the outlets of a task whose table has no project in the DAG file: an alias, to which it adds the asset.

    Args:
        carto_conn_id: The connection.
        destination: The table, as the DAG file names it.
    """
    from airflow.providers.common.compat.sdk import AssetAlias

    if not AIRFLOW_V_3_0_PLUS:
        return []  # 2.x fails a task whose alias is not in its database, as for mapped tasks and in `dag.test()`
    return [AssetAlias(name=f"carto://{carto_conn_id}/{destination}")]


def emit_asset(context: Context, outlets: list[Any], table: str, extra: dict[str, Any]) -> None:
    """Report to Airflow that a table has changed.

    An outlet that is the table itself receives the extra; otherwise each alias among the outlets receives the table.

    Args:
        context: The task's context.
        outlets: The task's outlets; in Airflow 2 the table is added to them.
        table: The table, `project.dataset.table`.
        extra: Facts about the change, as plain JSON types.
    """
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    asset, events = asset_of(table), context["outlet_events"]
    if not AIRFLOW_V_3_0_PLUS and not outlets:
        outlets.append(asset)
    declared = [outlet for outlet in outlets if isinstance(outlet, Asset) and outlet.uri == asset.uri]
    for outlet in declared:
        events[outlet].extra.update(extra)
    if declared:
        return
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            events[outlet].add(asset, extra=extra)


def openlineage_of(job: Any) -> OperatorLineage:
    """Return a job's inputs and outputs. Needs Airflow's OpenLineage provider.

    Args:
        job: A `bigquery.QueryJob` or `bigquery.LoadJob` that has ended.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset, ExternalQueryRunFacet, SQLJobFacet
    from airflow.providers.openlineage.extractors import OperatorLineage

    def dataset(table: TableReference) -> Dataset:
        return Dataset(namespace=NAMESPACE, name=f"{table.project}.{table.dataset_id}.{table.table_id}".split("$")[0])

    query, destination = getattr(job, "query", None), job.destination
    is_hidden = destination is None or destination.dataset_id.startswith("_")  # BigQuery's own, for a SELECT's rows
    files = [uri.removeprefix("gs://").partition("/") for uri in getattr(job, "source_uris", None) or ()]
    return OperatorLineage(
        inputs=[dataset(table) for table in getattr(job, "referenced_tables", ())]
        + [Dataset(namespace=f"gs://{bucket}", name=path) for bucket, _, path in files],
        outputs=[] if is_hidden else [dataset(destination)],
        run_facets={"externalQuery": ExternalQueryRunFacet(externalQueryId=job.job_id, source=NAMESPACE)},
        job_facets={"sql": SQLJobFacet(query=query)} if query else {},
    )
