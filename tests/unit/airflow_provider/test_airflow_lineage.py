"""The assets of Airflow and the datasets of OpenLineage that a job reads and writes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider.lineage import asset_of, emit_asset, openlineage_of, outlets_of
from airflow_provider.operators.carto import CartoLoadOperator, CartoQueryOperator
from tests.support.airflow_tasks import context_of

TABLE = "carto-dw-1.shared.visits"
URI = "bigquery://carto-dw-1/shared/visits"
EXTRA = {"job_id": "carto_a", "rows": 2}


def test_a_table_is_the_same_asset_as_for_googles_operators() -> None:
    assert asset_of(TABLE).uri == URI
    assert asset_of(f"{TABLE}$20260101").uri == URI


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 fails tasks whose alias it does not know")
def test_a_task_with_a_destination_declares_it_by_an_alias_and_adds_the_table_to_it() -> None:
    load = CartoLoadOperator(task_id="load", source="a.csv", destination="shared.visits")
    (alias,) = load.outlets
    assert alias.name == "carto://carto_default/shared.visits"

    context = context_of("load")
    emit_asset(context, load.outlets, TABLE, EXTRA)
    (event,) = context["outlet_events"][alias].asset_alias_events
    assert (event.dest_asset_key.uri, event.extra) == (URI, EXTRA)


@pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 takes aliases that it does not know")
def test_a_task_of_airflow_2_adds_the_table_to_its_outlets() -> None:
    outlets: list[Any] = list(outlets_of("carto_default", "shared.visits"))
    context = context_of("load")
    emit_asset(context, outlets, TABLE, EXTRA)
    assert [outlet.uri for outlet in outlets] == [URI]
    assert context["outlet_events"][outlets[0]].extra == EXTRA


def test_a_table_that_is_declared_as_an_outlet_is_reported_once() -> None:
    declared, other = Asset(uri=URI), AssetAlias(name="any")
    load = CartoLoadOperator(task_id="load", source="a", destination="shared.visits", outlets=[declared, other])
    assert load.outlets == [declared, other]

    context = context_of("load")
    emit_asset(context, load.outlets, TABLE, EXTRA)
    assert context["outlet_events"][declared].extra == EXTRA
    events = context["outlet_events"][other]
    assert not (events.asset_alias_events if AIRFLOW_V_3_0_PLUS else events.dataset_alias_events)


def test_a_query_without_a_destination_has_no_outlets() -> None:
    assert CartoQueryOperator(task_id="ask", sql="SELECT 1").outlets == []


@dataclass
class OperatorLineage:
    """The class of Airflow's OpenLineage provider."""

    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    run_facets: dict[str, Any] = field(default_factory=dict)
    job_facets: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def openlineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's OpenLineage provider, as far as operators see it: it does not fit into every environment."""
    extractors = ModuleType("airflow.providers.openlineage.extractors")
    extractors.OperatorLineage = OperatorLineage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", ModuleType("airflow.providers.openlineage"))
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", extractors)
    import airflow.providers.common.compat.openlineage.facet as facets

    for name in ("Dataset", "ExternalQueryRunFacet", "SQLJobFacet"):
        monkeypatch.setattr(facets, name, lambda **fields: fields)


def table(name: str) -> Any:
    project, dataset, table_id = name.split(".")
    return SimpleNamespace(project=project, dataset_id=dataset, table_id=table_id)


@pytest.mark.usefixtures("openlineage")
def test_openlineage_receives_the_tables_that_a_query_read_and_wrote() -> None:
    job = SimpleNamespace(
        job_id="carto_a", query="SELECT 1", referenced_tables=[table("p.raw.a")], destination=table("p.shared.b$2026")
    )
    lineage = openlineage_of(job)
    assert lineage.inputs == [{"namespace": "bigquery", "name": "p.raw.a"}]
    assert lineage.outputs == [{"namespace": "bigquery", "name": "p.shared.b"}]
    assert lineage.run_facets == {"externalQuery": {"externalQueryId": "carto_a", "source": "bigquery"}}
    assert lineage.job_facets == {"sql": {"query": "SELECT 1"}}


@pytest.mark.usefixtures("openlineage")
def test_openlineage_receives_the_files_of_a_load_and_not_bigquerys_hidden_tables() -> None:
    load = SimpleNamespace(job_id="carto_b", destination=table("p.shared.b"), source_uris=["gs://bucket/folder/a.csv"])
    assert openlineage_of(load).inputs == [{"namespace": "gs://bucket", "name": "folder/a.csv"}]
    upload = SimpleNamespace(job_id="carto_d", destination=table("p.shared.b"), source_uris=None)
    assert openlineage_of(upload).inputs == []
    select = SimpleNamespace(job_id="carto_c", query="SELECT 1", referenced_tables=[], destination=table("p._1.anon"))
    assert openlineage_of(select).outputs == []


def test_a_task_without_a_result_reports_nothing_to_openlineage() -> None:
    assert CartoQueryOperator(task_id="ask", sql="SELECT 1").get_openlineage_facets_on_complete(None) is None
