"""Pools without a free connection: what nobody waits for any more is not sent, and callers are told the truth."""

from __future__ import annotations

import asyncio
import random

from pyagentkey import AgentKeyError, AsyncAgentKey

from .support import Database, run

CALLS = 10_000
CALLERS = 50
MONEY = """SELECT budget_used_cents || ' ' || budget_reserved_cents FROM sdk_api_keys"""


def test_under_random_limits_on_a_starved_pool_callers_are_told_the_truth(db: Database) -> None:
    told = {"spent": 0, "held": 0, "perhaps spent": 0, "perhaps held": 0}

    async def call(ak: AsyncAgentKey, key: str) -> None:
        what = random.choice(["spent", "held"])
        calling = ak.track_usage(key, 1) if what == "spent" else ak.reserve(key, 1)
        try:
            result = await asyncio.wait_for(calling, random.uniform(0.0002, 0.1))
        except AgentKeyError as error:
            told[f"perhaps {what}"] += error.may_have_been_recorded
        except asyncio.TimeoutError:  # cancelled: nobody told the caller anything
            told[f"perhaps {what}"] += 1
        else:
            assert result, "no budget is near"
            told[what] += 1

    async def main() -> None:
        async with AsyncAgentKey(db.url) as maker:
            key = (await maker.create("a", budget_cents=1_000_000)).key
        clients = [AsyncAgentKey(db.url, pool_size=1, timeout=limit) for limit in (0.001, 0.005, 0.02, 0.05)]
        is_over = asyncio.Event()

        async def application() -> None:
            """Holds the key's row, and so the only connection of each client that waits for it."""
            session = await db.session()
            while not is_over.is_set():
                async with session.transaction():
                    await session.execute("SELECT FROM sdk_api_keys FOR UPDATE")
                    await session.execute("SELECT pg_sleep(0.003)")  # the load itself: a row that is in use
                await asyncio.sleep(0)  # lets other tasks run once: no time is waited for
            await session.close()

        async def caller(n: int) -> None:
            for _ in range(CALLS // CALLERS):
                await call(clients[n % len(clients)], key)

        holding = asyncio.ensure_future(application())
        await asyncio.gather(*(caller(n) for n in range(CALLERS)))
        await asyncio.gather(*(ak.close() for ak in clients))
        money = await db.text(MONEY)
        is_over.set()
        await holding
        assert money is not None
        used, held = map(int, money.split())
        assert told["spent"] <= used <= told["spent"] + told["perhaps spent"], told
        assert told["held"] <= held <= told["held"] + told["perhaps held"], told
        assert told["spent"] and told["held"]
        assert await db.text(MONEY) == money, "nothing changes once the clients are closed"

    run(main())
