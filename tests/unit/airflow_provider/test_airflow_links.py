"""The link from a task to its job: its URL, and where Airflow finds it."""

from __future__ import annotations

from types import SimpleNamespace

from airflow_provider.links.carto import CartoJobLink
from airflow_provider.operators.carto import CartoQueryOperator
from tests.support.airflow_tasks import context_of

LINK = "https://console.cloud.google.com/bigquery?project=carto-dw-1&j=bq:EU:carto_a&page=queryresults"


def test_the_link_points_to_the_job_in_googles_console_and_is_written_to_xcom() -> None:
    context = context_of("ask")
    assert CartoJobLink().persist(context, "carto-dw-1", "EU", "carto_a") == LINK
    assert context["ti"].xcoms == {"carto_job_link": LINK}


def test_a_task_knows_its_own_link_and_has_none_before_its_job() -> None:
    key = SimpleNamespace(dag_id="etl", task_id="ask", run_id="r", map_index=-1)
    query = CartoQueryOperator(task_id="ask", sql="SELECT 1")
    query.job_link = ""
    assert CartoJobLink().get_link(query, ti_key=key) == ""
    query.job_link = LINK
    assert CartoJobLink().get_link(query, ti_key=key) == LINK


def test_airflows_pages_find_the_link_without_the_operator() -> None:
    (link,) = CartoQueryOperator(task_id="ask", sql="SELECT 1").operator_extra_links
    assert (link.name, link.xcom_key) == ("BigQuery job", "carto_job_link")
