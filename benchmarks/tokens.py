"""Time a warm call, a fresh process, a whole query and an event loop, each beside carto-auth 0.2.0 or google's client.

Run: python -m benchmarks.tokens  (it needs the sandbox extra; carto-auth is measured where it is installed).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import timeit
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox

from .loading import sink

STARTS = 25
"""Fresh processes per figure: their median holds still to a millisecond on an idle machine."""
CALLS, ROUNDS = 200_000, 7
"""Warm calls per round, and rounds: the best round is the one that nothing disturbed."""
COROUTINES = 500
SLOW = 2.0
"""Seconds the token endpoint takes while the event loop is watched."""

THEIRS = """
import json, time
from carto_auth import CartoAuth
CartoAuth.from_m2m({credentials!r}, cache_filepath={cache!r}).get_access_token()
"""
OURS = """
from carto_auth_integrations import CartoAuth
CartoAuth.from_m2m({credentials!r}, cache_filepath={cache!r}).get_access_token()
"""
QUERY = """
from carto_auth_integrations import CartoAuth
CartoAuth.from_mapping({account!r}).{call}
"""
OUR_QUERY = 'warehouse().query("SELECT 1").rows'
GOOGLES_QUERY = 'get_carto_dw_client().query("SELECT 1", api_method="INSERT").result().total_rows'


def warm_call(call: object) -> float:
    """Return the nanoseconds of one call."""
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e9  # type: ignore[call-overload,no-any-return]


def fresh_process(script: str) -> float:
    """Return the milliseconds of a whole process, with compiled bytecode as after an installation."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(STARTS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)
        times.append((time.perf_counter() - started) * 1e3)
    return median(times)


async def longest_pause(auth: CartoAuth) -> float:
    """Return the longest pause of the loop in milliseconds while many coroutines wait for a token."""
    longest, last = 0.0, time.perf_counter()
    everyone = asyncio.gather(*(auth.aget_access_token() for _ in range(COROUTINES)))
    while not everyone.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await everyone
    return longest * 1e3


def main() -> None:
    """Measure and print."""
    rival = find_spec("carto_auth") is not None
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        credentials = sandbox.write_credentials(Path(folder) / "credentials.json")
        names = {"credentials": str(credentials), "cache": str(Path(folder) / "tokens.json")}
        auth = CartoAuth.from_m2m(credentials, cache_filepath=names["cache"])
        auth.get_access_token()
        ours = warm_call(auth.get_access_token)
        print(f"warm get_access_token()            {ours:8.0f} ns")
        if rival:
            from carto_auth import CartoAuth as Theirs  # type: ignore[import-not-found]

            theirs = warm_call(Theirs("m2m", access_token="t", expiration=time.time() + 1e6).get_access_token)
            print(f"  carto-auth 0.2.0                 {theirs:8.0f} ns   ours is {ours / theirs:.2f} x")

        bare = fresh_process("pass")
        ours = fresh_process(OURS.format(**names)) - bare
        print(f"fresh process, warm store          {ours:8.1f} ms   over a bare interpreter's {bare:.1f} ms")
        if rival:
            cache = Path(folder) / "theirs.json"
            cache.write_text('{"api_base_url": "x", "access_token": "t", "expiration": 99999999999}')
            theirs = fresh_process(THEIRS.format(credentials=str(credentials), cache=str(cache))) - bare
            print(f"  carto-auth 0.2.0                 {theirs:8.1f} ms   ours is {ours / theirs:.2f} x")

        with sink(polls=0) as url:  # a job that ends at once: what is left is the process
            urls = dict.fromkeys(("api_base_url", "auth_url", "bigquery_endpoint"), url)
            store = {"client_id": "c", "client_secret": "s", "token_store": str(Path(folder) / "query.json")}
            scripts = [QUERY.format(account={**urls, **store}, call=call) for call in (OUR_QUERY, GOOGLES_QUERY)]
            ours, theirs = (fresh_process(script) for script in scripts)
        print(f"whole process with a query         {ours:8.1f} ms")
        print(f"  google's client                  {theirs:8.1f} ms   ours is {ours / theirs:.2f} x")

        sandbox.fault("token", delay=SLOW)
        cold = CartoAuth.from_mapping({**sandbox.account, "token_store": str(Path(folder) / "async.json")})
        pause = asyncio.run(longest_pause(cold))
        print(f"{COROUTINES} coroutines, {SLOW:.0f} s endpoint        {pause:8.1f} ms   longest pause of the loop")


if __name__ == "__main__":
    main()
