"""Resumable uploads: a file becomes a load job with its last byte.

The protocol: https://cloud.google.com/bigquery/docs/reference/api-uploads
"""

from __future__ import annotations

import json
import os
import re
import time
from functools import partial
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import http
from ..account.fields import is_loopback
from ..errors import CallFailed, ServiceUnavailable
from ..waiting import Deadline
from .rest import JSON, PATIENCE, Job, checked, endpoint_of, named, pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..waiting import Steps
    from .rest import BigQuery

CHUNK = 16 * 1024 * 1024
"""Bytes of one request, a multiple of 256 KiB: small beside memory, large beside a round trip."""
ANSWER_TIMEOUT = 60.0
"""Seconds for the answer to a chunk: the last one is answered when the job has been created."""
RESTARTS = 3
"""How often an upload begins again after its session has expired."""
INCOMPLETE, GONE = 308, (404, 410)


def send_file(
    api: BigQuery,
    file: IO[bytes],
    resource: Mapping[str, Any],
    on_sent: Callable[[float, int, int], object] | None = None,
) -> Steps[Job]:
    """Send a file and return the load job that BigQuery makes of it. Without the last byte there is no job.

    Args:
        api: BigQuery. After its deadline no byte is sent.
        file: Open for reading; its whole content is sent.
        resource: The job: `jobReference` and `configuration`.
        on_sent: Called after each chunk with the seconds since the beginning, the bytes sent, and all bytes.

    Raises:
        CallFailed: If BigQuery refuses the job, or cannot be reached.
        TimeoutError: If the deadline passes.
    """
    upload = _Upload(api, file, resource)
    began, restarts = time.monotonic(), 0
    furthest, waits, patience = 0, pauses(), Deadline(PATIENCE)
    try:
        while True:
            reply = yield from http.retried(
                upload.advance, waits, f"BigQuery: {upload.url}", patience=patience, deadline=api.deadline
            )
            if upload.sent > furthest:  # as long as more bytes arrive, the upload goes on
                furthest, waits, patience = upload.sent, pauses(), Deadline(PATIENCE)
            if reply.status in GONE:
                restarts += 1
            if reply.status not in (INCOMPLETE, *GONE) or restarts > RESTARTS:
                job = Job.of(checked(reply))
                if on_sent:
                    yield partial(on_sent, time.monotonic() - began, upload.size, upload.size)
                return job
            if on_sent:
                yield partial(on_sent, time.monotonic() - began, upload.sent, upload.size)
    except CallFailed as error:
        failure = error
    raise named(failure, "POST", upload.url)


class _Upload:
    """An upload: its session, and how much of the file has arrived."""

    def __init__(self, api: BigQuery, file: IO[bytes], resource: Mapping[str, Any]) -> None:
        project = resource["jobReference"]["projectId"]
        self.url = f"{endpoint_of(api.account)}/upload/bigquery/v2/projects/{project}/jobs"
        self.size = os.fstat(file.fileno()).st_size
        self.sent = 0
        self._api = api
        self._file = file
        self._resource = json.dumps(resource).encode()
        self._session: str | None = None
        self._is_sent_known = True

    def advance(self) -> http.Reply:
        """Begin a session, send the next chunk, or after a fault ask how much has arrived; return the response."""
        try:
            if self._session is None:
                self._session = self._begun_session()
                self.sent, self._is_sent_known = 0, True
            reply = self._send_chunk(self._session) if self._is_sent_known else self._ask(self._session)
        except (CallFailed, ServiceUnavailable):
            self._is_sent_known = False
            raise
        if reply.status == INCOMPLETE:
            before, was_known = self.sent, self._is_sent_known
            self.sent, self._is_sent_known = _stored(reply), True
            if was_known and self.sent <= before:
                raise CallFailed("stored nothing of what was sent", transient=True)
        elif reply.status in GONE:
            self._session = None
        return reply

    def _begun_session(self) -> str:
        headers = {**JSON, "X-Upload-Content-Type": "*/*", "X-Upload-Content-Length": str(self.size)}
        request = http.Request("POST", self.url, {"uploadType": "resumable"}, headers, self._resource)
        reply = self._api.send(lambda: request)
        if reply.status != 200:
            raise http.refusal_of(reply)
        session = reply.headers.get("location", "")
        place = urlsplit(session)
        if place.scheme != "https" and not (place.scheme == "http" and is_loopback(place.netloc)):
            raise CallFailed("named no https address for the upload", transient=False, status=502)
        return session

    def _send_chunk(self, session: str) -> http.Reply:
        end = min(self.sent + CHUNK, self.size)
        return self._put(session, f"bytes {self.sent}-{end - 1}/{self.size}", range(self.sent, end))

    def _ask(self, session: str) -> http.Reply:
        return self._put(session, f"bytes */{self.size}", range(0))

    def _put(self, session: str, content_range: str, part: range) -> http.Reply:
        def request() -> http.Request:
            self._file.seek(part.start)
            return http.Request(
                "PUT",
                session,
                headers={"Content-Range": content_range},
                body=http.Body(self._file.read, len(part), self._api.deadline),
                max_body=None,
                read_timeout=ANSWER_TIMEOUT,
            )

        return self._api.send(request)


def _stored(reply: http.Reply) -> int:
    """Return how many bytes have arrived, by the `Range` header of an unfinished upload."""
    found = re.fullmatch(r"bytes=0-(\d+)", reply.headers.get("range", ""))
    return int(found[1]) + 1 if found else 0
