"""The emulator and the packages of its environment, which are not installed where this package is type-checked."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import_module("local_bigquery")
app: Any = sys.modules["local_bigquery.app"]
jobs_api: Any = import_module("local_bigquery.api.jobs")
uploads_api: Any = import_module("local_bigquery.api.uploads")
database: Any = import_module("local_bigquery.engine.database")
datasets: Any = import_module("local_bigquery.catalog.datasets")
duckdb: Any = import_module("duckdb")
errors: Any = import_module("local_bigquery.errors")
fastapi: Any = import_module("fastapi")
import_module("fastapi.concurrency")
import_module("fastapi.responses")
fastavro: Any = import_module("fastavro")
emulator_loads: Any = import_module("local_bigquery.jobs.load")
models: Any = import_module("local_bigquery.models")
names: Any = import_module("local_bigquery.catalog.names")
pyarrow: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")
runner: Any = import_module("local_bigquery.jobs.runner")
settings: Any = import_module("local_bigquery.settings")
sqlglot: Any = import_module("sqlglot")
storage: Any = import_module("local_bigquery.jobs.storage")
store: Any = import_module("local_bigquery.jobs.store")
tables: Any = import_module("local_bigquery.catalog.tables")
types: Any = import_module("local_bigquery.engine.types")

quote = database.quote
