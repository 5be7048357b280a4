"""Time the import of the blocks, a hundred runs of a served flow, and the event loop under 64 tasks in a real Prefect.

Run: python -m benchmarks.prefect imports|served|loop [HOW_MANY]  (it needs the development environment).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from carto_auth_integrations.sandbox import Sandbox
from tests.support.prefect_site import PrefectSite, prefect_site_in
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

STARTS = 25
"""New processes; the fastest was disturbed least."""
RUNS = 100
AT_A_TIME = 4
"""Concurrent runs of a served flow: each computes for seconds, on two cores."""
TASKS = 64
SLOW = 2.0
"""Seconds that the token endpoint takes, and that the tasks sleep for comparison."""
ROUNDS = 5
"""How often each way is measured, in turn, so that the load of the machine affects all alike."""
TICK = 0.001
"""Seconds between two ticks of the loop."""
HEAVY = ("google", "pandas", "pyarrow", "requests")
BLOCK = "benchmark"

IMPORT = f"""
import sys, time
import prefect.blocks.core
before = set(sys.modules)
started, computed = time.perf_counter(), time.thread_time()
import prefect_blocks
seconds, computed = time.perf_counter() - started, time.thread_time() - computed
heavy = [name for name in set(sys.modules) - before if name.partition(".")[0] in {HEAVY}]
print(seconds * 1e3, computed * 1e3, *heavy)
"""


@contextmanager
def prefect_and_carto() -> Iterator[tuple[PrefectSite, Sandbox]]:
    """Run both while the `with` block runs, with a saved block, and no request to the sandbox counted so far."""
    with tempfile.TemporaryDirectory() as home, Sandbox() as sandbox, prefect_site_in(Path(home)) as site:
        site.save_block(BLOCK, {**sandbox.account, "token_store": f"{home}/tokens.json"})
        sandbox.reset()
        yield site, sandbox


# Imports


def imports(count: int = STARTS) -> None:
    """Print the import time of `prefect_blocks` on top of `prefect.blocks.core`, from bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as home:
        environment.update(HOME=home, PREFECT_HOME=f"{home}/prefect")
        command = [sys.executable, "-c", IMPORT]
        outputs = [
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT).stdout
            for _ in range(count + 1)
        ][1:]  # the first one compiles
    for name, column in {"import prefect_blocks": 0, "  computing": 1}.items():
        times = [float(output.split()[column]) for output in outputs]
        print(f"{name:<22} {min(times):5.1f} ms at best, {median(times):5.1f} ms median of {count}")
    print(f"  of {', '.join(HEAVY)}: {', '.join(outputs[0].split()[2:]) or 'nothing'}")


# A served flow


def served(count: int = RUNS) -> None:
    """Print how many token requests and exchanges many runs of a served deployment cause, each a new process."""
    with prefect_and_carto() as (site, sandbox):
        sandbox.start_emulator()
        started = time.monotonic()
        with site.serving("one-query", LIMIT=str(AT_A_TIME)) as deployment:
            runs = site.all_ended([site.begin_run(deployment, block=BLOCK) for _ in range(count)])
        seconds = time.monotonic() - started
        completed = sum(run["state_type"] == "COMPLETED" for run in runs)
        processes = {log["message"] for log in site.all_of("logs") if log["message"].startswith("process ")}
        stats = sandbox.stats()
    print(f"runs completed   {completed} of {count}, in {len(processes)} processes and {seconds:.0f} s")
    print(f"token requests   {stats.count('token')}")
    print(f"DW exchanges     {stats.count('dw_token')}")


# The event loop


@dataclass
class Watched:
    """Measurements of the event loop of a flow.

    Attributes:
        pause: Seconds of the longest pause.
        waiting: The same, while every task waited for its token or slept.
        step: Seconds of the longest step on the loop of what the tasks await.
        computed: The same in CPU seconds of the loop's thread.
    """

    pause: float = 0.0
    waiting: float = 0.0
    step: float = 0.0
    computed: float = 0.0


class Stepped:
    """Awaits something and times each step that it takes on the loop.

    Args:
        work: What to await.
        watched: Records the longest step.
    """

    def __init__(self, work: Awaitable[Any], watched: Watched) -> None:
        self._work = work
        self._watched = watched

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, answer = self._work.__await__(), None
        while True:
            began, computed = time.perf_counter(), time.thread_time()
            try:
                wanted = steps.send(answer)  # type: ignore[attr-defined]  # a generator, as every coroutine gives
            except StopIteration as end:
                return end.value
            finally:
                self._watched.step = max(self._watched.step, time.perf_counter() - began)
                self._watched.computed = max(self._watched.computed, time.thread_time() - computed)
            answer = yield wanted


WAYS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "tokens": lambda carto: carto.aget_access_token(),
    "queries": lambda carto: carto.get_carto_warehouse().aquery("SELECT 1"),
    "asyncio.sleep": lambda _: asyncio.sleep(SLOW),
}


async def watch(way: str) -> Watched:
    """Run a flow of many tasks that all await at once, and measure its event loop."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    from prefect_blocks import CartoCredentials

    watched, waiting = Watched(), 0

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            all_waited = waiting == TASKS
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            watched.pause = max(watched.pause, now - last - TICK)
            if all_waited and waiting == TASKS:
                watched.waiting = max(watched.waiting, now - last - TICK)
            last = now

    @task(cache_policy=NO_CACHE)
    async def wait(carto: CartoCredentials) -> None:
        nonlocal waiting
        waiting += 1
        await Stepped(WAYS[way](carto), watched)
        waiting -= 1

    @flow
    async def many_at_once() -> None:
        carto = await CartoCredentials.aload(BLOCK)
        ticking = asyncio.create_task(tick())
        await asyncio.gather(*(wait(carto) for _ in range(TASKS)))
        ticking.cancel()

    await many_at_once()
    return watched


def loop(rounds: int = ROUNDS) -> None:
    """Print the pauses of a flow's event loop while its tasks wait for a token, and while they sleep for comparison."""
    with prefect_and_carto() as (site, sandbox):
        sandbox.start_emulator()
        for number in range(rounds):
            for way in WAYS:
                sandbox.reset()
                sandbox.revoke("carto")
                sandbox.fault("token", delay=SLOW)
                Path(site.home / "tokens.json").unlink(missing_ok=True)
                name = f"{way}-{number}"
                said = site.run(name, ["python", "-m", __spec__.name, "watch", way], PREFECT_LOGGING_LEVEL="WARNING")
                found = Watched(**json.loads(said.splitlines()[-1]))
                print(
                    f"{way:<14} {sandbox.stats().count('token')} requests  longest pause {found.pause * 1e3:6.1f} ms, "
                    f"{found.waiting * 1e3:5.1f} ms while all wait; longest step of what is awaited "
                    f"{found.step * 1e3:5.1f} ms, computing {found.computed * 1e3:5.1f} ms"
                )


def main(what: str = "", *rest: str) -> None:
    """Run a benchmark, or one of its processes."""
    if what == "watch":
        print(json.dumps(asdict(asyncio.run(watch(*rest)))))
        return
    kinds = {"imports": imports, "served": served, "loop": loop}
    if what not in kinds:
        raise SystemExit(__doc__)
    kinds[what](*map(int, rest))


if __name__ == "__main__":
    main(*sys.argv[1:])
