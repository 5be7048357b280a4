"""Jobs that happen once: their ids, their labels, and what is done when an answer is lost or another was faster."""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Callable, Generator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound
from google.auth.exceptions import TransportError
from requests import ConnectionError as LostConnection

from carto_auth_integrations.warehouse import jobs
from carto_auth_integrations.warehouse.jobs import JobPlan, find_or_begin, valid_labels, wait
from carto_auth_integrations.warehouse.results import JobProgress
from carto_auth_integrations.warehouse.steps import NOW, Here

LONGEST_ID = 1024
"""Characters of a job id. https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid"""
VALID_ID = re.compile(r"[A-Za-z0-9_-]+")


class FakeJob:
    """A job that goes through its states, one with each look at it."""

    def __init__(
        self, job_id: str, *states: str, error_result: dict[str, str] | None = None, location: str = "US"
    ) -> None:
        self.job_id, self.location = job_id, location
        self._states = list(states or ("DONE",))
        self._error = error_result

    @property
    def state(self) -> str:
        return self._states[0]

    @property
    def failed(self) -> bool:
        return self.state == "DONE" and self._error is not None

    def seen(self) -> FakeJob:
        """Give the job as it is now; the next look finds it further."""
        now = copy.copy(self)
        self._states = self._states[1:] or self._states
        return now


class FakeApi:
    """Knows some jobs, each in one location, and begins others as its test says."""

    def __init__(self, *known: FakeJob) -> None:
        self.jobs = {job.job_id: job for job in known}
        self.begun: list[str] = []
        self.cancelled: list[tuple[str, str]] = []
        self.needs_location = False

    def get(self, job_id: str, location: str | None) -> FakeJob | None:
        job = self.jobs.get(job_id)
        if job is None or (location is None and self.needs_location):
            return None
        return job.seen()

    def cancel(self, job_id: str, location: str | None) -> bool:
        self.cancelled.append((job_id, location or ""))
        return True

    def begin(
        self, *states: str, error: Exception | None = None, made: bool = True, **fields: Any
    ) -> Callable[[str], FakeJob]:
        """Give what begins a job: it is made or not, and then the answer comes or an error."""

        def begin(job_id: str) -> FakeJob:
            self.begun.append(job_id)
            job = FakeJob(job_id, *states, **fields)
            if made:
                self.jobs[job_id] = job
            if error:
                raise error
            return job.seen()

        return begin


def plan_of(begin: Callable[[str], Any], key: str | None = "key", what: str = "what", **fields: Any) -> JobPlan:
    def steps(job_id: str) -> Generator[Any, None, Any]:
        return begin(job_id)
        yield

    return JobPlan(key, what, steps, **{"is_same": lambda _: True, "location": None, **fields})


def taken(steps: Any, pauses: list[float] | None = None) -> Any:
    """Take the steps, without the pauses."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if isinstance(step, Here):
            step.call()
        elif step != NOW and pauses is not None:
            pauses.append(step)


def run(api: Any, plan: JobPlan, *, on_progress: Any = None, **options: Any) -> Any:
    """Begin and wait, as `query` and `load` do."""
    job, reattached = yield from find_or_begin(api, plan, on_progress)
    return (yield from wait(api, job, on_progress=on_progress, **options)), reattached


def id_of(key: str | None, what: str = "what", attempt: int = 1) -> str:
    return plan_of(lambda _: None, key, what).job_id(attempt)


FAILED = {"reason": "invalid", "message": "Row 7 is bad"}
STOPPED = {"reason": "stopped", "message": "Job execution was cancelled"}


def test_the_id_is_the_same_for_each_try_and_shows_the_key() -> None:
    assert id_of("etl.load.2024-01-01.3") == id_of("etl.load.2024-01-01.3")
    assert "etl-load-2024-01-01-3" in id_of("etl.load.2024-01-01.3")


def test_the_id_differs_by_key_by_deed_and_by_attempt() -> None:
    ids = {id_of(key, what, attempt) for key in "ab" for what in "xy" for attempt in (1, 2)}
    assert len(ids) == 8


def test_keys_that_look_alike_in_the_id_still_have_ids_of_their_own() -> None:
    keys = ["a b", "a-b", "a.b", "a/b", "ä-b", "a" * 500 + "1", "a" * 500 + "2", "", " "]
    assert len({id_of(key) for key in keys}) == len(keys)


def test_key_and_deed_do_not_flow_into_each_other() -> None:
    assert id_of("ab", "c").split("_")[-2] != id_of("a", "bc").split("_")[-2]


@pytest.mark.parametrize(
    "key", ["", "dag/run:2024-01-01T00:00:00+00:00", "Aufträge für Köln", "表" * 900, "'; --", "\n"]
)
def test_any_key_gives_a_valid_id(key: str) -> None:
    assert VALID_ID.fullmatch(id_of(key, attempt=1000))
    assert len(id_of(key, attempt=1000)) <= LONGEST_ID


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
    r"""Hold a text against BigQuery's rule: `[\p{Ll}\p{Lo}\p{N}_-]{0,63}`."""
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
    assert len(valid_labels({f"label{number}": "" for number in range(64)})) == 64
    with pytest.raises(ValueError, match=r"64.*65"):
        valid_labels({f"label{number}": "" for number in range(65)})


def test_labels_that_are_no_texts_are_taken_by_their_text() -> None:
    assert valid_labels({"try": 3, "none": None}) == {"try": "3", "none": "none"}  # type: ignore[dict-item]


def test_a_job_that_is_not_there_is_begun() -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (api.begun, reattached) == ([job.job_id], False)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "DONE"])
def test_a_job_that_runs_or_has_succeeded_is_taken(state: str) -> None:
    api = FakeApi(FakeJob(id_of("key"), state, "DONE"))
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (job.state, reattached, api.begun) == ("DONE", True, [])


@pytest.mark.parametrize("error", [FAILED, STOPPED], ids=["failed", "cancelled"])
def test_after_a_job_that_came_to_nothing_the_next_attempt_begins(error: dict[str, str]) -> None:
    api = FakeApi(*(FakeJob(id_of("key", attempt=attempt), error_result=error) for attempt in (1, 2)))
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (job.job_id, reattached) == (id_of("key", attempt=3), False)
    assert api.begun == [job.job_id]


def test_after_a_failure_the_attempt_that_succeeded_is_taken() -> None:
    api = FakeApi(FakeJob(id_of("key"), error_result=FAILED), FakeJob(id_of("key", attempt=2)))
    job, reattached = taken(run(api, plan_of(api.begin())))
    assert (job.job_id, reattached, api.begun) == (id_of("key", attempt=2), True, [])


def test_a_job_that_fails_under_this_call_is_given_as_it_is_and_not_begun_again() -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin("RUNNING", "DONE", error_result=FAILED))))
    assert (job.failed, reattached, api.begun) == (True, False, [id_of("key")])


@pytest.mark.parametrize("lost", [LostConnection("cut"), TransportError("cut"), Forbidden("late")])
@pytest.mark.parametrize("key", ["key", None])
def test_a_job_whose_answer_was_lost_is_found_under_its_id(lost: Exception, key: str | None) -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin(error=lost), key)))
    assert (api.begun, reattached) == ([job.job_id], False)


@pytest.mark.parametrize("error", [LostConnection("refused"), Forbidden("no"), BadRequest("bad"), NotFound("dataset")])
def test_an_error_without_a_job_passes_through(error: Exception) -> None:
    api = FakeApi()
    with pytest.raises(type(error)) as raised:
        taken(run(api, plan_of(api.begin(error=error, made=False))))
    assert raised.value is error
    assert len(api.begun) == 1


def test_errors_that_are_no_answer_of_bigquery_pass_through_without_another_request() -> None:
    def begin(job_id: str) -> None:
        api.jobs[job_id] = FakeJob(job_id)
        raise RuntimeError("half-way")

    api = FakeApi()
    with pytest.raises(RuntimeError, match="half-way"):
        taken(run(api, plan_of(begin)))


def test_a_twin_that_was_faster_gives_its_result() -> None:
    api = FakeApi()
    job, reattached = taken(run(api, plan_of(api.begin(error=Conflict("Already Exists: Job p:US.x")))))
    assert (api.begun, reattached) == ([job.job_id], True)


def test_a_faster_twin_that_failed_leads_to_the_next_attempt() -> None:
    def begin(job_id: str) -> FakeJob:
        if job_id == id_of("key"):
            api.jobs[job_id] = FakeJob(job_id, error_result=FAILED)
            raise Conflict(f"Already Exists: Job p:US.{job_id}")
        api.jobs[job_id] = FakeJob(job_id)
        return api.jobs[job_id]

    api = FakeApi()
    job, reattached = taken(run(api, plan_of(begin)))
    assert (job.job_id, reattached) == (id_of("key", attempt=2), False)


def test_a_job_in_a_place_nobody_told_is_found_by_what_the_conflict_says() -> None:
    api = FakeApi(FakeJob(id_of("key"), location="europe-west1"))
    api.needs_location = True

    def begin(job_id: str) -> None:
        raise Conflict(f"POST https://bigquery/jobs: Already Exists: Job carto-dw-ac-1:europe-west1.{job_id}")

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
def test_the_place_of_a_job_is_read_from_a_conflict(message: str, place: str | None) -> None:
    assert jobs._location_in(message, "the_id") == place


@pytest.mark.parametrize("found_late", [False, True])
def test_a_job_that_does_something_else_is_never_taken(found_late: bool) -> None:
    api = FakeApi() if found_late else FakeApi(FakeJob(id_of("key")))
    plan = plan_of(api.begin(error=Conflict("Already Exists")), is_same=lambda _: False)
    with pytest.raises(ValueError, match="another idempotency_key"):
        taken(run(api, plan))


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


class Ticking:
    """A clock that goes on by a second with each look at it."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


def test_a_job_over_its_time_is_cancelled_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    monkeypatch.setattr(jobs, "time", Ticking())
    with pytest.raises(TimeoutError, match=r"took longer than 3 s and was cancelled"):
        taken(run(api, plan_of(api.begin("RUNNING")), timeout=3))
    assert api.cancelled == [(api.begun[0], "US")]


def test_a_job_that_has_ended_in_time_is_not_cancelled_however_late_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    monkeypatch.setattr(jobs, "time", Ticking())
    taken(run(api, plan_of(api.begin()), timeout=0))
    assert api.cancelled == []


def test_the_time_limit_counts_from_the_end_of_the_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    api, clock = FakeApi(), Ticking()
    monkeypatch.setattr(jobs, "time", clock)
    begin = api.begin("RUNNING", "DONE")

    def slow_upload(job_id: str) -> FakeJob:
        clock.now += 3600
        return begin(job_id)

    job, _ = taken(run(api, plan_of(slow_upload), timeout=60))
    assert job.state == "DONE"


def test_an_error_of_the_progress_callback_is_the_callers() -> None:
    def progress(_: JobProgress) -> None:
        raise KeyError("mine")

    api = FakeApi()
    with pytest.raises(KeyError, match="mine"):
        taken(run(api, plan_of(api.begin()), on_progress=progress))
