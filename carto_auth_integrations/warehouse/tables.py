"""Names of tables and datasets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .sources.declared import Field

_TABLE = re.compile(r"(?:(?P<project>[a-z][a-z0-9.:-]*[a-z0-9])\.)?(?P<dataset>\w+)\.(?P<table>[\w -]+(?:\$\w+)?)")


def destination_of(text: str, default_project: str, default_dataset: str | None = None) -> str:
    """Return a table's full name, `project.dataset.table`.

    Raises:
        ValueError: If the name is not `dataset.table` or `project.dataset.table`.
    """
    if isinstance(text, str) and "." not in text and default_dataset:
        text = f"{default_dataset}.{text}"
    match = _TABLE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is not a table name: write dataset.table or project.dataset.table, without quotes.")
    return f"{match['project'] or default_project}.{match['dataset']}.{match['table']}"


def reference_to(table: str) -> dict[str, str]:
    """Return a full table name as BigQuery's REST API writes it."""
    dataset, _, name = table.rpartition(".")
    return {**dataset_reference(dataset, ""), "tableId": name}


def dataset_reference(dataset: str, default_project: str) -> dict[str, str]:
    """Return a dataset, `dataset` or `project.dataset`, as BigQuery's REST API writes it."""
    project, _, name = dataset.rpartition(".")
    return {"projectId": project or default_project, "datasetId": name}


def name_of(reference: Mapping[str, str]) -> str:
    """Return the full name of a table of BigQuery's REST API, without a partition."""
    return f"{reference['projectId']}.{reference['datasetId']}.{reference['tableId']}".partition("$")[0]


def type_of(field: Field) -> str:
    """Return the type of a column of BigQuery's REST API as SQL writes it, such as `ARRAY<STRUCT<size INTEGER>>`."""
    kind = field["type"]
    if kind in ("RECORD", "STRUCT"):
        inner = ", ".join(f"{each['name']} {type_of(each)}" for each in field["fields"])
        kind = f"STRUCT<{inner}>"
    return f"ARRAY<{kind}>" if field.get("mode") == "REPEATED" else kind


def rejected_table(table: str) -> str:
    """Return the name of the table for the rows of a load that did not fit."""
    return f"{table.partition('$')[0]}__rejected"


def asset_uri(table: str) -> str:
    """Return a full table name as the asset of Google's own integrations: `bigquery://project/dataset/table`."""
    project, dataset, name = table.partition("$")[0].rsplit(".", 2)
    return f"bigquery://{project}/{dataset}/{name}"
