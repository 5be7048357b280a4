"""A small BigQuery: CARTO's tokens, jobs, and resumable uploads by the letter of their protocol.

The protocol: https://cloud.google.com/bigquery/docs/reference/api-uploads
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from carto_auth_integrations import CartoAuth
from tests.support.accounts import fields_for
from tests.support.servers import Server, reply, serving
from tests.support.threads import PATIENCE

PROJECT = "p"
GRAIN = 256 * 1024
"""Every part of an upload but the last is a multiple of these bytes."""
BLOCK = 16 * 1024
"""Bytes that the server reads at once."""


def auth_of(url: str, **fields: Any) -> CartoAuth:
    """Return the `CartoAuth` of an account with this URL for CARTO and BigQuery, whose tokens stay in memory."""
    return CartoAuth.from_mapping(fields_for(url, **{"bigquery_endpoint": url, "token_store": "memory:", **fields}))


@contextmanager
def bigquery(answer: Callable[[BaseHTTPRequestHandler], None], *tokens: str) -> Iterator[Server]:
    """Serve CARTO's tokens, and BigQuery as the test says.

    Args:
        answer: Answers the calls to BigQuery.
        tokens: The DW tokens, one after the other.
    """
    left = iter(tokens or ("hunter2-dw-token",))

    def route(handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        if path.endswith("/oauth/token"):
            reply(handler, 200, json.dumps({"access_token": "a", "token_type": "Bearer", "expires_in": 86400}))
        elif path.endswith("/carto-dw/token"):
            reply(handler, 200, json.dumps({"projectId": PROJECT, "token": next(left), "expires_in": 3600}))
        else:
            answer(handler)

    with serving(route) as server:
        yield server


def calls_to(server: Server) -> list[tuple[str, str, dict[str, list[str]], str]]:
    """Return method, path, query and token of each call to BigQuery."""
    seen = []
    for request in server.requests:
        parts = urlsplit(request.path)
        if parts.path.startswith("/bigquery/"):
            seen.append((request.method, parts.path, parse_qs(parts.query), request.headers["authorization"]))
    return seen


@dataclass
class Session:
    """A resumable upload: what is to become of it, how many bytes were announced, and those that have arrived."""

    resource: dict[str, Any]
    size: int
    data: bytearray = field(default_factory=bytearray)
    gone: int = 0


class TinyBigQuery:
    """BigQuery's jobs and resumable uploads on loopback, with CARTO's token endpoints.

    Connections are kept open between requests, as by BigQuery.

    Attributes:
        jobs: The jobs by id: the resource, with what was uploaded as `data`.
        made: How often a job was made, by id.
        violations: What a client did against the protocol.
        faults: What goes wrong with the n-th request that carries data; see `_fault`.
        begun: Set when the first part of an upload arrives.
        gate: An answer to the last byte waits for it.
        state: The state of a new job.
        error: What a new job has failed with.
        cancelled: Ids of jobs that were asked to be cancelled.
        received: Bytes of parts that have arrived, complete or not.
        pause: Seconds between two blocks that are read.
        calls: Method and path of each request.
        bearers: The `Authorization` of each request to BigQuery.
        tokens: How many DW tokens were requested.
        sent: Set when the last byte of an upload has arrived.
        broken_off: Set when a client hangs up in the middle of a part.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.made: Counter[str] = Counter()
        self.sessions: dict[str, Session] = {}
        self.violations: list[str] = []
        self.faults: dict[int, str] = {}
        self.begun = threading.Event()
        self.sent = threading.Event()
        self.broken_off = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.state = "DONE"
        self.error: dict[str, str] | None = None
        self.cancelled: list[str] = []
        self.received = 0
        self.pause = 0.0
        self.calls: list[str] = []
        self.bearers: list[str] = []
        self.tokens = 0
        self.lock = threading.Lock()
        self._parts = 0
        tiny = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = PATIENCE

            def handle_any(self) -> None:
                with tiny.lock:
                    tiny.calls.append(f"{self.command} {urlsplit(self.path).path}")
                    if "/bigquery/" in self.path or "/upload/" in self.path:
                        tiny.bearers.append(self.headers["Authorization"])
                tiny._route(self)

            do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up on purpose
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> TinyBigQuery:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def loaded(self) -> list[bytes]:
        """Return what each load job has loaded; a job that was cancelled has loaded nothing."""
        return [job["data"] for job_id, job in self.jobs.items() if "data" in job and job_id not in self.cancelled]

    def _route(self, handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        if handler.command == "PUT":
            self._put(handler, parse_qs(urlsplit(handler.path).query)["upload_id"][0])
            return
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if path.endswith("/oauth/token"):
            _say(handler, 200, {"access_token": "a", "token_type": "Bearer", "expires_in": 86400})
        elif path.endswith("/carto-dw/token"):
            with self.lock:
                self.tokens += 1
            _say(handler, 200, {"projectId": PROJECT, "token": f"hunter2-dw-{self.tokens}", "expires_in": 3600})
        elif path.startswith("/upload/"):
            self._begin_session(handler, json.loads(body))
        elif "/datasets/" in path:
            _say(handler, 200, {"location": "EU"})
        elif path.endswith("/jobs"):
            self._answer_job(handler, json.loads(body), None)
        else:
            self._job(handler, path)

    def _job(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        found = re.search(r"/(?:jobs|queries)/([^/]+)(/cancel)?$", path)
        job_id = unquote(found[1]) if found else ""
        with self.lock:
            job = self.jobs.get(job_id)
            if job and found and found[2]:
                self.cancelled.append(job_id)
        if job is None:
            _say(handler, 404, {"error": {"code": 404, "message": f"Not found: Job p:EU.{job_id}"}})
        elif "/queries/" in path:
            rows = {"schema": {"fields": [{"name": "x", "type": "INTEGER"}]}, "rows": [{"f": [{"v": "1"}]}]}
            _say(handler, 200, {**rows, "totalRows": "1", "jobComplete": True, "jobReference": job["jobReference"]})
        else:
            shown = {name: value for name, value in job.items() if name != "data"}
            _say(handler, 200, {"job": shown} if found and found[2] else shown)

    def _begin_session(self, handler: BaseHTTPRequestHandler, resource: dict[str, Any]) -> None:
        with self.lock:
            upload_id = f"upload{len(self.sessions)}"
            self.sessions[upload_id] = Session(resource, int(handler.headers["X-Upload-Content-Length"]))
        _say(handler, 200, {}, Location=f"{self.url}/upload/session?upload_id={upload_id}")

    def _put(self, handler: BaseHTTPRequestHandler, upload_id: str) -> None:
        session = self.sessions[upload_id]
        length, said = int(handler.headers.get("Content-Length") or 0), handler.headers.get("Content-Range", "")
        part = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", said)
        if not part or int(part[3]) != session.size:
            self._violated(handler, f"Content-Range {said!r} of an upload of {session.size} bytes", length)
        elif session.gone:
            handler.rfile.read(length)
            _say(handler, session.gone, {})
        elif part[1] is None:
            self._state_of(handler, session) if not length else self._violated(handler, "a status with data", length)
        else:
            self._take(handler, session, range(int(part[1]), int(part[2]) + 1), length)

    def _take(self, handler: BaseHTTPRequestHandler, session: Session, part: range, length: int) -> None:
        is_last = part.stop == session.size
        if part.start != len(session.data) or len(part) != length or (len(part) % GRAIN and not is_last):
            self._violated(handler, f"{part} of {length} bytes after {len(session.data)} bytes", length)
            return
        with self.lock:
            self._parts += 1
            fault = self.faults.get(self._parts)
        if fault:
            self._fault(handler, session, fault, length)
            return
        data = self._read(handler, length)
        if data is None:
            return
        session.data += data
        if is_last:
            self.sent.set()
        self._state_of(handler, session)

    def _read(self, handler: BaseHTTPRequestHandler, length: int) -> bytes | None:
        """Read a part; None if the client broke off."""
        data = bytearray()
        while len(data) < length:
            block = handler.rfile.read1(min(BLOCK, length - len(data)))  # type: ignore[attr-defined]
            if not block:
                self.broken_off.set()
                handler.close_connection = True
                return None
            data += block
            self.received += len(block)
            self.begun.set()
            threading.Event().wait(self.pause)
        return bytes(data)

    def _fault(self, handler: BaseHTTPRequestHandler, session: Session, fault: str, length: int) -> None:
        if fault == "connection cut":  # in the middle of the part, of which some has arrived
            data = handler.rfile.read(length // 2)
            session.data += data[: len(data) // GRAIN * GRAIN]
            _hang_up(handler)
            return
        data = handler.rfile.read(length)
        if fault == "lost answer":
            session.data += data
            if len(session.data) == session.size:
                self._make(session)
            _hang_up(handler)
        elif fault == "503 after it arrived":
            session.data += data
            if len(session.data) == session.size:
                self._make(session)
            _say(handler, 503, {})
        elif fault == "308 with fewer bytes":
            session.data += data[:GRAIN] if len(data) > GRAIN else b""
            self._state_of(handler, session)
        elif fault == "308 without Range":
            session.data.clear()
            self._state_of(handler, session)
        else:
            status = int(fault)
            session.gone = status if status in (404, 410) else 0
            _say(handler, status, {})

    def _state_of(self, handler: BaseHTTPRequestHandler, session: Session) -> None:
        if len(session.data) == session.size:
            self._answer_job(handler, session.resource, bytes(session.data))
            return
        stored = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
        _say(handler, 308, None, **stored)

    def _answer_job(self, handler: BaseHTTPRequestHandler, resource: dict[str, Any], data: bytes | None) -> None:
        job_id = resource["jobReference"]["jobId"]
        known = self.jobs.get(job_id)
        if known and known.get("data") is not data and known.get("data") != data:
            message = f"Already Exists: Job {PROJECT}:EU.{job_id}"
            _say(handler, 409, {"error": {"code": 409, "message": message, "errors": [{"reason": "duplicate"}]}})
            return
        if not known:
            self._make(Session(resource, len(data or b""), bytearray(data or b"")))
        self.gate.wait(PATIENCE)
        shown = {name: value for name, value in self.jobs[job_id].items() if name != "data"}
        _say(handler, 200, shown)

    def _make(self, session: Session) -> None:
        reference = {**session.resource["jobReference"], "location": "EU"}
        with self.lock:
            self.made[reference["jobId"]] += 1
            self.jobs[reference["jobId"]] = {
                **session.resource,
                "jobReference": reference,
                "status": {"state": self.state, **({"errorResult": self.error} if self.error else {})},
                "data": bytes(session.data),
            }

    def _violated(self, handler: BaseHTTPRequestHandler, what: str, length: int) -> None:
        handler.rfile.read(length)
        self.violations.append(what)
        _say(handler, 400, {"error": {"code": 400, "message": what}})


def _say(handler: BaseHTTPRequestHandler, status: int, content: Mapping[str, Any] | None, **headers: str) -> None:
    reply(handler, status, "" if content is None else json.dumps(content), **headers)


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()
