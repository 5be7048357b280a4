"""Bytes that a query reads, by a rule: eight for each value of the tables that it names."""

from __future__ import annotations

from typing import Any

from .engine import datasets, sqlglot, tables
from .refusal import Refusal

# BigQuery bills at least 10 MB for a query that reads a table: https://cloud.google.com/bigquery/pricing#on_demand_pricing
MINIMUM = 10 * 1024 * 1024
_MEGABYTE = 1024 * 1024


def tables_named(project: str, query: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return the tables that a query names, if they exist.

    Args:
        project: The project of the job.
        query: The query configuration.
    """
    default = query.get("defaultDataset") or {}
    try:
        statements = sqlglot.parse(query.get("query") or "", read="bigquery")
    except sqlglot.errors.SqlglotError:
        return set()
    found: set[tuple[str, str, str]] = set()
    for statement in filter(None, statements):
        for table in statement.find_all(sqlglot.exp.Table):
            reference = (table.catalog or project, table.db or default.get("datasetId") or "", table.name)
            if all(reference) and datasets.exists(*reference[:2]) and tables.exists(*reference):
                found.add(reference)
    return found


def bytes_processed(project: str, query: dict[str, Any]) -> int:
    """Return how many bytes a query reads.

    Args:
        project: The project of the job.
        query: The query configuration.
    """
    return sum(int(tables.load(*reference).numBytes or 0) for reference in tables_named(project, query))


def bytes_billed(processed: int) -> int:
    """Return how many bytes are billed for a query: whole megabytes, and at least 10."""
    return max(MINIMUM, -(-processed // _MEGABYTE) * _MEGABYTE) if processed else 0


def check_limit(project: str, query: dict[str, Any]) -> None:
    """Check `maximumBytesBilled`.

    Raises:
        Refusal: If more would be billed.
    """
    limit = query.get("maximumBytesBilled")
    if limit is None:
        return
    billed = bytes_billed(bytes_processed(project, query))
    if billed > int(limit):
        raise Refusal(
            f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required.", "bytesBilledLimitExceeded"
        )
