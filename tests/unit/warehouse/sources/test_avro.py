"""Avro files: logical types as what they are, and nothing that BigQuery would read differently."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest

from carto_auth_integrations.warehouse.options import LoadOptions
from carto_auth_integrations.warehouse.sources.avro import open_avro, plain_columns
from carto_auth_integrations.warehouse.sources.base import Source

UTC = datetime.timezone.utc


def written(path: Path, kind: Any, *values: Any, codec: str = "null") -> Path:
    """Write a file with one column `v`."""
    schema = {"type": "record", "name": "row", "fields": [{"name": "v", "type": kind}]}
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [{"v": value} for value in values], codec=codec)
    return path


def opened(path: Path) -> Source:
    return open_avro(path, path.name, LoadOptions())


def values_of(path: Path) -> list[Any]:
    return [row["v"] for chunk in opened(path).chunks for row in chunk.data]


def logical(kind: Any, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


NOON = datetime.datetime(2026, 1, 2, 12, 30, 15, 123456)
FIXED = {"type": "fixed", "name": "four", "size": 4}
KINDS: list[tuple[Any, Any]] = [
    ("long", 2**62),
    ("int", -7),
    ("double", 1.5),
    ("string", "é"),
    ("bytes", b"\0\1"),
    ("boolean", True),
    ("null", None),
    (["null", "string"], None),
    ({"type": "enum", "name": "colour", "symbols": ["RED"]}, "RED"),
    (FIXED, b"abcd"),
    (logical("int", "date"), datetime.date(1969, 7, 20)),
    (logical("int", "time-millis"), datetime.time(12, 30, 15, 123000)),
    (logical("long", "time-micros"), datetime.time(12, 30, 15, 123456)),
    (logical("long", "timestamp-millis"), NOON.replace(microsecond=123000, tzinfo=UTC)),
    (logical("long", "timestamp-micros"), NOON.replace(tzinfo=UTC)),
    (logical("long", "local-timestamp-micros"), NOON),
    (logical("bytes", "decimal", precision=20, scale=3), Decimal("12345678901234567.891")),
    (logical("string", "uuid"), UUID(int=7)),
    ({"type": "array", "items": "long"}, [1, 2]),
]


@pytest.mark.parametrize(("kind", "value"), KINDS)
def test_each_type_arrives_as_what_it_is(tmp_path: Path, kind: Any, value: Any) -> None:
    (found,) = values_of(written(tmp_path / "a.avro", kind, value))
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_codecs_are_unpacked(tmp_path: Path, codec: str) -> None:
    assert values_of(written(tmp_path / "a.avro", "long", 1, 2, codec=codec)) == [1, 2]


def test_a_record_inside_is_an_object(tmp_path: Path) -> None:
    kind = {"type": "record", "name": "inner", "fields": [{"name": "a", "type": "long"}]}
    assert values_of(written(tmp_path / "a.avro", ["null", kind], {"a": 1}, None)) == [{"a": 1}, None]


@pytest.mark.parametrize("kind", [{"type": "map", "values": "long"}, ["null", {"type": "map", "values": "long"}]])
def test_a_map_becomes_keys_and_values(tmp_path: Path, kind: Any) -> None:
    assert values_of(written(tmp_path / "a.avro", kind, {"x": 1, "y": 2})) == [
        [{"key": "x", "value": 1}, {"key": "y", "value": 2}]
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("timestamp-nanos", NOON.replace(tzinfo=UTC)), ("local-timestamp-nanos", NOON)],
)
def test_nanoseconds_are_exact_or_refused(tmp_path: Path, name: str, expected: datetime.datetime) -> None:
    whole = (expected - datetime.datetime(1970, 1, 1, tzinfo=expected.tzinfo)) // datetime.timedelta(microseconds=1)
    kind, value = logical("long", name), whole * 1000
    for each, given, found in [
        (kind, value, expected),
        (["null", kind], value, expected),
        (["null", kind], None, None),
        ({"type": "array", "items": kind}, [value], [expected]),
    ]:
        assert values_of(written(tmp_path / "a.avro", each, given)) == [found]
    path = written(tmp_path / "b.avro", kind, value, value + 1)
    with pytest.raises(ValueError, match=rf"b\.avro: row 2: column v.*{value + 1}.*round it"):
        values_of(path)


def test_a_type_that_contains_itself_is_read(tmp_path: Path) -> None:
    kind = {
        "type": "record",
        "name": "node",
        "fields": [{"name": "n", "type": "long"}, {"name": "next", "type": ["null", "node"]}],
    }
    assert values_of(written(tmp_path / "a.avro", kind, {"n": 1, "next": {"n": 2, "next": None}})) == [
        {"n": 1, "next": {"n": 2, "next": None}}
    ]


def test_a_map_inside_a_type_that_contains_itself_is_read(tmp_path: Path) -> None:
    kind = {"type": "record", "name": "node", "fields": [{"name": "m", "type": {"type": "map", "values": "node"}}]}
    assert values_of(written(tmp_path / "a.avro", kind, {"m": {"x": {"m": {}}}})) == [
        {"m": [{"key": "x", "value": {"m": []}}]}
    ]


def test_a_named_type_that_is_used_twice_is_read_twice(tmp_path: Path) -> None:
    inner = {"type": "record", "name": "inner", "fields": [{"name": "m", "type": {"type": "map", "values": "long"}}]}
    kind = {"type": "record", "name": "two", "fields": [{"name": "a", "type": inner}, {"name": "b", "type": "inner"}]}
    (found,) = values_of(written(tmp_path / "a.avro", kind, {"a": {"m": {"x": 1}}, "b": {"m": {"y": 2}}}))
    assert found == {"a": {"m": [{"key": "x", "value": 1}]}, "b": {"m": [{"key": "y", "value": 2}]}}


def test_a_union_of_several_types_with_a_map_is_refused(tmp_path: Path) -> None:
    kind = ["long", {"type": "map", "values": "long"}]
    with pytest.raises(ValueError, match=r"a\.avro: column v.*union of several types"):
        opened(written(tmp_path / "a.avro", kind, 1))


@pytest.mark.parametrize("content", [b"Obj\x01", b"Obj\x01" + b"x" * 100, b"no Avro"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.avro").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.avro cannot be read as Avro"):
        opened(tmp_path / "a.avro")


def test_a_truncated_file_is_named_and_not_sent(tmp_path: Path) -> None:
    path = written(tmp_path / "a.avro", "string", *["x" * 100] * 1000)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"a\.avro cannot be read as Avro"):
        values_of(path)
    assert plain_columns(path) == []


def test_a_file_without_fields_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, "long", [1])
    with pytest.raises(ValueError, match=r"a\.avro holds values of the type.*no columns"):
        opened(tmp_path / "a.avro")


def test_rows_are_counted_over_the_chunks(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "a.avro", "long", *range(25_000)))
    chunks = list(source.chunks)
    assert [(chunk.first_row, len(chunk.data)) for chunk in chunks[:2]] == [(1, 10_000), (10_001, 10_000)]
    assert [row["v"] for chunk in chunks for row in chunk.data] == list(range(25_000))
    assert source.position() == source.size


def test_a_file_without_rows_still_has_its_columns(tmp_path: Path) -> None:
    (chunk,) = opened(written(tmp_path / "a.avro", "long")).chunks
    assert chunk.columns() == [("v", [])]


def test_wide_rows_come_in_small_chunks(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "a.avro", "string", *["x" * 1_000_000] * 40))
    assert max(len(chunk.data) for chunk in source.chunks) <= 10


@pytest.mark.parametrize(
    ("kind", "value", "is_plain"),
    [
        *[(kind, value, True) for kind, value in KINDS if kind not in ("null",)][:15],
        (logical("bytes", "decimal", precision=20, scale=3), Decimal("1.5"), False),
        (logical("string", "uuid"), UUID(int=7), False),
        (logical("long", "timestamp-nanos"), 1, False),
        ({"type": "array", "items": "long"}, [1], False),
        ({"type": "map", "values": "long"}, {}, False),
        (["null", "long", "string"], 1, False),
        (["long", "string"], 1, False),
        ("null", None, False),
    ],
)
def test_only_what_bigquery_reads_exactly_goes_as_it_is(tmp_path: Path, kind: Any, value: Any, is_plain: bool) -> None:
    assert plain_columns(written(tmp_path / "a.avro", kind, value)) == (["v"] if is_plain else [])


def test_codecs_that_bigquery_does_not_read_are_written_anew(tmp_path: Path) -> None:
    assert plain_columns(written(tmp_path / "a.avro", "long", 1, codec="xz")) == []
    assert plain_columns(written(tmp_path / "a.avro", "long", 1, codec="deflate")) == ["v"]


def test_a_block_that_is_too_large_for_bigquery_is_written_anew(tmp_path: Path) -> None:
    assert plain_columns(written(tmp_path / "a.avro", "bytes", bytes(17 * 1024 * 1024))) == []
