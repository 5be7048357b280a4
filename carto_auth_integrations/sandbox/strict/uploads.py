"""Uploads, a block at a time and by the letter of the protocol.

https://cloud.google.com/bigquery/docs/reference/api-uploads
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .engine import errors, fastapi, jobs_api, runner, settings, uploads_api
from .jobs import asks_for, put_first

# Each part of an upload but the last is a multiple of these bytes.
GRAIN = 256 * 1024

# Bytes before the data of a multipart upload: its job, and the headers of both parts.
MAX_HEAD = 10 * 1024 * 1024

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
# The API's description has the second path, Google's clients use the first.
_PATHS = ("/upload/bigquery/v2/projects/{project_id}/jobs", "/resumable/upload/bigquery/v2/projects/{project_id}/jobs")


@dataclass
class Session:
    """A resumable upload.

    Attributes:
        project: The project of its job.
        job: The job to start with the last byte.
        file: Where the data is kept.
        size: Bytes that have arrived.
        answer: The job that it became, as JSON; None until the last byte.
    """

    project: str
    job: Any
    file: Path
    size: int = 0
    answer: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def install(check: Callable[[str, Any], None]) -> None:
    """Replace the emulator's upload endpoints.

    Args:
        check: Raises if a job resource is not as BigQuery accepts it; takes the project and the resource.
    """
    sessions: dict[str, Session] = {}

    async def begin(project_id: str, uploadType: str, request: Any) -> Any:  # noqa: N803 - BigQuery's name
        if uploadType == "multipart":
            return await _multipart(project_id, request)
        if uploadType != "resumable":
            raise errors.BigQueryError("invalid", f"Unsupported uploadType: {uploadType}")
        job = uploads_api._job(await request.body())
        await fastapi.concurrency.run_in_threadpool(check, project_id, job)
        upload_id = uuid.uuid4().hex
        sessions[upload_id] = Session(project_id, job, _new_file())
        location = request.url.include_query_params(upload_id=upload_id)
        return fastapi.Response(headers={"Location": str(location), "X-GUploader-UploadID": upload_id})

    async def proceed(upload_id: str, request: Any) -> Any:
        session = sessions.get(upload_id)
        if session is None:
            raise errors.BigQueryError("notFound", f"Not found: Upload {upload_id}")
        if session.answer is not None:
            return fastapi.responses.JSONResponse(session.answer)
        if await _is_complete(session, request):
            session.answer = await fastapi.concurrency.run_in_threadpool(
                _start, session.project, session.job, session.file
            )
            return fastapi.responses.JSONResponse(session.answer)
        stored = {"Range": f"bytes=0-{session.size - 1}"} if session.size else {}
        return fastapi.Response(status_code=308, headers=stored)

    begin.__annotations__ = {"project_id": str, "uploadType": str, "request": fastapi.Request}
    proceed.__annotations__ = {"upload_id": str, "request": fastapi.Request}
    for path in _PATHS:
        put_first(path, begin, "POST")
        put_first(path, proceed, "PUT")


def _new_file() -> Path:
    directory = settings.settings.data_dir / "uploads"
    directory.mkdir(parents=True, exist_ok=True)
    file: Path = directory / uuid.uuid4().hex
    file.touch()
    return file


def _start(project: str, job: Any, file: Path) -> Any:
    job_id = (job.jobReference and job.jobReference.jobId) or str(uuid.uuid4())
    asks_for(job)
    try:
        runner.submit(project, job_id, job.configuration or jobs_api.JobConfiguration(), str(file))
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return runner.submitted(project, job_id).dump()


async def _is_complete(session: Session, request: Any) -> bool:
    """Store what a request brings. Return whether it was the last of the upload."""
    said = request.headers.get("content-range")
    part = _RANGE.fullmatch(said or "bytes 0-0/*")
    if part is None:
        raise errors.BigQueryError("invalid", f"Invalid Content-Range: {said}")
    total = None if said is None or part[3] == "*" else int(part[3])
    if part[1] is None and said is not None:
        return total is not None and session.size == total
    first = int(part[1]) if said else 0
    if first > session.size:
        return False  # the 308 says from where to go on
    with session.file.open("r+b") as file:
        file.seek(first)
        async for block in request.stream():
            file.write(block)
        end = file.tell()
    length = end - first
    if said is not None and total != end and length % GRAIN:
        file_size = first + length // GRAIN * GRAIN
        raise errors.BigQueryError(
            "invalid", f"A part of {length} bytes is not the last one and not a multiple of {GRAIN} bytes ({file_size})"
        )
    session.size = max(session.size, end)
    return said is None or total == session.size


async def _multipart(project: str, request: Any) -> Any:
    boundary = _BOUNDARY.search(request.headers.get("content-type", ""))
    if boundary is None:
        raise errors.BigQueryError("invalid", "Multipart upload must have a boundary")
    mark, file = b"--" + boundary[1].encode(), _new_file()
    with file.open("w+b") as out:
        head = await _split(request.stream(), mark, out)
        _cut_end(out, mark)
    answer = await fastapi.concurrency.run_in_threadpool(_start, project, uploads_api._job(head), file)
    return fastapi.responses.JSONResponse(answer)


async def _split(blocks: AsyncIterator[bytes], mark: bytes, out: IO[bytes]) -> bytes:
    """Write the second part of a multipart body, with what follows it. Return the first part."""
    pattern = re.compile(
        re.escape(mark) + rb"\r?\n.*?\r?\n\r?\n(.*?)\r?\n" + re.escape(mark) + rb"\r?\n.*?\r?\n\r?\n", re.DOTALL
    )
    head = b""
    found = None
    async for block in blocks:
        if found:
            out.write(block)
            continue
        head += block
        found = pattern.search(head)
        if found:
            out.write(head[found.end() :])
        elif len(head) > MAX_HEAD:
            break
    if not found:
        raise errors.BigQueryError("invalid", "Multipart upload must have two parts")
    return bytes(found[1])


def _cut_end(out: IO[bytes], mark: bytes) -> None:
    """Cut the boundary after the last part off."""
    size = out.tell()
    tail_size = min(size, len(mark) + 16)
    out.seek(size - tail_size)
    tail = out.read()
    position = tail.rfind(mark)
    if position < 0:
        raise errors.BigQueryError("invalid", "Multipart upload must end with its boundary")
    end = tail[:position]
    end = end.removesuffix(b"\n").removesuffix(b"\r")
    out.truncate(size - tail_size + len(end))
