"""Law 6: nothing this package does holds an event loop; how many milliseconds it is, `benchmarks/` measures."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox

SLOW = 2.0
"""Seconds the endpoints take: a loop that waited for them would stand still for as long."""


async def longest_pause(work: asyncio.Task[object]) -> float:
    longest, last = 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await work
    return longest


def test_the_loop_runs_on_while_tokens_are_fetched(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    carto_sandbox.fault("token", delay=SLOW)
    carto_sandbox.fault("dw_token", delay=SLOW)
    auth = CartoAuth.from_mapping({**carto_sandbox.account, "token_store": str(tmp_path / "tokens.json")})

    async def use() -> object:
        return await asyncio.gather(
            *(auth.aget_access_token() for _ in range(500)), *(auth.aget_carto_dw_credentials() for _ in range(50))
        )

    async def main() -> float:
        return await longest_pause(asyncio.create_task(use()))

    assert asyncio.run(main()) < SLOW * 0.9
    assert carto_sandbox.stats().count("token") == 1
    assert carto_sandbox.stats().count("dw_token") == 1


def test_a_coroutine_that_is_cancelled_takes_no_other_with_it(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    carto_sandbox.fault("token", delay=0.5)
    auth = CartoAuth.from_mapping({**carto_sandbox.account, "token_store": str(tmp_path / "tokens.json")})

    async def main() -> str:
        impatient = asyncio.create_task(auth.aget_access_token())
        patient = asyncio.create_task(auth.aget_access_token())
        await asyncio.sleep(0.1)
        impatient.cancel()
        return await patient

    assert asyncio.run(main())
    assert carto_sandbox.stats().count("token") == 1
