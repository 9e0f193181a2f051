"""Spends through the Python package for a while, and prints what was acknowledged: see core/tests/fleet/main.rs."""

import asyncio
import json
import os
import random
import time
import uuid
from collections.abc import Awaitable
from typing import Any, Callable

from pyagentkey import AgentKeyError, AsyncAgentKey, Reservation

GIVEN = json.loads(os.environ["AGENTKEY_FLEET"])


async def either(call: Callable[[], Awaitable[Any]]) -> bool:
    """Whether one of two calls that ask for the same thing did it."""
    ends = await asyncio.gather(call(), call(), return_exceptions=True)
    if any(end for end in ends if not isinstance(end, BaseException)):
        return True
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return False


async def plain(ak: AsyncAgentKey, key: str) -> int:
    return 1 if await ak.track_usage(key, 1) else 0


async def repeated(ak: AsyncAgentKey, key: str) -> int:
    name = str(uuid.uuid4())
    return 2 if await either(lambda: ak.track_usage(key, 2, idempotency_key=name)) else 0


async def held(ak: AsyncAgentKey, key: str) -> int:
    hold = await ak.reserve(key, 3)
    if not isinstance(hold, Reservation):
        return 0
    return 2 if await either(lambda: ak.settle(hold.reservation_id, 2)) else 0


async def main() -> None:
    done: dict[str, int] = {}
    unknown: dict[str, int] = {}
    calls = failed = 0
    until = time.monotonic() + GIVEN["seconds"]

    async def caller(ak: AsyncAgentKey) -> None:
        nonlocal calls, failed
        while time.monotonic() < until:
            key = random.choice(GIVEN["keys"])
            spend = random.choice([plain, repeated, held])
            calls += 1
            try:
                cents = await spend(ak, key)
                done[key] = done.get(key, 0) + cents
            except AgentKeyError as error:
                failed += 1
                if error.may_have_been_recorded:
                    unknown[key] = unknown.get(key, 0) + 3

    async with AsyncAgentKey(GIVEN["url"], pool_size=4, pooler=GIVEN["pooler"]) as ak:
        await asyncio.gather(*(caller(ak) for _ in range(GIVEN["callers"])))
    print(json.dumps({"done": done, "unknown": unknown, "calls": calls, "failed": failed}))


asyncio.run(main())
