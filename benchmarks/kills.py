"""Kill loaders at random moments, retry each with its key, and count the rows.

Run: python -m benchmarks.kills [HOW_MANY]  (it needs the sandbox and load extras, and a system that has SIGKILL).
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 100
ROWS = 40_000
"""Of noise, so that no compression makes them small: an upload of a few chunks of the size below."""
CHUNK = 256 * 1024
"""Bytes of the smallest chunk that a resumable upload allows."""
SLOW = 0.05
"""Seconds by which each request is late, so that a kill meets it under way."""
UNDISTURBED = 10_000
"""The number of the first load that nobody kills; a multiple of how many settings there are."""
PATIENCE = 60
"""Seconds after which a process counts as hung."""
PRELOADED = [
    "carto_auth_integrations.warehouse.warehouse",
    "carto_auth_integrations.warehouse.loads",
    "google.cloud.bigquery",
    "pyarrow.parquet",
]
"""Modules that are imported once for all loaders, which are forked from there."""
SETTINGS = 5
"""Things that go wrong beside the kill, in turn; see `_misbehave`."""


@dataclass(frozen=True)
class Kill:
    """The effect of a kill.

    Attributes:
        seconds: How long the loader had lived.
        met: `before` there was a job, while it was `running`, or `after` it was done.
        reattached: Whether the next try found the job.
        rows: How many rows the table holds of this load; right if it is `ROWS`.
    """

    seconds: float
    met: str
    reattached: bool
    rows: int


def kill_loaders(sandbox: Sandbox, count: int, folder: Path, seed: int | None = None) -> list[Kill]:
    """Start loaders into one table, kill each at a moment of its life, and load again with its key.

    Args:
        sandbox: Where they load to; its emulator is up.
        count: How many; a loader that ends before its kill is not counted.
        folder: For the token store.
        seed: Makes the moments the same again.
    """
    chance = random.Random(seed)
    account = {**sandbox.account, "token_store": str(folder / "tokens.json")}
    table = f"shared.kills_{chance.getrandbits(60):x}"
    processes = loader_processes()
    _run(processes.Process(target=int))  # so that the first loader does not pay for the imports
    chunks = -(-_bytes(account, table) // CHUNK)
    undisturbed = [UNDISTURBED + number for number in range(SETTINGS)]
    lifetimes = [_lifetime(sandbox, processes, account, table, number, chunks) for number in undisturbed]
    kills = []
    for number in itertools.count():
        if len(kills) == count:
            break
        # The root makes later moments likelier: much of a loader's life is over before it sends its last byte.
        seconds = chance.random() ** 0.5 * lifetimes[number % SETTINGS]
        _misbehave(sandbox, number, chunks)
        loader = processes.Process(target=load_slowly, args=(account, table, number))
        loader.start()
        loader.join(seconds)
        if loader.is_alive():
            loader.kill()
            loader.join(PATIENCE)
            sandbox.clear_faults()
            kills.append((number, seconds, _state_of(account, number), load(account, table, number)))
        sandbox.clear_faults()
    time.sleep(20 * SLOW)  # for what the last one had sent
    rows = _rows_by_load(account, table)
    assert all(rows[number] == ROWS for number in undisturbed), "a load that nobody kills is whole"
    return [Kill(*kill, rows[number]) for number, *kill in kills]


def loader_processes() -> Any:
    """Return what starts processes that have imported all they need."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    return processes


def load_slowly(account: dict[str, str], table: str, number: int) -> None:
    """Append the rows of a load in several chunks: run by a process that is to be killed."""
    from carto_auth_integrations.bigquery import uploads

    uploads.CHUNK = CHUNK
    load(account, table, number)


def load(account: dict[str, str], table: str, number: int) -> bool:
    """Append the rows of a load; return whether an earlier try had loaded them."""
    warehouse = CartoAuth.from_mapping(account).warehouse()
    return warehouse.load(_rows(number), table, idempotency_key=f"{table}/{number}").reattached


def _rows(number: int) -> Iterator[Any]:
    import pyarrow

    noise = random.Random(number)
    for start in range(0, ROWS, 10_000):
        ids = list(range(start, start + 10_000))
        yield pyarrow.record_batch({"load": [number] * len(ids), "id": ids, "noise": [noise.random() for _ in ids]})


def _bytes(account: dict[str, str], table: str) -> int:
    """Return the bytes of an upload."""
    return CartoAuth.from_mapping(account).warehouse().load(_rows(0), f"{table}_size").bytes


def _misbehave(sandbox: Sandbox, number: int, chunks: int) -> None:
    """Make each request late, and one of them go wrong: which, the number says.

    The emulator appends a chunk that is sent again, so only the last chunk loses its response.
    """
    last_chunk = {"count": 1, "match": "^PUT", "skip": chunks - 1}
    faults: tuple[dict[str, Any] | None, ...] = (
        None,
        {"endpoint": "upload", "cut": "after", "count": 1, "match": "^POST"},
        {"endpoint": "upload", "cut": "after", **last_chunk},
        {"endpoint": "bigquery", "cut": "after", "count": 1, "match": "^GET .*/jobs/"},
        {"endpoint": "upload", "delay": 10 * SLOW, **last_chunk},
    )
    fault = faults[number % SETTINGS]
    if fault:
        sandbox.fault(**fault)
    for endpoint in ("upload", "bigquery"):
        sandbox.fault(endpoint, delay=SLOW)


def _lifetime(sandbox: Sandbox, processes: Any, account: dict[str, str], table: str, number: int, chunks: int) -> float:
    """Return the seconds that a loader lives if it is not killed."""
    _misbehave(sandbox, number, chunks)
    started = time.monotonic()
    _run(processes.Process(target=load_slowly, args=(account, table, number)))
    sandbox.clear_faults()
    return time.monotonic() - started


def _run(process: Any) -> None:
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0, "a loader that nobody kills ends well"


def _state_of(account: dict[str, str], number: int) -> str:
    client = CartoAuth.from_mapping(account).get_carto_dw_client()
    jobs = [job for job in client.list_jobs(max_results=50) if f"-{number}_" in job.job_id]
    if not jobs:
        return "before"
    return "after" if jobs[0].state == "DONE" else "running"


def _rows_by_load(account: dict[str, str], table: str) -> Counter[int]:
    """Count the distinct rows of each load; a row that is there twice makes the number wrong."""
    sql = f"SELECT load, COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM `{table}` GROUP BY load"
    result = CartoAuth.from_mapping(account).warehouse().query(sql, max_rows=10_000)
    return Counter({row["load"]: row["n"] if row["n"] == row["ids"] else -row["n"] for row in result.rows})


def main() -> None:
    """Print how many loads ended with exactly the expected rows."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        sandbox.start_emulator()
        started = time.monotonic()
        kills = kill_loaders(sandbox, count, Path(folder))
        seconds = time.monotonic() - started
    met = Counter(kill.met for kill in kills)
    print(f"killed {', '.join(f'{name}: {number}' for name, number in sorted(met.items()))}")
    print(f"the next try found the job: {sum(kill.reattached for kill in kills)}")
    print(f"exactly the expected rows: {sum(kill.rows == ROWS for kill in kills)} of {count}, in {seconds:.0f} s")


if __name__ == "__main__":
    main()
