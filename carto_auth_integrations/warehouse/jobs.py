"""Jobs that happen once: the identity that a retry finds again, waiting, cancelling, and labels."""

from __future__ import annotations

import json
import logging
import re
import time
from base64 import b32encode
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import count
from random import random
from typing import TYPE_CHECKING, NoReturn
from unicodedata import category
from uuid import uuid4

from ..account.account import sha256_of
from ..bigquery.errors import not_found
from ..bigquery.rest import BigQuery
from ..errors import CallFailed, CredentialsError
from ..waiting import Deadline
from .results import PENDING, JobProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..bigquery.rest import Job
    from ..waiting import Steps
    from .options import OnProgress

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two looks at a job: short for a job of milliseconds, grown by half each time."""
CANCEL_TIMEOUT = 2.0
"""Seconds beyond its time limit that a call may take to cancel its job."""
KEY_LENGTH = 120
"""Characters of an idempotency key that are legible in the job's id. The hash covers the whole key."""
HASH_LENGTH = 20
"""Hexadecimal digits of that hash: 80 bits make collisions of ids negligible."""
CONFLICT = 409
"""BigQuery's status if a job of that id exists."""
DIGEST_LABEL = "carto-digest"
"""The label with the digest of what the job does."""
SOURCE_LABEL = "carto-source"
"""The label with the name of the file that was loaded."""
REJECTED_LABEL, REPAIRED_LABEL, AREA_LABEL = "carto-rejected", "carto-repaired", "carto-area-change"
"""The labels with the numbers of rows that did not fit, of repaired geometries, and of square metres they changed."""
LABEL_LENGTH = 63
MOST_LABELS = 64 - 5
"""Limits of BigQuery, less the labels above. https://cloud.google.com/bigquery/docs/labels-intro#requirements"""


class RunKey(str):
    """An idempotency key that a connector made of the run and the task.

    A retry whose templates or data are different now has done its work already: its job is taken, with a warning. For
    a key that a caller chose, a job that does something else is an error.
    """

    __slots__ = ()


@dataclass(frozen=True)
class JobPlan:
    """A job that is to happen once.

    Attributes:
        key: The idempotency key; None for a job that is not to be found again.
        digest: The digest of what the job does.
        begin: Begins the job under an id.
        location: Where it runs; None to let BigQuery decide.
        source: The name of the file that it loads, if it loads one.
        first_state: Its state before it begins: `UPLOADING` or `PENDING`.
    """

    key: str | None
    digest: str
    begin: Callable[[str], Steps[Job]]
    location: str | None
    source: str | None = None
    first_state: str = PENDING

    def job_id(self, attempt: int) -> str:
        """Return the id of an attempt: the key in legible form, its hash, and the attempt's number."""
        if self.key is None:
            return f"carto_{uuid4().hex}"
        legible = re.sub(r"[^A-Za-z0-9_-]+", "-", self.key)[:KEY_LENGTH]
        return f"carto_{legible}_{sha256_of(self.key)[:HASH_LENGTH]}_{attempt}"

    def check(self, job: Job) -> None:
        """Compare an existing job of this key with what is to be done.

        Raises:
            ValueError: If the caller chose the key, and the job does something else.
        """
        labels = job.resource["configuration"].get("labels", {})
        if labels.get(DIGEST_LABEL) != self.digest:
            said = (
                f"The job {job.job_id} of the idempotency key {str(self.key)!r} already exists and does something else"
            )
            if not isinstance(self.key, RunKey):
                raise ValueError(f"{said}; use another idempotency_key.")
            logger.warning("%s than this try would: it is taken, for this task has already run.", said)
        elif self.source and labels.get(SOURCE_LABEL, self.source) != self.source:
            logger.warning(
                "The job %s has loaded %s, and %s is not loaded: use another idempotency_key for another load.",
                job.job_id,
                labels[SOURCE_LABEL],
                self.source,
            )


def digest_of(what: Mapping[str, object]) -> str:
    """Return the digest of what a job does: what BigQuery is told, without what may differ between tries.

    It is the same in every process and release: canonical JSON, without empty values. Base32, since a hexadecimal
    SHA-256 does not fit into a label.
    """
    text = json.dumps(_without_empty(what), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return b32encode(sha256(text.encode()).digest()).decode().rstrip("=").lower()


def _without_empty(value: object) -> object:
    if isinstance(value, dict):
        kept = {str(name): _without_empty(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each not in (None, [], {})}
    return [_without_empty(each) for each in value] if isinstance(value, (list, tuple)) else value


def find_or_begin(api: BigQuery, plan: JobPlan, on_progress: OnProgress | None = None) -> Steps[tuple[Job, bool]]:
    """Return the job if an earlier try has begun it and it has not failed, else begin it.

    Args:
        api: Where the job runs.
        plan: Which job.
        on_progress: Called before the job is begun.

    Returns:
        The job, and whether it existed already.

    Raises:
        ValueError: If the key belongs to a job that does something else.
        CallFailed: If the job cannot be begun.
    """
    for attempt in count(1):
        job_id = plan.job_id(attempt)
        job = (yield from api.get(job_id, plan.location)) if plan.key is not None else None
        if job is None:
            if on_progress:
                yield partial(on_progress, JobProgress(job_id, plan.first_state, 0.0, location=plan.location))
            api.deadline.raise_if_cancelled()
            job, reattached = yield from _begin(api, plan, job_id)
            if not reattached:
                return job, False
        if not job.failed:
            plan.check(job)
            return job, True
    raise AssertionError("there is always another attempt")


def wait(api: BigQuery, job: Job, on_progress: OnProgress | None = None) -> Steps[Job]:
    """Wait for the end of a job, whether it succeeds or fails.

    Args:
        api: Where the job runs. When its deadline passes, the job is cancelled.
        job: The job.
        on_progress: Called after each look at the job.

    Returns:
        The job as it ended.

    Raises:
        TimeoutError: If the deadline passed.
        google.api_core.exceptions.NotFound: If the job no longer exists.
    """
    started, pause = time.monotonic(), FIRST_PAUSE
    while True:
        if on_progress:
            seconds = time.monotonic() - started
            yield partial(on_progress, JobProgress(job.job_id, job.state, seconds, location=job.location))
        if job.state == "DONE":
            return job
        if not api.deadline.left():
            yield from _give_up(api, job)
        yield min(pause * (0.75 + random() / 2), api.deadline.left())
        pause = min(pause * 1.5, LONGEST_PAUSE)
        try:
            found = yield from api.get(job.job_id, job.location)
        except TimeoutError:
            yield from _give_up(api, job)
        if found is None:
            raise not_found(job.job_id, job.location)
        job = found


def cancel_at_once(api: BigQuery, job_id: str, location: str | None) -> Steps[str | None]:
    """Request the end of a job, within `CANCEL_TIMEOUT`; return why that failed, None if it did not."""
    try:
        yield from BigQuery(api.tokens, Deadline(CANCEL_TIMEOUT)).cancel(job_id, location)
    except (CallFailed, CredentialsError, TimeoutError) as error:
        return str(error)
    return None


def _give_up(api: BigQuery, job: Job) -> Steps[NoReturn]:
    failure = yield from cancel_at_once(api, job.job_id, job.location)
    ended = f"could not be cancelled, so it may go on: {failure}" if failure else "was cancelled."
    raise TimeoutError(f"Job {job.job_id} took longer than {api.deadline.seconds or 0:g} s and {ended}")


def _begin(api: BigQuery, plan: JobPlan, job_id: str) -> Steps[tuple[Job, bool]]:
    """Begin a job. If that fails, see whether it exists all the same.

    The response may have been lost, or another try may have been faster: the id is the same, so it is the right job.
    """
    try:
        return (yield from plan.begin(job_id)), False
    except (CallFailed, TimeoutError) as error:
        failure = error
    if isinstance(failure, TimeoutError):  # the job may exist all the same
        unable = yield from cancel_at_once(api, job_id, plan.location)
        ended = f"could not be cancelled: {unable}" if unable else "was cancelled, if it had begun."
        raise TimeoutError(f"{failure} Job {job_id} {ended}")
    job = yield from api.get(job_id, _location_in(failure.message, job_id) or plan.location)
    if job is None:
        raise failure
    return job, failure.status == CONFLICT and plan.key is not None


def _location_in(message: str, job_id: str) -> str | None:
    """Return where a job runs that exists already: BigQuery names it as project:location.id."""
    found = re.search(rf"Job \S+:([\w-]+)\.{re.escape(job_id)}\b", message)
    return found[1] if found else None


def valid_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels that BigQuery accepts: lower case, other characters as `_`, cut at 63 characters with a hash.

    Args:
        labels: Any text by any name.

    Raises:
        ValueError: If there are too many.
    """
    if len(labels) > MOST_LABELS:
        raise ValueError(f"BigQuery accepts {MOST_LABELS} labels beside this package's own; these are {len(labels)}.")
    valid: dict[str, str] = {}
    for name, value in labels.items():
        key = label_of(str(name))
        key = key if key[:1].isalpha() else label_of(f"l_{name}")
        if key in valid:
            key = f"{key[: LABEL_LENGTH - 9]}_{sha256_of(str(name))[:8]}"
        valid[key] = label_of(str(value))
    return valid


def label_of(text: str) -> str:
    """Return a text as the value of a label."""
    label = "".join(character if _is_label_character(character) else "_" for character in text.lower())
    return label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 9]}_{sha256_of(text)[:8]}"


def _is_label_character(character: str) -> bool:
    """Whether BigQuery accepts a character in a label: a lower-case or caseless letter, a digit, `_` or `-`."""
    return character in "_-" or category(character) in ("Ll", "Lo", "Nd", "Nl", "No")
