"""Results: frozen records that can be pickled and compared."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pyarrow
import pytest

from carto_auth_integrations.warehouse import JobProgress, JobReference, LoadResult, QueryResult
from carto_auth_integrations.warehouse.results import plain_result


def result_of(rows: tuple[dict[str, Any], ...] = ({"x": 1},), total_rows: int = 1, **fields: Any) -> QueryResult:
    known = {
        "job_id": "job",
        "location": "US",
        "statement_type": "SELECT",
        "affected_rows": None,
        "bytes_processed": 0,
        "destination": None,
        "reattached": False,
    }
    return QueryResult(rows=rows, total_rows=total_rows, **{**known, **fields})


def test_a_result_with_more_rows_than_it_holds_says_so() -> None:
    assert result_of(total_rows=2).truncated
    assert not result_of(total_rows=1).truncated
    assert not result_of(rows=(), total_rows=0).truncated


def test_results_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        result_of().job_id = "other"  # type: ignore[misc]
    for record in (JobProgress("job", "DONE", 1.0), LoadResult("job", "US", "p.d.t", 1, 2, False)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.job_id = "other"  # type: ignore[misc]


@pytest.mark.parametrize("travel", [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy])
def test_a_result_can_be_pickled_and_copied_without_its_connection(travel: Any) -> None:
    there = travel(result_of(_fetch=lambda: pyarrow.table({"x": [1]})))
    assert there == result_of()
    with pytest.raises(RuntimeError, match="where the query ran"):
        there.to_arrow()
    with pytest.raises(RuntimeError, match="job"):
        there.to_dataframe()


def test_the_original_still_fetches_after_it_was_pickled() -> None:
    result = result_of(_fetch=lambda: pyarrow.table({"x": [1, 2]}))
    pickle.dumps(result)
    assert result.to_arrow().num_rows == 2
    assert list(result.to_dataframe()["x"]) == [1, 2]


def test_the_rows_of_a_result_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(dataclasses.asdict(result_of(_fetch=None))))["rows"] == [{"x": 1}]


def test_the_connection_is_neither_shown_nor_compared() -> None:
    assert "_fetch" not in repr(result_of(_fetch=lambda: None))
    assert result_of(_fetch=lambda: None) == result_of()


def test_load_results_and_progress_can_be_pickled() -> None:
    for record in (JobProgress("job", "DONE", 1.0), LoadResult("job", "US", "p.d.t", 1, 2, False)):
        assert pickle.loads(pickle.dumps(record)) == record


def test_a_job_reference_can_be_pickled() -> None:
    reference = JobReference("job", "EU", reattached=True)
    assert pickle.loads(pickle.dumps(reference)) == reference


@pytest.mark.parametrize("result", [result_of(), LoadResult("job", "US", "p.d.t", 1, 2, False)])
def test_a_result_as_plain_types_is_json_and_has_all_fields_but_the_connection(result: Any) -> None:
    plain = plain_result(result)
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain) == {each.name for each in dataclasses.fields(result)} - {"_fetch"}
