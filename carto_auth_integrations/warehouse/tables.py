"""Names of tables, and what may become of the rows that are there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CREATE_DISPOSITIONS = ("CREATE_IF_NEEDED", "CREATE_NEVER")
WRITE_DISPOSITIONS = ("WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_EMPTY")
_TABLE = re.compile(r"(?:(?P<project>[a-z][a-z0-9.:-]*[a-z0-9])\.)?(?P<dataset>\w+)\.(?P<table>[\w -]+(?:\$\w+)?)")


def destination_of(text: str, default_project: str, default_dataset: str | None = None) -> str:
    """Check a table's name and give it whole, `project.dataset.table`.

    Raises:
        ValueError: If it is not `dataset.table` or `project.dataset.table`.
    """
    if isinstance(text, str) and "." not in text and default_dataset:
        text = f"{default_dataset}.{text}"
    match = _TABLE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is no table: write dataset.table or project.dataset.table, without quotes.")
    return f"{match['project'] or default_project}.{match['dataset']}.{match['table']}"


def reference_to(table: str) -> dict[str, str]:
    """Give a whole name as BigQuery's REST API has it."""
    dataset, _, name = table.rpartition(".")
    return {**dataset_reference(dataset, ""), "tableId": name}


def dataset_reference(dataset: str, default_project: str) -> dict[str, str]:
    """Give a dataset, `dataset` or `project.dataset`, as BigQuery's REST API has it."""
    project, _, name = dataset.rpartition(".")
    return {"projectId": project or default_project, "datasetId": name}


def name_of(reference: Mapping[str, str]) -> str:
    """Give the whole name of a table of BigQuery's REST API, without a partition."""
    return f"{reference['projectId']}.{reference['datasetId']}.{reference['tableId']}".partition("$")[0]


def asset_uri(table: str) -> str:
    """Give a whole name as the asset that Google's own integrations make of it: `bigquery://project/dataset/table`."""
    project, dataset, name = table.partition("$")[0].rsplit(".", 2)
    return f"bigquery://{project}/{dataset}/{name}"


def checked_disposition(name: str, value: str, known: tuple[str, ...]) -> str:
    """Give a disposition back.

    Raises:
        ValueError: If it is none of those that are known.
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
    return value
