"""Types of texts: a type only where the text says exactly what the value says."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow
import pytest

from carto_auth_integrations.warehouse.sources.columns import name_of
from carto_auth_integrations.warehouse.sources.kinds import Kind, read, text_kind

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-5", "0", "9223372036854775807", "-9223372036854775808"], "INTEGER"),
        (["007", "1"], "STRING"),
        (["00", "1"], "STRING"),
        (["+5"], "STRING"),
        (["-0", "1"], "STRING"),
        (["0x1F"], "STRING"),
        ([" 1"], "STRING"),
        (["1 "], "STRING"),
        (["1_000"], "STRING"),
        (["1,000"], "STRING"),
        (["\u0661"], "STRING"),
        (["9223372036854775808", "1"], "NUMERIC"),
        (["1" * 29], "NUMERIC"),
        (["1" * 30], "BIGNUMERIC"),
        (["-" + "9" * 38], "BIGNUMERIC"),
        (["1" * 39], "STRING"),
        (["1.5", "2"], "FLOAT"),
        (["1.10", "-0.5", ".5", "-0"], "FLOAT"),
        (["1e5", "1.5E-10"], "FLOAT"),
        (["0.30000000000000004"], "FLOAT"),
        (["1.7976931348623157e308", "5e-324"], "FLOAT"),
        (["1e400"], "STRING"),
        (["1e-400"], "STRING"),
        (["1e999999999999999999"], "STRING"),
        (["01.5"], "STRING"),
        (["5.", "6."], "STRING"),
        (["nan", "1.5"], "STRING"),
        (["inf"], "STRING"),
        (["Infinity"], "STRING"),
        (["12345678901234567.89", "1"], "NUMERIC"),
        (["9007199254740993", "0.5"], "NUMERIC"),
        (["0.1234567890123456789"], "BIGNUMERIC"),
        (["0." + "1" * 39], "STRING"),
        (["12345678901234567.89", "1e5"], "STRING"),
        (["true", "false"], "BOOLEAN"),
        (["TRUE"], "BOOLEAN"),
        (["False", "True"], "BOOLEAN"),
        (["true", "False"], "STRING"),
        (["yes", "no"], "STRING"),
        (["t"], "STRING"),
        (["true", "1"], "STRING"),
        (["2026-01-31", "0001-01-01", "9999-12-31"], "DATE"),
        (["2026-02-29"], "STRING"),
        (["2024-02-29"], "DATE"),
        (["0000-01-01"], "STRING"),
        (["2026-1-1"], "STRING"),
        (["2026/01/01"], "STRING"),
        (["20260101", "20260102"], "INTEGER"),
        (["2026-01-01 10:00", "2026-01-01T10:00:01.123456"], "DATETIME"),
        (["2026-01-01 10:00:00.1234567"], "STRING"),
        (["2026-01-01 10"], "STRING"),
        (["2026-01-01 24:00"], "STRING"),
        (["2026-01-01", "2026-01-01 10:00"], "STRING"),
        (["2026-01-01T10:00Z", "2026-01-01 10:00:00 UTC", "2026-01-01 10:00:00+05:30"], "TIMESTAMP"),
        (["2026-01-01T10:00Z", "2026-01-01T10:00"], "STRING"),
        (["9999-12-31T23:00:00-05:00"], "STRING"),
        (["0001-01-01T00:00:00+01:00"], "STRING"),
        (["10:00:00", "23:59:59.999999"], "TIME"),
        (["10:00"], "STRING"),
        (["24:00:00"], "STRING"),
        (["10:00:00.1234567"], "STRING"),
        (["1", "true"], "STRING"),
        (["1", "2026-01-01"], "STRING"),
        (["1", ""], "INTEGER"),
        ([""], "STRING"),
        (["1\n"], "STRING"),
        (["2026-01-01\n"], "STRING"),
        (["1.5\n"], "STRING"),
    ],
)
@pytest.mark.parametrize("repeated", [1, 100])
def test_the_type_of_texts(texts: list[str], kind: str, repeated: int) -> None:
    found = text_kind(texts * repeated)
    assert name_of(found) == kind
    block_by_block = Kind()
    for text in texts:
        block_by_block.add(pyarrow.array([text, None]))
    assert block_by_block.type() == found
    assert read(pyarrow.array(texts), found).null_count == (texts.count("") if kind != "STRING" else 0)


def test_no_values_have_no_type_yet() -> None:
    assert pyarrow.types.is_null(text_kind([]))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-5", -5),
        ("-73.98765432101234", -73.98765432101234),
        ("12345678901234567.89", Decimal("12345678901234567.89")),
        ("TRUE", True),
        ("False", False),
        ("2026-01-31", datetime.date(2026, 1, 31)),
        ("2026-01-31T10:30", datetime.datetime(2026, 1, 31, 10, 30)),
        ("2026-01-31 10:30:00.000001 UTC", datetime.datetime(2026, 1, 31, 10, 30, 0, 1, UTC)),
        ("2026-01-31T10:30:00-0530", datetime.datetime(2026, 1, 31, 16, 0, tzinfo=UTC)),
        ("10:30:00.5", datetime.time(10, 30, 0, 500000)),
        ("007", "007"),
    ],
)
def test_values_are_what_the_texts_say(text: str, value: Any) -> None:
    found = read(pyarrow.array([text, None]), text_kind([text])).to_pylist()
    assert found == [value, None]
    assert type(found[0]) is type(value)


def test_blocks_agree_on_the_widest_number() -> None:
    kind = Kind()
    for text in ("1", "2.5", "12345678901234567.8901"):
        kind.add(pyarrow.array([text]))
    assert kind.type() == pyarrow.decimal128(21, 4)
