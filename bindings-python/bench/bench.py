"""Throughput and latency beside one query a call, hand-written with asyncpg on a pool of 10.

tests/postgres.sh run -- python bench/bench.py [seconds]
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Awaitable
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, Callable

import asyncpg

from pyagentkey import AsyncAgentKey

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
ROUNDS = 4
KEYS = 200
POOL_SIZE = 10

Operation = Callable[[str], Awaitable[Any]]


class ByHand:
    """What an application would write. asyncpg prepares each statement once per connection."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._touches: set[asyncio.Task[Any]] = set()

    async def validate(self, key: str) -> bool:
        row = await self._pool.fetchrow(
            """SELECT id, account_id, user_id, scopes, budget_cents, budget_used_cents, budget_period, budget_reset_at,
                 expires_at, delegated_by, name, revoked_at FROM sdk_api_keys WHERE key_hash = $1""",
            sha256(key.encode()).hexdigest(),
        )
        if row is None or row["revoked_at"] is not None:
            return False
        if row["expires_at"] is not None and row["expires_at"] < datetime.now(timezone.utc):
            return False
        if row["budget_cents"] is not None and row["budget_used_cents"] >= row["budget_cents"]:
            return False
        # Nobody waits for it.
        touch = asyncio.create_task(
            self._pool.execute("UPDATE sdk_api_keys SET last_used_at = now() WHERE id = $1", row["id"])
        )
        self._touches.add(touch)
        touch.add_done_callback(self._touches.discard)
        return True

    async def charge(self, key: str) -> bool:
        row = await self._pool.fetchrow(
            """UPDATE sdk_api_keys SET budget_used_cents = budget_used_cents + $2
               WHERE key_hash = $1 AND revoked_at IS NULL
                 AND (budget_cents IS NULL OR budget_used_cents + $2 <= budget_cents)
               RETURNING budget_used_cents, budget_cents""",
            sha256(key.encode()).hexdigest(),
            1,
        )
        return row is not None

    async def settle(self) -> None:
        await asyncio.gather(*self._touches)


async def measure(operation: Operation, keys: list[str], in_flight: int, seconds: float, settle: Any) -> float:
    """Calls a second."""
    calls = 0
    start = time.perf_counter()
    end = start + seconds

    async def worker(first: int) -> None:
        nonlocal calls
        for key in itertools.islice(itertools.cycle(keys), first, None):
            if time.perf_counter() >= end:
                return
            if not await operation(key):
                raise RuntimeError("refused")
            calls += 1

    await asyncio.gather(*(worker(n) for n in range(in_flight)))
    await settle()
    return calls / (time.perf_counter() - start)


async def nothing(*_: Any) -> None:
    pass


async def main() -> None:
    url = os.environ["DATABASE_URL"]
    # By default asyncpg cleans a session with one more query whenever it goes back to the pool.
    async with asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE, reset=nothing) as pool:
        for table in ("sdk_api_keys", "sdk_api_keys_events", "sdk_api_keys_reservations"):
            await pool.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
        async with AsyncAgentKey(url, pool_size=POOL_SIZE) as ak:
            await ak.migrate()
            spec: Any = {"scopes": ["read", "write"], "budget_cents": 2_000_000_000}
            keys = [(await ak.create(f"a{n % 20}", **spec)).key for n in range(KEYS)]
            await pool.execute("VACUUM ANALYZE sdk_api_keys")
            by_hand = ByHand(pool)
            print(f"{'what':<22}{'in flight':>10}{'asyncpg, /s':>14}{'pyagentkey, /s':>16}{'ratio':>9}", flush=True)
            for in_flight in (1, 256):
                for what, ours, theirs in (
                    ("validate", ak.validate, by_hand.validate),
                    ("charge", lambda key: ak.track_usage(key, 1), by_hand.charge),
                ):
                    for over, chosen in ((f"{KEYS} keys", keys), ("one key", keys[:1])):
                        sums = [0.0, 0.0]
                        # Alternating, so that a noisy machine is noisy for both; the first round warms up.
                        for n in range(ROUNDS + 1):
                            seconds = SECONDS / ROUNDS if n else 0.3
                            speeds = [
                                await measure(theirs, chosen, in_flight, seconds, by_hand.settle),
                                await measure(ours, chosen, in_flight, seconds, nothing),
                            ]
                            if n:
                                sums = [old + new for old, new in zip(sums, speeds)]
                        hand, shared = (total / ROUNDS for total in sums)
                        must = f"{'':>3}must 8x" if in_flight == 256 else ""
                        print(
                            f"{what + ', ' + over:<22}{in_flight:>10}{hand:>14,.0f}{shared:>16,.0f}"
                            f"{shared / hand:>8.1f}x{must}",
                            flush=True,
                        )


asyncio.run(main())
