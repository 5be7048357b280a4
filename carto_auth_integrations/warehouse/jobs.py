"""Jobs that happen once: ids that a retry finds again, waiting, awaiting, cancelling, and labels from any text."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import partial
from random import random
from typing import TYPE_CHECKING

from ..account.account import sha256_of
from ..bigquery.rest import not_found, retried
from .results import PENDING, JobProgress
from .steps import NOW, Here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..bigquery.rest import Job, JobsApi
    from .steps import Steps

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two looks at a job: short for a job of milliseconds, grown by half each time."""
KEY_LENGTH = 120
"""Characters of an idempotency key that are legible in the job's id; all of it is in the hash."""
HASH_LENGTH = 20
"""Hexadecimal digits of that hash: 80 bits, so that no two deeds of an account meet by chance."""
CONFLICT = 409
"""What BigQuery answers if there is a job of that id."""
LABEL_LENGTH = 63
MOST_LABELS = 64
"""Limits of BigQuery. https://cloud.google.com/bigquery/docs/labels-intro#requirements"""


@dataclass(frozen=True)
class JobPlan:
    """A job that is to happen once.

    Attributes:
        key: The idempotency key; None for a job that is not to be found again.
        what: What the job does, in words that are the same for each try: part of the job's id.
        begin: Begins the job under an id.
        is_same: Whether a job that was found under the id does what this one is to do.
        location: Where it runs; None to let BigQuery decide.
        first_state: What is told of it before it begins: `UPLOADING` or `PENDING`.
    """

    key: str | None
    what: str
    begin: Callable[[str], Steps[Job]]
    is_same: Callable[[Job], bool]
    location: str | None
    first_state: str = PENDING

    def job_id(self, attempt: int) -> str:
        """Give the id of an attempt: the key, legible; a hash of key and deed; the attempt's number."""
        if self.key is None:
            from uuid import uuid4

            return f"carto_{uuid4().hex}"
        legible = re.sub(r"[^A-Za-z0-9_-]+", "-", self.key)[:KEY_LENGTH]
        digest = sha256_of(json.dumps([self.key, self.what]))[:HASH_LENGTH]
        return f"carto_{legible}_{digest}_{attempt}"


def find_or_begin(
    api: JobsApi,
    plan: JobPlan,
    on_progress: Callable[[JobProgress], None] | None = None,
    remember: Callable[[str, str | None], None] | None = None,
) -> Steps[tuple[Job, bool]]:
    """Take the job if an earlier try has begun it and it has not failed, else begin it.

    Args:
        api: Where the job runs.
        plan: Which job.
        on_progress: Called before the job is begun.
        remember: Takes the job's id and location, before that.

    Returns:
        The job, and whether it was there already.

    Raises:
        ValueError: If the job's id belongs to a job that does something else.
        google.api_core.exceptions.GoogleAPICallError: If it cannot be begun, as BigQuery says.
    """
    attempt = 1
    while True:
        job_id = plan.job_id(attempt)
        job = (yield from retried(partial(api.get, job_id, plan.location))) if plan.key is not None else None
        if job is None:
            if remember:
                remember(job_id, plan.location)
            if on_progress:
                yield Here(partial(on_progress, JobProgress(job_id, plan.first_state, 0.0, location=plan.location)))
            yield NOW  # a caller that has been cancelled begins nothing
            job, reattached = yield from _begin(api, plan, job_id)
            if not reattached:
                return job, False
        if not plan.is_same(job):
            raise ValueError(
                f"The job {job_id} does something else than what is asked for: give this one another idempotency_key."
            )
        if job.state != "DONE" or not job.failed:
            return job, True
        attempt += 1  # that try failed or was cancelled: this one starts anew


def wait(
    api: JobsApi,
    job: Job,
    *,
    timeout: float | None = None,
    on_progress: Callable[[JobProgress], None] | None = None,
) -> Steps[Job]:
    """Wait for a job's end, whether it succeeds or fails.

    Args:
        api: Where the job runs.
        job: The job.
        timeout: Seconds from now on after which the job is cancelled; None to wait for as long as it takes.
        on_progress: Called after each look at the job.

    Returns:
        The job as it ended.

    Raises:
        TimeoutError: If the time limit passed.
        google.api_core.exceptions.NotFound: If the job is there no more.
    """
    started = time.monotonic()
    pause = FIRST_PAUSE
    while True:
        if on_progress:
            seconds = time.monotonic() - started
            yield Here(partial(on_progress, JobProgress(job.job_id, job.state, seconds, location=job.location)))
        if job.state == "DONE":
            return job
        if timeout is not None and time.monotonic() - started > timeout:
            yield from retried(partial(api.cancel, job.job_id, job.location))
            raise TimeoutError(f"Job {job.job_id} took longer than {timeout:g} s and was cancelled.")
        yield pause * (0.75 + random() / 2)
        pause = min(pause * 1.5, LONGEST_PAUSE)
        found = yield from retried(partial(api.get, job.job_id, job.location))
        if found is None:
            raise not_found(job.job_id, job.location)
        job = found


def _begin(api: JobsApi, plan: JobPlan, job_id: str) -> Steps[tuple[Job, bool]]:
    """Begin a job; if that fails, see whether it is there all the same.

    The answer may have been lost, or another try have been faster: the id is the same, so the job is what was wanted.
    """
    try:
        return (yield from plan.begin(job_id)), False
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        job = yield from retried(partial(api.get, job_id, _location_in(str(error), job_id) or plan.location))
        if job is None:
            raise
        return job, getattr(error, "code", None) == CONFLICT and plan.key is not None


def _is_of_the_network(error: Exception) -> bool:
    """Tell whether an error is BigQuery's answer or the lack of one; by its name, for nothing may be imported here."""
    return type(error).__module__.partition(".")[0] in ("google", "requests", "urllib3")


def _location_in(message: str, job_id: str) -> str | None:
    """Find where a job is that exists already: BigQuery names it as project:location.id."""
    found = re.search(rf"Job \S+:([\w-]+)\.{re.escape(job_id)}\b", message)
    return found[1] if found else None


def valid_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Make labels of any text valid for BigQuery: lower case, other characters as `_`, cut at 63 with a hash.

    Args:
        labels: Any text by any name.

    Raises:
        ValueError: If there are more than BigQuery takes; none is dropped in silence.
    """
    if len(labels) > MOST_LABELS:
        raise ValueError(f"BigQuery takes {MOST_LABELS} labels, and there are {len(labels)}: give fewer.")
    valid: dict[str, str] = {}
    for name, value in labels.items():
        key = _label(str(name))
        key = key if key[:1].isalpha() else _label(f"l_{name}")
        if key in valid:
            key = f"{key[: LABEL_LENGTH - 9]}_{sha256_of(str(name))[:8]}"
        valid[key] = _label(str(value))
    return valid


def _label(text: str) -> str:
    label = "".join(character if _may_be_in_a_label(character) else "_" for character in text.lower())
    return label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 9]}_{sha256_of(text)[:8]}"


def _may_be_in_a_label(character: str) -> bool:
    """Tell whether BigQuery takes a character in a label: a lower-case or caseless letter, a digit, `_` or `-`."""
    from unicodedata import category

    return character in "_-" or category(character) in ("Ll", "Lo", "Nd", "Nl", "No")
