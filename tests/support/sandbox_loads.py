"""Loads into a sandbox with Google's own client, for tests of what it refuses."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import Credentials
from google.cloud import bigquery


class FixedToken(Credentials):
    """A token that is never renewed."""

    expired = False

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def refresh(self, request: object) -> None:
        raise AssertionError("BigQuery did not accept the token")


@dataclass(frozen=True)
class Refused:
    """A load that failed: the status that Google's client raises, BigQuery's reason, and the message."""

    status: int
    reason: str
    message: str


@dataclass(frozen=True)
class Loaded:
    """A load that succeeded: the columns as `name TYPE MODE`, and the rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class Loader:
    """Loads into new tables of a sandbox."""

    def __init__(self, sandbox: Any, token: str) -> None:
        self.project = sandbox.options.project_id
        self.url = sandbox.url
        self.headers = {"Authorization": f"Bearer {token}"}
        self.client = bigquery.Client(
            project=self.project, credentials=FixedToken(token), client_options={"api_endpoint": sandbox.url}
        )

    def new_table(self) -> str:
        return f"{self.project}.shared.t_{uuid.uuid4().hex}"

    def load(
        self,
        data: Any,
        source_format: str = "",
        schema: list[bigquery.SchemaField] | None = None,
        *,
        table: str | None = None,
        job_id: str | None = None,
        written: dict[str, Any] | None = None,
        **options: Any,
    ) -> Loaded | Refused:
        """Load Arrow tables as Parquet, lists as JSON lines, and text or bytes as they are."""
        table = table or self.new_table()
        if isinstance(data, list):
            data, source_format = "\n".join(map(json.dumps, data)), "NEWLINE_DELIMITED_JSON"
        elif not isinstance(data, (str, bytes)):
            data, source_format = parquet_of(data, **(written or {})), "PARQUET"
        content = data.encode() if isinstance(data, str) else data
        config = bigquery.LoadJobConfig(source_format=source_format, schema=schema, **options)
        try:
            self.client.load_table_from_file(
                io.BytesIO(content), table, size=len(content), job_config=config, job_id=job_id
            ).result()
        except GoogleAPICallError as error:
            return Refused(error.code, (error.errors or [{}])[0].get("reason", ""), str(error.message))
        fields = [f"{each.name} {each.field_type} {each.mode}" for each in self.client.get_table(table).schema]
        return Loaded(fields, [tuple(row.values()) for row in self.client.list_rows(table)])

    def has_table(self, table: str) -> bool:
        try:
            self.client.get_table(table)
        except GoogleAPICallError:
            return False
        return True


def parquet_of(table: Any, **options: Any) -> bytes:
    """Return an Arrow table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def lists() -> bigquery.ParquetOptions:
    """Return the option by which lists of Parquet are arrays."""
    options = bigquery.ParquetOptions()
    options.enable_list_inference = True
    return options
