"""Jobs that happen once: ids, digests, labels, lost answers, and other tries that were faster."""

from __future__ import annotations

import copy
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Generator
from typing import Any

import pytest
from google.api_core.exceptions import NotFound

from carto_auth_integrations.bigquery.rest import Job
from carto_auth_integrations.errors import CallFailed
from carto_auth_integrations.waiting import Cancelled, Deadline
from carto_auth_integrations.warehouse import RunKey, jobs
from carto_auth_integrations.warehouse.jobs import JobPlan, digest_of, find_or_begin, label_of, valid_labels, wait
from carto_auth_integrations.warehouse.results import JobProgress
from tests.support.processes import run_processes

LONGEST_ID = 1024
"""Characters of a job id. https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid"""
VALID_ID = re.compile(r"[A-Za-z0-9_-]+")


class FakeJob:
    """A job that goes through its states, one with each look at it."""

    def __init__(
        self,
        job_id: str,
        *states: str,
        error_result: dict[str, str] | None = None,
        location: str = "US",
        digest: str = "what",
        source: str | None = None,
    ) -> None:
        self.job_id, self.location = job_id, location
        self._states = list(states or ("DONE",))
        self._error = error_result
        self._labels = {"carto-digest": digest, **({"carto-source": source} if source else {})}

    @property
    def state(self) -> str:
        return self._states[0]

    @property
    def failed(self) -> bool:
        return self.state == "DONE" and self._error is not None

    @property
    def resource(self) -> dict[str, Any]:
        return {"configuration": {"labels": self._labels}}

    def seen(self) -> FakeJob:
        """Return the job as it is now; the next look finds it in its next state."""
        now = copy.copy(self)
        self._states = self._states[1:] or self._states
        return now


class FakeApi:
    """Has some jobs, each in one location, and begins others as its test says."""

    def __init__(self, *known: FakeJob, timeout: float | None = None) -> None:
        self.jobs = {job.job_id: job for job in known}
        self.begun: list[str] = []
        self.cancelled: list[tuple[str, str]] = []
        self.needs_location = False
        self.deadline = Deadline(timeout)
        self.tokens: Any = self  # what `BigQuery` is made of, to cancel a job

    def get(self, job_id: str, location: str | None) -> Generator[float, None, FakeJob | None]:
        yield 0.0
        job = self.jobs.get(job_id)
        if job is None or (location is None and self.needs_location):
            return None
        return job.seen()

    def cancel(self, job_id: str, location: str | None) -> Generator[float, None, bool]:
        yield 0.0
        self.cancelled.append((job_id, location or ""))
        return True

    def begin(
        self, *states: str, error: Exception | None = None, made: bool = True, **fields: Any
    ) -> Callable[[str], FakeJob]:
        """Return what begins a job: it is made or not, and then the answer comes or an error."""

        def begin(job_id: str) -> FakeJob:
            self.begun.append(job_id)
            job = FakeJob(job_id, *states, **fields)
            if made:
                self.jobs[job_id] = job
            if error:
                raise error
            return job.seen()

        return begin


@pytest.fixture(autouse=True)
def _cancel_through_the_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is cancelled with a deadline of its own, by a `BigQuery` of its own."""
    monkeypatch.setattr(jobs, "BigQuery", lambda api, _deadline: api)


def plan_of(begin: Callable[[str], Any], key: str | None = "key", what: str = "what", **fields: Any) -> JobPlan:
    def steps(job_id: str) -> Generator[Any, None, Any]:
        return begin(job_id)
        yield

    return JobPlan(key, what, steps, **{"location": None, **fields})


def taken(steps: Any, pauses: list[float] | None = None) -> Any:
    """Take the steps, without the pauses."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if callable(step):
            step()
        elif step and pauses is not None:
            pauses.append(step)


def run(api: Any, plan: JobPlan, *, on_progress: Any = None) -> Any:
    """Begin and wait, as `query` and `load` do."""
    job, reattached = yield from find_or_begin(api, plan, on_progress)
    return (yield from wait(api, job, on_progress)), reattached


def id_of(key: str | None, what: str = "what", attempt: int = 1) -> str:
    return plan_of(lambda _: None, key, what).job_id(attempt)


def refused(status: int | None, message: str = "", *, transient: bool = False) -> CallFailed:
    """Return what a call raises that has failed with this status; None for no response."""
    return CallFailed("failed", transient=transient, status=status, message=message)


FAILED = {"reason": "invalid", "message": "Row 7 is bad"}
STOPPED = {"reason": "stopped", "message": "Job execution was cancelled"}


def test_the_id_is_the_same_for_each_try_and_shows_the_key() -> None:
    assert id_of("etl.load.2024-01-01.3") == id_of("etl.load.2024-01-01.3")
    assert "etl-load-2024-01-01-3" in id_of("etl.load.2024-01-01.3")


def test_the_id_is_the_same_in_every_release() -> None:
    """A retry may run in a later release than the try before it: this text must never change."""
    assert id_of("dag/run 1") == "carto_dag-run-1_344b5d7104e1c389e859_1"


def test_the_id_differs_by_key_and_by_attempt() -> None:
    assert len({id_of(key, attempt=attempt) for key in "ab" for attempt in (1, 2)}) == 4


def test_the_id_does_not_depend_on_what_the_job_does() -> None:
    assert id_of("key", "one thing") == id_of("key", "another")


def test_keys_that_look_alike_in_the_id_still_have_ids_of_their_own() -> None:
    keys = ["a b", "a-b", "a.b", "a/b", "ä-b", "a" * 500 + "1", "a" * 500 + "2", "", " "]
    assert len({id_of(key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    "key", ["", "dag/run:2024-01-01T00:00:00+00:00", "Aufträge für Köln", "表" * 900, "'; --", "\n"]
)
def test_any_key_gives_a_valid_id(key: str) -> None:
    assert VALID_ID.fullmatch(id_of(key, attempt=1000))
    assert len(id_of(key, attempt=1000)) <= LONGEST_ID


def test_a_key_of_a_connector_has_the_id_of_the_same_text() -> None:
    assert id_of(RunKey("key")) == id_of("key")


def test_without_a_key_no_two_ids_are_the_same() -> None:
    assert id_of(None) != id_of(None)
    assert VALID_ID.fullmatch(id_of(None))


@pytest.mark.parametrize(
    "labels",
    [
        {"dag": "nightly", "task-id": "load_1"},
        {"DAG Id": "Nächtlicher Lauf (v2)!"},
        {"1st": "x", "_x": "y", "-": "z", "": "", "9": "9"},
        {"表": "数据", "имя": "Значение", "naïve": "ÀÉÎ"},
        {"k" * 200: "v" * 200},
        {"é" * 200: "Ü" * 200},
        {"x": "2024-01-01T00:00:00+00:00", "mail": "some.one@carto.com"},
        {"emoji 🌍": "🌍"},
        {"ʰ": "x", "\U0001d400b": "\U0001d400b", "x²": "½"},
    ],
)
def test_labels_of_any_text_become_valid(labels: dict[str, str]) -> None:
    valid = valid_labels(labels)

    assert len(valid) == len(labels), "none is dropped"
    for key, value in valid.items():
        assert is_label(key), key
        assert is_start(key[0]), key
        assert is_label(value), value


def is_start(character: str) -> bool:
    return unicodedata.category(character) in ("Ll", "Lo")


def is_label(text: str) -> bool:
    r"""Whether BigQuery accepts a text as a label: `[\p{Ll}\p{Lo}\p{N}_-]{0,63}`."""
    return len(text) <= 63 and all(
        character in "_-" or unicodedata.category(character) in ("Ll", "Lo", "Nd", "Nl", "No") for character in text
    )


def test_valid_labels_stay_as_they_are() -> None:
    assert valid_labels({"dag-id": "nightly_1", "empty": ""}) == {"dag-id": "nightly_1", "empty": ""}


def test_labels_whose_names_become_the_same_are_kept_apart() -> None:
    valid = valid_labels({"a b": "1", "a.b": "2", "A_B": "3", "a_b": "4"})
    assert sorted(valid.values()) == ["1", "2", "3", "4"]
    assert all(is_label(key) for key in valid)


def test_long_labels_that_differ_at_the_end_still_differ() -> None:
    valid = valid_labels({"x" * 80 + "1": "v" * 80 + "1", "x" * 80 + "2": "v" * 80 + "2"})
    assert len(valid) == len(set(valid.values())) == 2


def test_more_labels_than_bigquery_takes_are_an_error_and_none_is_dropped() -> None:
    assert len(valid_labels({f"label{number}": "" for number in range(59)})) == 59, "five are this package's own"
    with pytest.raises(ValueError, match=r"59.*60"):
        valid_labels({f"label{number}": "" for number in range(60)})


def test_labels_of_other_types_are_converted_to_text() -> None:
    assert valid_labels({"try": 3, "none": None}) == {"try": "3", "none": "none"}  # type: ignore[dict-item]


def test_a_job_that_does_not_exist_is_begun() -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (api.begun, reattached) == ([job.job_id], False)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "DONE"])
def test_a_job_that_runs_or_has_succeeded_is_taken(state: str) -> None:
    api = FakeApi(FakeJob(id_of("key"), state, "DONE"))
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (job.state, reattached, api.begun) == ("DONE", True, [])


@pytest.mark.parametrize("error", [FAILED, STOPPED], ids=["failed", "cancelled"])
def test_after_a_job_that_failed_or_was_cancelled_the_next_attempt_begins(error: dict[str, str]) -> None:
    api = FakeApi(*(FakeJob(id_of("key", attempt=attempt), error_result=error) for attempt in (1, 2)))
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (job.job_id, reattached) == (id_of("key", attempt=3), False)
    assert api.begun == [job.job_id]


def test_after_a_failure_the_attempt_that_succeeded_is_taken() -> None:
    api = FakeApi(FakeJob(id_of("key"), error_result=FAILED), FakeJob(id_of("key", attempt=2)))
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (job.job_id, reattached, api.begun) == (id_of("key", attempt=2), True, [])


def test_a_job_that_fails_during_this_call_is_returned_and_not_begun_again() -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin("RUNNING", "DONE", error_result=FAILED))))
    assert (job.failed, reattached, api.begun) == (True, False, [id_of("key")])


@pytest.mark.parametrize("lost", [refused(None, transient=True), refused(503, transient=True), refused(403)])
@pytest.mark.parametrize("key", ["key", None])
def test_a_job_whose_answer_was_lost_is_found_under_its_id(lost: Exception, key: str | None) -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin(error=lost), key)))
    assert (api.begun, reattached) == ([job.job_id], False)


@pytest.mark.parametrize("error", [refused(None, transient=True), refused(403), refused(400), refused(404)])
def test_a_failure_without_a_job_is_raised(error: CallFailed) -> None:
    api = FakeApi()
    with pytest.raises(type(error)) as raised:
        taken(run(api, plan_of(api.begin(error=error, made=False))))
    assert raised.value is error
    assert len(api.begun) == 1


def test_an_error_of_the_source_is_raised() -> None:
    def begin(job_id: str) -> None:
        api.jobs[job_id] = FakeJob(job_id)
        raise RuntimeError("half-way")

    api = FakeApi()
    with pytest.raises(RuntimeError, match="half-way"):
        taken(run(api, plan_of(begin)))


def test_the_job_of_another_try_that_was_faster_is_taken() -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin(error=refused(409, "Already Exists: Job p:US.x")))))
    assert (api.begun, reattached) == ([job.job_id], True)


def test_after_a_faster_try_that_failed_the_next_attempt_begins() -> None:
    def begin(job_id: str) -> FakeJob:
        if job_id == id_of("key"):
            api.jobs[job_id] = FakeJob(job_id, error_result=FAILED)
            raise refused(409, f"Already Exists: Job p:US.{job_id}")
        api.jobs[job_id] = FakeJob(job_id)
        return api.jobs[job_id]

    api = FakeApi()
    job, reattached = taken(run(api, plan_of(begin)))
    assert (job.job_id, reattached) == (id_of("key", attempt=2), False)


def test_a_job_in_an_unknown_location_is_found_by_the_message_of_the_conflict() -> None:
    api = FakeApi(FakeJob(id_of("key"), location="europe-west1"))
    api.needs_location = True

    def begin(job_id: str) -> None:
        raise refused(409, f"POST https://bigquery/jobs: Already Exists: Job carto-dw-ac-1:europe-west1.{job_id}")

    job, reattached = taken(run(api, plan_of(begin)))
    assert (job.location, reattached) == ("europe-west1", True)


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("409 POST https://x/y: Already Exists: Job carto-dw-ac-1:US.the_id", "US"),
        ("Already Exists: Job p:europe-west1.the_id; reason: duplicate", "europe-west1"),
        ("Already Exists: Job example.com:p:EU.the_id", "EU"),
        ("Already Exists: Job p:US.the_id_of_another", None),
        ("Already Exists: Job p:US.another", None),
        ("Already Exists: Table p:d.the_id", None),
        ("", None),
    ],
)
def test_the_location_of_a_job_is_read_from_a_conflict(message: str, place: str | None) -> None:
    assert jobs._location_in(message, "the_id") == place


# A job that does something else


@pytest.mark.parametrize("found_late", [False, True])
def test_another_digest_under_the_same_key_is_an_error_that_names_the_job(found_late: bool) -> None:
    api = FakeApi() if found_late else FakeApi(FakeJob(id_of("key"), digest="other"))
    plan = plan_of(api.begin(error=refused(409, "Already Exists"), digest="other"))
    with pytest.raises(ValueError, match="another idempotency_key") as error:
        taken(run(api, plan))
    assert id_of("key") in str(error.value)
    assert "'key'" in str(error.value)


@pytest.mark.parametrize("found_late", [False, True])
def test_another_digest_under_the_key_of_a_connector_is_a_warning_and_the_job_is_taken(
    found_late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakeApi() if found_late else FakeApi(FakeJob(id_of("key"), digest="other"))
    plan = plan_of(api.begin(error=refused(409, "Already Exists"), digest="other"), RunKey("key"))

    job, reattached = taken(run(api, plan))

    assert (job.job_id, reattached) == (id_of("key"), True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert id_of("key") in record.message


def test_a_job_without_our_digest_is_not_ours() -> None:
    foreign = FakeJob(id_of("key"))
    foreign._labels = {}
    with pytest.raises(ValueError, match="does something else"):
        taken(run(FakeApi(foreign), plan_of(lambda _: None)))


def test_a_job_that_failed_may_have_done_something_else() -> None:
    """It has done nothing, so the corrected statement runs under the same key."""
    api = FakeApi(FakeJob(id_of("key"), error_result=FAILED, digest="other"))
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (job.job_id, reattached) == (id_of("key", attempt=2), False)


def test_another_file_of_the_same_key_is_a_warning_that_names_both(caplog: pytest.LogCaptureFixture) -> None:
    api = FakeApi(FakeJob(id_of("key"), source="monday_csv"))
    job, reattached = taken(run(api, plan_of(api.begin(), source="tuesday_csv")))

    assert (job.job_id, reattached, api.begun) == (id_of("key"), True, [])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "monday_csv" in record.message
    assert "tuesday_csv" in record.message


@pytest.mark.parametrize("plan_source", ["monday_csv", None])
def test_the_same_file_or_none_is_no_warning(plan_source: str | None, caplog: pytest.LogCaptureFixture) -> None:
    api = FakeApi(FakeJob(id_of("key"), source="monday_csv"))
    taken(run(api, plan_of(api.begin(), source=plan_source)))
    assert caplog.records == []


# Digests


def test_a_digest_does_not_depend_on_the_order_of_names_nor_on_empty_values() -> None:
    digest = digest_of({"a": 1, "b": ["x"]})
    assert digest_of({"b": ("x",), "a": 1, "c": None, "d": [], "e": {}}) == digest
    assert digest_of({"a": 1, "b": ["y"]}) != digest
    assert digest_of({"a": True, "b": ["x"]}) != digest


def test_false_and_zero_are_not_empty() -> None:
    assert len({digest_of({"a": value}) for value in (False, 0, "", None)}) == 4


def test_a_digest_is_the_same_in_every_process() -> None:
    what = {"query": "SELECT 'ü'", "labels": {"b": 1, "a": [2, {"d": 1, "c": 0}]}}
    script = f"from carto_auth_integrations.warehouse.jobs import digest_of; print(digest_of({what!r}))"
    outputs = [run_processes(1, script, PYTHONHASHSEED=seed)[0] for seed in ("1", "2")]
    assert outputs == [digest_of(what)] * 2


def test_a_digest_fits_into_a_label() -> None:
    assert label_of(digest_of({"a": 1})) == digest_of({"a": 1})


# Waiting


def test_the_job_is_looked_at_until_it_ends_at_growing_intervals() -> None:
    api, pauses, seen = FakeApi(), [], []
    begin = api.begin("PENDING", *["RUNNING"] * 20, "DONE")

    taken(run(api, plan_of(begin), on_progress=seen.append), pauses)

    assert [progress.state for progress in seen] == ["PENDING", "PENDING"] + ["RUNNING"] * 20 + ["DONE"]
    assert all(isinstance(progress, JobProgress) and progress.job_id == api.begun[0] for progress in seen)
    assert pauses[0] < 0.2
    assert 3 < pauses[-1] < 8


def test_progress_names_the_job_before_it_is_begun() -> None:
    api, seen = FakeApi(FakeJob(id_of("key"), error_result=FAILED)), []

    def begin(job_id: str) -> FakeJob:
        assert seen == [JobProgress(job_id, "UPLOADING", 0.0, location="EU")]
        return FakeJob(job_id)

    plan = plan_of(begin, location="EU", first_state="UPLOADING")
    taken(find_or_begin(api, plan, seen.append))
    assert seen[0].job_id == id_of("key", attempt=2)


def test_a_job_that_is_taken_is_not_announced_as_one_that_begins() -> None:
    api, seen = FakeApi(FakeJob(id_of("key"), "RUNNING", "DONE")), []
    taken(run(api, plan_of(api.begin()), on_progress=seen.append))
    assert [progress.state for progress in seen] == ["RUNNING", "DONE"]


def test_a_job_over_its_time_is_cancelled_where_it_runs() -> None:
    api = FakeApi(timeout=0.05)
    with pytest.raises(TimeoutError, match=r"took longer than 0\.05 s and was cancelled"):
        taken(run(api, plan_of(api.begin("RUNNING"))))
    assert api.cancelled == [(api.begun[0], "US")]


def test_a_job_that_could_not_be_cancelled_is_said_to_go_on() -> None:
    def cancel(_job_id: str, _location: str | None) -> Generator[float, None, bool]:
        yield 0.0
        raise refused(503, transient=True)

    api = FakeApi(timeout=0.05)
    api.cancel = cancel  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match=r"could not be cancelled, so it may go on: failed"):
        taken(run(api, plan_of(api.begin("RUNNING"))))


def test_a_job_that_has_ended_in_time_is_not_cancelled_however_late_it_is_seen() -> None:
    api = FakeApi(timeout=0)
    taken(run(api, plan_of(api.begin())))
    assert api.cancelled == []


def test_a_job_whose_beginning_took_too_long_is_cancelled() -> None:
    """The request may have arrived all the same."""
    api = FakeApi()
    with pytest.raises(TimeoutError):
        taken(run(api, plan_of(api.begin(error=TimeoutError("late")), location="EU")))
    assert api.cancelled == [(api.begun[0], "EU")]


def test_nothing_is_begun_once_the_caller_was_cancelled() -> None:
    api = FakeApi()
    api.deadline.cancel()
    with pytest.raises(Cancelled):
        taken(run(api, plan_of(api.begin())))
    assert api.begun == []


def test_a_job_that_vanishes_while_it_is_waited_for_is_not_found() -> None:
    api = FakeApi()
    with pytest.raises(NotFound, match=id_of("key")):
        taken(run(api, plan_of(api.begin("RUNNING", made=False))))


def test_a_job_keeps_its_description_as_text_and_reads_it_when_asked() -> None:
    text = json.dumps({"configuration": {"load": {"x": 1}}, "statistics": {"load": {"outputRows": "2"}}}).encode()
    job = Job("j", "EU", "DONE", False, text)
    assert (job.configured("load"), job.statistics("load")) == ({"x": 1}, {"outputRows": "2"})
    assert (job.configured("query"), job.statistics("query")) == ({}, {})


def test_an_error_of_the_progress_callback_is_the_callers() -> None:
    def progress(_: JobProgress) -> None:
        raise KeyError("mine")

    api = FakeApi()
    with pytest.raises(KeyError, match="mine"):
        taken(run(api, plan_of(api.begin()), on_progress=progress))
