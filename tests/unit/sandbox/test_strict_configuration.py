"""The rules for job configurations, schemas and the text forms of values, without the emulator."""

from __future__ import annotations

import pytest

from carto_auth_integrations.sandbox.strict.configuration import check_configuration, check_job
from carto_auth_integrations.sandbox.strict.refusal import Refusal
from carto_auth_integrations.sandbox.strict.schema import Field, check_columns, check_fits_table, field_of
from carto_auth_integrations.sandbox.strict.values import has_form

QUERY = {"query": "SELECT 1", "useLegacySql": False}


def test_what_google_accepts_is_accepted():
    check_job({"jobReference": {"jobId": "A-b_9"}, "configuration": {"query": QUERY, "labels": {"team": "geo-1"}}})
    check_configuration({"load": {"sourceFormat": "CSV", "schema": {"fields": [{"name": "a", "type": "int64"}]}}})
    check_configuration({"query": {**QUERY, "queryParameters": [{"name": "a"}], "parameterMode": "NAMED"}})
    check_configuration({"query": {"query": "#standardSQL\nSELECT 1"}})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"query": "SELECT 1"}, "legacy SQL"),
        ({"query": " ", "useLegacySql": False}, "missing: query"),
        ({**QUERY, "parameterMode": "POSITIONAL", "queryParameters": [{"name": "a"}]}, "POSITIONAL"),
        ({**QUERY, "queryParameters": [{"name": "a"}, {}]}, "either all named"),
        ({**QUERY, "queryParameters": [{}] * 10_001}, "Too many"),
        ({**QUERY, "query": "SELECT 1" + " " * 1024 * 1024}, "too large"),
        ({**QUERY, "requestId": "é"}, "requestId"),
        ({**QUERY, "priority": "LOW"}, "priority"),
    ],
)
def test_queries_that_google_refuses_are_refused(query, words):
    with pytest.raises(Refusal, match=words):
        check_configuration({"query": query})


def test_a_dry_run_is_for_queries():
    with pytest.raises(Refusal, match="Dry run"):
        check_configuration({"load": {}, "dryRun": True})


def nested(depth):
    field = {"name": "leaf", "type": "STRING"}
    for _ in range(depth):
        field = {"name": "r", "type": "RECORD", "fields": [field]}
    return field_of(field)


def test_records_nest_fifteen_levels():
    check_columns([nested(15)])
    with pytest.raises(Refusal, match="nested too deeply"):
        check_columns([nested(16)])


def test_a_table_has_ten_thousand_columns():
    check_columns([Field(f"c{number}", "STRING") for number in range(10_000)])
    with pytest.raises(Refusal, match="Too many columns"):
        check_columns([Field(f"c{number}", "STRING") for number in range(10_001)])


def test_names_are_checked_at_each_level():
    with pytest.raises(Refusal, match="Duplicate field name: A"):
        check_columns([Field("r", "RECORD", fields=(Field("a", "STRING"), Field("A", "STRING")))])
    check_columns([Field("a", "STRING"), Field("r", "RECORD", fields=(Field("a", "STRING"),))])


@pytest.mark.parametrize(
    ("given", "updates", "words"),
    [
        (Field("a", "STRING"), (), "changed type from INTEGER to STRING"),
        (Field("a", "INTEGER", "REPEATED"), (), "changed mode from REQUIRED to REPEATED"),
        (Field("a", "INTEGER"), (), "changed mode from REQUIRED to NULLABLE"),
        (Field("b", "INTEGER"), (), "Cannot add fields"),
        (Field("b", "INTEGER", "REQUIRED"), ("ALLOW_FIELD_ADDITION",), "Cannot add required"),
    ],
)
def test_a_schema_that_does_not_fit_the_table_is_refused(given, updates, words):
    with pytest.raises(Refusal, match=words):
        check_fits_table([given], [Field("a", "INTEGER", "REQUIRED")], "p:d.t", updates)


def test_updates_of_a_schema_may_be_allowed():
    table = [Field("a", "INTEGER", "REQUIRED")]
    check_fits_table([Field("A", "INTEGER", "REQUIRED")], table, "p:d.t", ())
    check_fits_table([Field("b", "INTEGER")], table, "p:d.t", ("ALLOW_FIELD_ADDITION",))
    check_fits_table([Field("a", "INTEGER")], table, "p:d.t", ("ALLOW_FIELD_RELAXATION",))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("INTEGER", "-12", "1.0"),
        ("FLOAT", "-1.5e-3", "1,5"),
        ("FLOAT", "NaN", "nan(1)"),
        ("BOOLEAN", "Y", "on"),
        ("DATE", "2024-2-9", "2024/02/09"),
        ("TIME", "1:02:03.5", "1:02:03.1234567"),
        ("DATETIME", "2024-01-01 10:00", "2024-01-01 10:00 UTC"),
        ("TIMESTAMP", "2024/01/01 10:00:00.5 +02", "01.01.2024"),
        ("TIMESTAMP", "1700000000.123456", "1e9"),
        ("INTERVAL", "-1-2 3 -4:5:6", "1 DAY"),
        ("RANGE", "[2024-01-01, UNBOUNDED)", "(2024-01-01, 2024-02-01)"),
    ],
)
def test_texts_have_the_forms_that_bigquery_reads(kind, good, bad):
    assert has_form(kind, good)
    assert not has_form(kind, bad)
