"""Jobs that happen once: ids that a retry finds again, waiting, awaiting, cancelling, and labels from any text."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import partial
from random import random
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..account import sha256_of
from .results import JobProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.cloud import bigquery

    from .steps import Steps

Job = TypeVar("Job")
"""A QueryJob or a LoadJob of google-cloud-bigquery."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two looks at a job: short for a job of milliseconds, grown by half each time."""
KEY_LENGTH = 120
"""Characters of an idempotency key that are legible in the job's id; all of it is in the hash."""
HASH_LENGTH = 20
"""Hexadecimal digits of that hash: 80 bits, so that no two deeds of an account meet by chance."""
LABEL_LENGTH = 63
MOST_LABELS = 64
"""Limits of BigQuery. https://cloud.google.com/bigquery/docs/labels-intro#requirements"""


@dataclass(frozen=True)
class JobPlan(Generic[Job]):
    """A job that is to happen once.

    Attributes:
        key: The idempotency key; None for a job that is not to be found again.
        what: What the job does, in words that are the same for each try: part of the job's id.
        begin: Begins the job under an id.
        is_same: Whether a job that was found under the id does what this one is to do.
        location: Where it runs; None to let BigQuery decide.
    """

    key: str | None
    what: str
    begin: Callable[[str], Job]
    is_same: Callable[[Job], bool]
    location: str | None

    def job_id(self, attempt: int) -> str:
        """Give the id of an attempt: the key, legible; a hash of key and deed; the attempt's number."""
        if self.key is None:
            from uuid import uuid4

            return f"carto_{uuid4().hex}"
        legible = re.sub(r"[^A-Za-z0-9_-]+", "-", self.key)[:KEY_LENGTH]
        digest = sha256_of(json.dumps([self.key, self.what]))[:HASH_LENGTH]
        return f"carto_{legible}_{digest}_{attempt}"


def run(
    client: bigquery.Client,
    plan: JobPlan[Job],
    *,
    timeout: float | None = None,
    on_progress: Callable[[JobProgress], None] | None = None,
) -> Steps[tuple[Job, bool]]:
    """Take the result of the job if an earlier try has begun it, else begin it, and wait for its end.

    Args:
        client: Where the job runs.
        plan: Which job.
        timeout: Seconds after its begin that the job is cancelled; None to wait for as long as it takes.
        on_progress: Called after each look at the job.

    Returns:
        The job that has succeeded, and whether it was there already.

    Raises:
        TimeoutError: If the time limit passed.
        ValueError: If the job's id belongs to a job that does something else.
        google.api_core.exceptions.GoogleAPICallError: If the job failed, as BigQuery says.
    """
    job: Any
    job, reattached = yield from _find_or_begin(client, plan)
    started = time.monotonic()
    pause = FIRST_PAUSE
    while True:
        if on_progress:
            on_progress(JobProgress(job.job_id, job.state, time.monotonic() - started))
        if job.state == "DONE":
            break
        if timeout is not None and time.monotonic() - started > timeout:
            yield partial(client.cancel_job, job.job_id, location=job.location)
            raise TimeoutError(f"Job {job.job_id} took longer than {timeout:g} s and was cancelled.")
        yield pause * (0.75 + random() / 2)
        pause = min(pause * 1.5, LONGEST_PAUSE)
        yield job.reload
    if job.error_result:
        yield partial(job.result, retry=None)  # raises what BigQuery says, row and column included
    return job, reattached


def _find_or_begin(client: bigquery.Client, plan: JobPlan[Job]) -> Steps[tuple[Job, bool]]:
    if plan.key is None:
        return (yield from _begin(client, plan, plan.job_id(1)))
    attempt = 1
    while True:
        job_id = plan.job_id(attempt)
        job = yield partial(_get, client, job_id, plan.location)
        if job is None:
            job, reattached = yield from _begin(client, plan, job_id)
            if not reattached:
                return job, False
        if not plan.is_same(job):
            raise ValueError(
                f"The job {job_id} does something else than what is asked for: give this one another idempotency_key."
            )
        if job.state != "DONE" or not job.error_result:
            return job, True
        attempt += 1  # that try failed or was cancelled: this one starts anew


def _begin(client: bigquery.Client, plan: JobPlan[Job], job_id: str) -> Steps[tuple[Job, bool]]:
    """Begin a job; if that fails, see whether it is there all the same.

    The answer may have been lost, or another try have been faster: the id is the same, so the job is what was wanted.
    """
    from google.api_core.exceptions import Conflict, GoogleAPICallError
    from google.auth.exceptions import TransportError
    from requests import RequestException

    try:
        return (yield partial(plan.begin, job_id)), False
    except (GoogleAPICallError, TransportError, RequestException) as error:
        job = yield partial(_get, client, job_id, _location_in(str(error), job_id) or plan.location)
        if job is None:
            raise
        return job, isinstance(error, Conflict) and plan.key is not None


def _get(client: bigquery.Client, job_id: str, location: str | None) -> Any:
    from google.api_core.exceptions import NotFound

    try:
        return client.get_job(job_id, location=location)
    except NotFound:
        return None


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
