"""Calls share statements. A row that somebody else has locked is the affair of its own key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable

import pytest

from pyagentkey import AsyncAgentKey, Reservation

from .support import Database, run

KEYS = 30
CALLS = 10
TIMEOUT = 30.0


async def plain(ak: AsyncAgentKey, key: str, _: int) -> Any:
    return await ak.track_usage(key, 1)


async def idempotent(ak: AsyncAgentKey, key: str, number: int) -> Any:
    return await ak.track_usage(key, 1, idempotency_key=f"call {number}")


async def hold(ak: AsyncAgentKey, key: str, _: int) -> Any:
    held = await ak.reserve(key, 1)
    assert isinstance(held, Reservation)
    return await ak.settle(held.reservation_id, 1)


@pytest.mark.parametrize("call", [plain, idempotent, hold])
def test_a_locked_row_keeps_no_other_key_waiting(
    db: Database, call: Callable[[AsyncAgentKey, str, int], Awaitable[Any]]
) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url, timeout=TIMEOUT) as one, AsyncAgentKey(db.url, timeout=TIMEOUT) as other:
            locked = await one.create("a")
            keys = [(await one.create("a")).key for _ in range(KEYS)]
            session = await db.session()
            await session.execute("BEGIN")
            await session.execute(f"SELECT 1 FROM sdk_api_keys WHERE id = {locked.id} FOR UPDATE")
            stuck = asyncio.ensure_future(call(one, locked.key, 0))

            async def calls_of(ak: AsyncAgentKey, key: str) -> None:
                for number in range(CALLS):
                    assert await call(ak, key, number)

            await asyncio.gather(*(calls_of(ak, key) for ak in (one, other) for key in keys))
            assert not stuck.done()
            await session.execute("ROLLBACK")
            await session.close()
            assert await stuck

    run(main())
