"""One service on FastAPI and uvicorn, with the check of keys that is named: see run.mjs. It says its port and its keys
on stdout.

    DATABASE_URL=... python server.py guard
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

import asyncpg
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request

from pyagentkey import AsyncAgentKey
from pyagentkey.fastapi import require_key

KEYS = 200
BUDGET_CENTS = 2_000_000_000
CHECK = sys.argv[1]
DSN = os.environ["DATABASE_URL"]

ak = AsyncAgentKey(DSN, pool_size=10)
pool: Any = None
touches: set[Any] = set()


def hash_of(request: Request) -> str:
    return sha256(request.headers["authorization"].removeprefix("Bearer ").encode()).hexdigest()


async def by_hand(request: Request) -> None:
    """What an application would write: one SELECT, and one UPDATE that nobody waits for."""
    row = await pool.fetchrow(
        """SELECT id, account_id, scopes, budget_cents, budget_used_cents, budget_period, budget_reset_at, expires_at,
             revoked_at FROM sdk_api_keys WHERE key_hash = $1""",
        hash_of(request),
    )
    now = datetime.now(timezone.utc)
    if row is None or row["revoked_at"] or (row["expires_at"] and row["expires_at"] < now):
        raise HTTPException(401)
    if row["budget_used_cents"] >= row["budget_cents"]:
        raise HTTPException(429)
    touch = asyncio.create_task(pool.execute("UPDATE sdk_api_keys SET last_used_at = now() WHERE id = $1", row["id"]))
    touches.add(touch)
    touch.add_done_callback(touches.discard)


async def charge_by_hand(request: Request) -> None:
    """One guarded UPDATE before the handler."""
    status = await pool.execute(
        """UPDATE sdk_api_keys SET budget_used_cents = budget_used_cents + 1
           WHERE key_hash = $1 AND revoked_at IS NULL AND budget_used_cents + 1 <= budget_cents""",
        hash_of(request),
    )
    if status != "UPDATE 1":
        raise HTTPException(401)


async def none() -> None:
    """Everybody may pass."""


CHECKS: dict[str, Any] = {
    "none": none,
    "by hand": by_hand,
    "charge by hand": charge_by_hand,
    "guard": require_key(ak),
    "guard, holds": require_key(ak, reserve_cents=1),
}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    global pool
    async with ak, asyncpg.create_pool(DSN, min_size=10, max_size=10) as pool:
        await ak.migrate()
        made = await asyncio.gather(*(ak.create("bench", budget_cents=BUDGET_CENTS) for _ in range(KEYS)))
        print(json.dumps({"port": listener.getsockname()[1], "keys": [key.key for key in made]}), flush=True)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/", dependencies=[Depends(CHECKS[CHECK])])
async def handle() -> dict[str, bool]:
    return {"ok": True}


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
