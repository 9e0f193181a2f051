"""What was spent is not lost: a server is told to stop in the middle of streams, while its database is down."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from pyagentkey import AgentKey, AsyncAgentKey
from pyagentkey.asgi import RequireKey

from .server import bearer
from .support import Database, Postgres, eventually, run

STREAMS = 10
CENTS = 7

APP = """
import asyncio, os, sys
from contextlib import asynccontextmanager
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from pyagentkey import AsyncAgentKey
from pyagentkey.asgi import RequireKey
from pyagentkey.fastapi import require_key

ak = AsyncAgentKey(os.environ["DATABASE_URL"], on_error=lambda message: print("on_error:", message, flush=True))

@asynccontextmanager
async def lifespan(_):
    async with ak:
        yield

async def cost(_):
    print("cut off", flush=True)
    await asyncio.sleep(0)  # a price that is looked up
    return 7

app = FastAPI(lifespan=lifespan)
guard = require_key(ak, reserve_cents=20, cost=cost)

async def stream():
    while True:
        yield b"."
        await asyncio.sleep(0.01)  # a stream without an end: it is cancelled

@app.get("/fastapi", dependencies=[Depends(guard)])
async def streaming():
    return StreamingResponse(stream())

async def plain(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async for part in stream():
        await send({"type": "http.response.body", "body": part, "more_body": True})

app.mount("/asgi", RequireKey(plain, ak, reserve_cents=20, cost=cost))

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)
asyncio.run(Server(config).serve())
"""


async def money(db: Database) -> tuple[int, int]:
    """What is used and what is held, in cents."""
    sums = "sum(budget_used_cents), sum(budget_reserved_cents)"
    used, held = json.loads(await db.text(f"SELECT json_build_array({sums}) FROM sdk_api_keys") or "[0,0]")
    return used, held


@pytest.mark.parametrize("path", ["/fastapi", "/asgi/"])
def test_streams_that_a_stop_cuts_off_are_settled(server: Postgres, path: str) -> None:
    db = Database("postgres")
    db.url = server.url
    with AgentKey(db.url) as ak:
        ak.migrate()
        key = ak.create("acct", budget_cents=10_000).key
    environment = {**os.environ, "DATABASE_URL": db.url}
    app = subprocess.Popen([sys.executable, "-c", APP], env=environment, stdout=subprocess.PIPE, text=True)

    async def main() -> None:
        assert app.stdout is not None
        port = int(await asyncio.to_thread(app.stdout.readline))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            streams = [asyncio.create_task(follow(http, path, key)) for _ in range(STREAMS)]

            async def all_are_admitted() -> bool:
                return await money(db) == (0, STREAMS * 20)

            await eventually("the streams are under way", all_are_admitted)
            app.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.do, "crash")
            for _ in streams:
                assert await asyncio.to_thread(app.stdout.readline) == "cut off\n"
            # The second of grace is over, and nothing can be recorded yet.
            await asyncio.to_thread(server.do, "restart")
            await asyncio.gather(*streams)
            rest = await asyncio.to_thread(app.stdout.read)
        assert await asyncio.to_thread(app.wait, 60) is not None
        assert rest == ""
        assert await money(db) == (STREAMS * CENTS, 0)

    try:
        run(main())
    finally:
        app.kill()
        app.communicate()


async def follow(http: httpx.AsyncClient, path: str, key: str) -> None:
    """Reads a stream until the server cuts it off."""
    try:
        async with http.stream("GET", path, headers=bearer(key)) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_bytes():
                pass
    except httpx.TransportError:
        pass


class Request:
    """A request to an ASGI app that begins to answer, and goes on when it is told."""

    def __init__(self, ak: AsyncAgentKey, key: str) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        app = RequireKey(self._app, ak, reserve_cents=20, cost=lambda _: CENTS)
        headers = [(b"authorization", f"Bearer {key}".encode())]
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.begun.set()
        await self.may_end.wait()
        await send({"type": "http.response.body", "body": b""})

    async def _receive(self) -> Any:
        raise AssertionError("nothing is read")

    async def _send(self, message: Any) -> None:
        pass


def test_close_waits_for_requests_under_way(db: Database) -> None:
    async def main() -> None:
        ak = AsyncAgentKey(db.url, close_timeout=60)
        key = (await ak.create("acct")).key
        request = Request(ak, key)
        await request.begun.wait()
        closing = asyncio.create_task(ak.close())
        await asyncio.sleep(0)  # lets it begin: no time is waited for
        # The handler's own calls still work.
        assert await ak.validate(key)
        assert not closing.done()
        request.may_end.set()
        await closing
        await request.task
        with AgentKey(db.url) as other:
            grant = other.validate(key).or_raise()
            assert (grant.budget_used_cents, grant.budget_reserved_cents) == (CENTS, 0)

    run(main())


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_what_cannot_be_recorded_is_told(
    server: Postgres, is_cancelled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def on_error(message: str) -> None:
        told.append(message)
        raise ValueError("a fault of on_error is logged")

    async def main() -> None:
        ak = AsyncAgentKey(server.url, close_timeout=0.3, on_error=on_error)
        await ak.migrate()
        created = await ak.create("acct")
        request = Request(ak, created.key)
        await request.begun.wait()
        server.do("crash")
        if is_cancelled:
            request.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request.task
        await ak.close()
        (message,) = told
        amount = CENTS if is_cancelled else 20
        assert f"({amount}000000 micro-cents, key {created.id}, reservation " in message
        assert "is not recorded" in message
        request.may_end.set()
        await asyncio.gather(request.task, return_exceptions=True)
        assert told == [message]

    with caplog.at_level(logging.ERROR):
        run(main())
    assert [record.message for record in caplog.records] == [told[0], "on_error failed"]


@pytest.mark.parametrize("make", [AgentKey, AsyncAgentKey])
def test_close_is_over_in_time(db: Database, make: Any) -> None:
    async def main() -> None:
        with AgentKey(db.url) as other:
            created = other.create("acct")
        session = await db.session()
        await session.execute("BEGIN")
        await session.execute(f"SELECT 1 FROM sdk_api_keys WHERE id = {created.id} FOR UPDATE")
        ak = make(db.url, close_timeout=0.1, timeout=60)
        if isinstance(ak, AgentKey):
            stuck = asyncio.ensure_future(asyncio.to_thread(ak.track_usage, created.key, 1))
        else:
            stuck = asyncio.ensure_future(ak.track_usage(created.key, 1))

        async def waits() -> bool:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return await db.text(waiting) == "1"

        await eventually("the charge waits", waits)
        began = time.monotonic()
        await (asyncio.to_thread(ak.close) if isinstance(ak, AgentKey) else ak.close())
        assert time.monotonic() - began < 30
        assert not stuck.done()
        await session.execute("COMMIT")
        await session.close()
        # It was sent: its answer still comes.
        assert await stuck

    run(main())
