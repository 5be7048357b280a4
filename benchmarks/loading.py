"""Time and weigh loads of five million rows, with google's own way beside, and a thousand jobs on one event loop.

Run: python -m benchmarks.loading [rows | jobs]  (it needs the extra load; the server is its own, on 127.0.0.1).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow
    from google.cloud import bigquery

    from carto_auth_integrations import CartoAuth
    from carto_auth_integrations.warehouse import CartoWarehouse

ROWS, ROWS_PER_BATCH = 5_000_000, 100_000
"""About 500 MB as Parquet, in batches of ten: what a database's cursor hands on."""
ROWS_OF_DICTS = 500_000
"""Rows as Python dicts: a tenth, for each costs a hundred times what it costs in a batch."""
SMALL_BATCH = 1_000
"""Rows of a batch from a source that is not made for bulk: as many as a page of an API."""
ROUNDS = 3
"""Each way in turn, so often: the machine's moods fall on all of them alike."""
JOBS = 1_000
LATENCY = 0.05
"""Seconds until an answer while jobs are awaited: BigQuery's own are between 50 and 300 ms."""
POLLS = 3
"""How often a job is still RUNNING when asked."""
TICK = 0.001
"""Seconds between two looks at the loop's clock: short beside a pause that anyone would notice, and cheap."""
LATE = 0.02
"""Seconds of a pause that is too long: a frame and a bit, and far below any heartbeat's patience."""
IDLE = 20.0
"""Seconds that the coroutines which only sleep do so."""
BLOCK = 1 << 20
"""Bytes that the server throws away at once."""
MEGABYTE = 1e6
PROJECT = "carto-dw-bench"
TABLE = "bench.rows"


# The server: CARTO's tokens, jobs that end by themselves, uploads that are discarded


class Sink(BaseHTTPRequestHandler):
    """Answers what a load and a query ask for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer in one packet
    latency = 0.0
    polls = POLLS
    configurations: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[Counter[str]] = Counter()

    def do_POST(self) -> None:
        """Return a token, begin an upload, or begin a query."""
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = urlsplit(self.path).path
        if path.endswith("/oauth/token"):
            return self._answer({"access_token": "a", "token_type": "Bearer", "expires_in": 86400})
        resource = json.loads(body)
        job_id = resource["jobReference"]["jobId"]
        if path.startswith(("/upload/", "/resumable/")):
            self.configurations[job_id] = resource["configuration"]
            return self._answer({}, Location=f"http://{self.headers['Host']}/upload/{job_id}")
        time.sleep(self.latency)
        return self._answer(self._query_job(job_id, resource["configuration"]))

    def do_GET(self) -> None:
        """Return the warehouse's token, a job, or a query's rows."""
        path = urlsplit(self.path).path
        if path.endswith("/carto-dw/token"):
            return self._answer({"projectId": PROJECT, "token": "d", "expires_in": 3600})
        time.sleep(self.latency)
        job_id = path.rpartition("/")[2]
        if "/datasets/" in path:
            reference = {"projectId": PROJECT, "datasetId": job_id}
            return self._answer({"datasetReference": reference, "location": "US"})
        if "/queries/" in path:
            return self._answer(_rows_of(job_id))
        if job_id not in self.configurations:
            return self._answer({"error": {"code": 404, "message": f"Not found: Job {job_id}"}}, status=404)
        return self._answer(self._query_job(job_id, self.configurations[job_id]))

    def do_PUT(self) -> None:
        """Discard a chunk; the last one creates the job."""
        left, block = int(self.headers["Content-Length"]), memoryview(bytearray(BLOCK))
        while left:
            left -= self.rfile.readinto(block[: min(left, BLOCK)])  # type: ignore[attr-defined]
        last, _, total = self.headers["Content-Range"].rpartition("-")[2].partition("/")
        if total == "*" or int(last) + 1 < int(total):  # google's client learns the size with the last chunk
            return self._answer({}, status=308, Range=f"bytes=0-{last}")
        job_id = self.path.rpartition("/")[2]
        statistics = {"load": {"outputRows": "0", "inputFileBytes": total}}
        return self._answer(_job(job_id, self.configurations[job_id], "DONE", statistics))

    def _query_job(self, job_id: str, configuration: dict[str, Any]) -> dict[str, Any]:
        self.configurations[job_id] = configuration
        self.asked[job_id] += 1
        state = "RUNNING" if self.asked[job_id] <= self.polls else "DONE"
        return _job(job_id, configuration, state, {"query": {"statementType": "SELECT", "totalBytesProcessed": "0"}})

    def _answer(self, content: dict[str, Any], *, status: int = 200, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _job(job_id: str, configuration: dict[str, Any], state: str, statistics: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "bigquery#job",
        "id": f"{PROJECT}:US.{job_id}",
        "jobReference": {"projectId": PROJECT, "jobId": job_id, "location": "US"},
        "configuration": configuration,
        "status": {"state": state},
        "statistics": {"creationTime": "1", "startTime": "1", "endTime": "2", **statistics},
    }


def _rows_of(job_id: str) -> dict[str, Any]:
    return {
        "jobComplete": True,
        "jobReference": {"projectId": PROJECT, "jobId": job_id, "location": "US"},
        "schema": {"fields": [{"name": "x", "type": "INTEGER", "mode": "NULLABLE"}]},
        "rows": [{"f": [{"v": "1"}]}],
        "totalRows": "1",
    }


def serve(latency: float, polls: int) -> None:
    """Serve until standard input ends; print the URL."""
    Sink.latency, Sink.polls = latency, polls
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


@contextmanager
def sink(latency: float = 0.0, polls: int = POLLS) -> Iterator[str]:
    """Run the server in a process of its own and yield its URL."""
    command = [sys.executable, "-m", "benchmarks.loading", "serve", str(latency), str(polls)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()


def auth_at(url: str) -> CartoAuth:
    """Return an account all of whose servers are this one."""
    from carto_auth_integrations import CartoAuth

    urls = dict.fromkeys(("api_base_url", "auth_url", "accounts_url", "bigquery_endpoint"), url)
    account = {**urls, "auth_mode": "m2m", "client_id": "c", "client_secret": "s", "token_store": "memory:"}
    return CartoAuth.from_mapping(account)


# The rows: numbers, text that hardly shrinks, points


def batches(rows: int, rows_per_batch: int = ROWS_PER_BATCH) -> Iterator[pyarrow.RecordBatch]:
    """Make batches faster than anyone writes them."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(1)
    for start in range(0, rows, rows_per_batch):
        count = min(rows_per_batch, rows - start)
        columns = {
            "id": pa.array(np.arange(start, start + count)),
            "value": pa.array(random.random(count)),
            "kind": pa.array(random.integers(0, 100, count)),
            "name": _texts(_letters(random, count, 36)),
            "address": _texts(_letters(random, count, 20)),
            "geom": _texts(_points(random, count)),
        }
        yield pa.RecordBatch.from_pydict(columns)


def _letters(random: Any, count: int, width: int) -> Any:
    import numpy as np

    alphabet = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 -", np.uint8)
    return alphabet[np.frombuffer(random.bytes(count * width), np.uint8) & 63].reshape(count, width)


def _points(random: Any, count: int) -> Any:
    """Give `POINT(-12.345678 23.456789)` as bytes, a row each."""
    import numpy as np

    text = np.tile(np.frombuffer(b"POINT(-00.000000 00.000000)", np.uint8), (count, 1))
    for first in (7, 17):
        digits = [first, first + 1, *range(first + 3, first + 9)]
        text[:, digits] += random.integers(0, 9, (count, 8), dtype=np.uint8)
    return text


def _texts(characters: Any) -> pyarrow.Array:
    """Make an Arrow column of text from its characters."""
    import numpy as np
    import pyarrow as pa

    count, width = characters.shape
    ends = np.arange(0, count * width + 1, width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(characters.tobytes()))


def dicts(rows: int) -> Iterator[dict[str, Any]]:
    """Give the same rows as Python dicts."""
    for batch in batches(rows):
        yield from batch.to_pylist()


# Loads


def ours(url: str, source: Callable[[], Any], geometry: str = "") -> Callable[[], Any]:
    """Load with this package; a column of geometry is parsed, checked and written anew, which google's way does not."""
    from google.cloud import bigquery  # noqa: F401  # google's way has it too before the clock starts

    warehouse = auth_at(url).warehouse()
    return lambda: warehouse.load(source(), TABLE, geometry=geometry or ()).bytes


def googles(url: str, source: Callable[[], Any]) -> Callable[[], Any]:
    """Write the same Parquet to a temporary file, and load that."""
    import pyarrow.parquet as pq
    from google.cloud import bigquery

    client = auth_at(url).get_carto_dw_client()
    schema = [
        bigquery.SchemaField(name, kind)
        for name, kind in {
            "id": "INTEGER",
            "value": "FLOAT",
            "kind": "INTEGER",
            "name": "STRING",
            "address": "STRING",
            "geom": "STRING",
        }.items()
    ]
    config = bigquery.LoadJobConfig(source_format="PARQUET", schema=schema)

    def load() -> Any:
        stream = source()
        first = next(stream)
        with tempfile.TemporaryFile() as file:
            with pq.ParquetWriter(file, first.schema) as writer:
                writer.write_batch(first)
                for batch in stream:
                    writer.write_batch(batch)
            return client.load_table_from_file(file, TABLE, rewind=True, job_config=config).result().input_file_bytes

    return load


def dicts_in_batches(rows: int) -> Iterator[pyarrow.RecordBatch]:
    """Give dicts as batches, as somebody has to who loads them with google's client."""
    from itertools import islice

    import pyarrow as pa

    source = dicts(rows)
    while chunk := list(islice(source, 10_000)):
        yield pa.RecordBatch.from_pylist(chunk)


LOADS: dict[str, tuple[Callable[..., Callable[[], Any]], Callable[[], Any]]] = {
    "batches ours": (ours, lambda: batches(ROWS)),
    "geography ours": (partial(ours, geometry="geom"), lambda: batches(ROWS_OF_DICTS)),
    "geography google's": (googles, lambda: batches(ROWS_OF_DICTS)),
    "batches google's": (googles, lambda: batches(ROWS)),
    "dicts ours": (ours, lambda: dicts(ROWS_OF_DICTS)),
    "dicts google's": (googles, lambda: dicts_in_batches(ROWS_OF_DICTS)),
    "small batches ours": (ours, lambda: batches(ROWS_OF_DICTS, SMALL_BATCH)),
    "small batches google's": (googles, lambda: batches(ROWS_OF_DICTS, SMALL_BATCH)),
}


@dataclass(frozen=True)
class Load:
    """What a load took.

    Attributes:
        seconds: From the call to the result.
        peak: Bytes of memory above the process after its imports.
        size: Bytes that were sent.
    """

    seconds: float
    peak: int
    size: int


def measured_load(name: str, url: str) -> Load:
    """Load once, in this process."""
    import geopandas  # noqa: F401  # what a load imports on its way is not its memory
    import pyarrow.parquet  # noqa: F401

    way, source = LOADS[name]
    load = way(url, source)
    deque(batches(1), maxlen=0)
    before, started = peak_memory(), time.perf_counter()
    size = load()
    return Load(time.perf_counter() - started, peak_memory() - before, size)


def peak_memory() -> int:
    """Give the bytes of memory that this process had at most.

    A new process inherits the figure of the one that made it; that one is small here.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# Jobs on an event loop


@dataclass(frozen=True)
class Watched:
    """What the event loop went through.

    Attributes:
        seconds: For all jobs.
        pause: Seconds of the longest pause of the loop, whoever made it.
        ours: Seconds of the longest pause that this process can have made: it lasted no longer than the process
            computed meanwhile. For the rest, another process had the core.
        late: How many pauses of that kind were longer than `LATE`.
        collection: Seconds of the longest garbage collection, which holds every thread: if it is as long as `ours`, the
            pause was that.
        threads: At peak, the loop's own among them.
    """

    seconds: float
    pause: float
    ours: float
    late: int
    collection: float
    threads: int


class Collections:
    """Clocks the garbage collector."""

    def __init__(self) -> None:
        self.longest = self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._began)


async def watched(work: Any) -> Watched:
    """Await something and watch the loop."""
    pauses, threads, collections = [(0.0, 0.0)], 0, Collections()
    started = last = time.perf_counter()
    computed = time.process_time()
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.sleep(TICK)
        now, cpu = time.perf_counter(), time.process_time()
        pause = now - last - TICK
        pauses.append((pause, min(pause, cpu - computed)))
        last, computed, threads = now, cpu, max(threads, threading.active_count())
    await task
    return Watched(
        seconds=time.perf_counter() - started,
        pause=max(pause for pause, _ in pauses),
        ours=max(ours for _, ours in pauses),
        late=sum(ours > LATE for _, ours in pauses),
        collection=collections.longest,
        threads=threads,
    )


async def our_jobs(warehouse: CartoWarehouse, jobs: int = JOBS) -> None:
    """Await them with this package."""
    results = await asyncio.gather(*(warehouse.aquery(f"SELECT {number}") for number in range(jobs)))
    assert [len(result.rows) for result in results] == [1] * jobs


async def their_jobs(client: bigquery.Client, jobs: int = JOBS) -> None:
    """Await them as the loop's default executor does it: a thread for each that fits."""

    def query(number: int) -> int:
        return len(list(client.query(f"SELECT {number}", api_method="INSERT").result()))

    await asyncio.gather(*(asyncio.to_thread(query, number) for number in range(jobs)))


async def no_jobs(jobs: int = JOBS) -> None:
    """Have as many coroutines only sleep: what asyncio and this machine do to any loop."""
    await asyncio.gather(*(asyncio.sleep(IDLE) for _ in range(jobs)))


async def warm(work: Callable[..., Any], client: Any) -> Watched:
    """Watch a second go: whatever is imported and made on first use is there.

    Python's garbage collector leaves that alone: a walk through all that pandas is made of takes 60 ms and more,
    holds the interpreter and is nobody's here.
    """
    await work(client, 1)
    gc.collect()
    gc.freeze()
    return await watched(work(client))


WATCHES: dict[str, Callable[[str], Any]] = {
    "coroutines that sleep": lambda _: watched(no_jobs()),
    "ours, in a new process": lambda url: watched(our_jobs(auth_at(url).warehouse())),
    "ours, warm": lambda url: warm(our_jobs, auth_at(url).warehouse()),
    "asyncio.to_thread, warm": lambda url: warm(their_jobs, auth_at(url).get_carto_dw_client()),
}


# All of it


def in_a_process(what: str, name: str, url: str) -> dict[str, Any]:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", __spec__.name, what, name, url]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def compare_loads() -> None:
    """Load each source both ways in turn, and print."""
    found: dict[str, list[Load]] = {name: [] for name in LOADS}
    with sink() as url:
        for _ in range(ROUNDS):
            for name, loads in found.items():
                loads.append(Load(**in_a_process("load", name, url)))
    for name, loads in found.items():
        seconds, peak = min(load.seconds for load in loads), max(load.peak for load in loads)
        size = loads[0].size / MEGABYTE
        print(f"{name:<24} {seconds:6.2f} s  {size / seconds:6.1f} MB/s of {size:.0f}  {peak / MEGABYTE:6.0f} MB peak")
        if name.endswith("ours"):
            rival = found[f"{name.removesuffix('ours')}google's"]
            ratio = min(load.seconds for load in rival) / seconds
            middle = median(theirs.seconds / mine.seconds for theirs, mine in zip(rival, loads, strict=True))
            print(f"  throughput, ours to google's: best {ratio:.2f} x, middle {middle:.2f} x")


def watch_jobs() -> None:
    """Await the jobs each way, and print."""
    with sink(LATENCY) as url:
        for name in WATCHES:
            runs = [Watched(**in_a_process("watch", name, url)) for _ in range(ROUNDS)]
            for run in runs:
                print(
                    f"{name:<26} {run.seconds:6.1f} s  longest pause {run.pause * 1e3:6.1f} ms, made here "
                    f"{run.ours * 1e3:5.1f} ms, {run.late} above {LATE * 1e3:.0f} ms, longest collection "
                    f"{run.collection * 1e3:.0f} ms, {run.threads} threads"
                )


def main(arguments: list[str]) -> None:
    """Measure and print, or be one of the processes that this takes."""
    what, *rest = arguments or ["all"]
    if what == "serve":
        serve(float(rest[0]), int(rest[1]))
    elif what == "load":
        print(json.dumps(asdict(measured_load(*rest))))
    elif what == "watch":
        name, url = rest
        print(json.dumps(asdict(asyncio.run(WATCHES[name](url)))))
    if what in ("rows", "all"):
        compare_loads()
    if what in ("jobs", "all"):
        watch_jobs()


if __name__ == "__main__":
    main(sys.argv[1:])
