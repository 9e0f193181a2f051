"""A guarded service on FastAPI or on plain ASGI, which says on stdout what its requests spent: see run.mjs. Its requests
carry a plan in their query.

    DATABASE_URL=... python server.py fastapi
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from pyagentkey import AsyncAgentKey
from pyagentkey.asgi import RequestEnd, RequireKey
from pyagentkey.fastapi import require_key


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


ak = AsyncAgentKey(
    os.environ["DATABASE_URL"], pool_size=4, ledger=True, on_error=lambda message: say({"told": message})
)


class Work:
    """What a request does, and what it has counted so far."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.plan = json.loads(parse_qs(scope["query_string"].decode())["plan"][0])
        self.counted: int | None = None

    @classmethod
    def of(cls, scope: dict[str, Any]) -> "Work":
        if "work" not in scope:
            scope["work"] = cls(scope)
        work: Work = scope["work"]
        return work

    def begin(self, grant: Any) -> None:
        self.grant = grant
        self.reservation = grant.reservation and grant.reservation.reservation_id
        self.counted = 0
        say({"ran": self.reservation})

    def count(self) -> None:
        each = self.plan["each"]
        self.counted += each
        if self.plan["says"] == "charges":
            self.grant.charge({"microcents": each})
            say({"spent": each, "reservation": self.reservation, "key": self.grant.id})

    async def parts(self) -> AsyncIterator[bytes]:
        for _ in range(self.plan["parts"]):
            self.count()
            yield b"x" * self.plan["bytes"]
            await asyncio.sleep(self.plan["pauseMs"] / 1000)  # a model that thinks

    def cost(self, end: RequestEnd) -> Any:
        plan = self.plan
        counted = self.counted if plan["says"] == "amount" else None
        threw = plan["throws"] and self.counted is not None
        is_error = threw or (end.status is not None and end.status >= 400)
        estimate = 0 if plan["isFlat"] else plan["estimate"]
        fails = plan["says"] == "fails" and self.counted is not None
        unsaid = 0 if is_error and not fails else estimate
        reservation = end.grant.reservation and end.grant.reservation.reservation_id
        say({"spent": unsaid if counted is None else counted, "reservation": reservation, "key": end.grant.id})
        if fails:
            raise ValueError("the price is not known")
        return None if counted is None else {"microcents": counted}


def scope_of(request: Any) -> dict[str, Any]:
    """What a request is to FastAPI, or its scope to ASGI."""
    scope: dict[str, Any] = request if isinstance(request, dict) else request.scope
    return scope


options: dict[str, Any] = {"cost": lambda request, end: Work.of(scope_of(request)).cost(end)}
holding: dict[str, Any] = {
    **options,
    "reserve_cents": lambda request: {"microcents": Work.of(scope_of(request)).plan["estimate"]},
    "reserve_ttl": "10s",
}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with ak:
        yield


fastapi = FastAPI(lifespan=lifespan)


async def route(request: Request) -> StreamingResponse:
    work = Work.of(request.scope)
    work.begin(request.state.grant)
    if work.plan["throws"]:
        work.count()
        raise RuntimeError("thrown on purpose")
    if work.plan["status"] == 418:
        work.count()
        raise HTTPException(418)
    return StreamingResponse(work.parts(), work.plan["status"])


fastapi.get("/held", dependencies=[Depends(require_key(ak, **holding))])(route)
fastapi.get("/flat", dependencies=[Depends(require_key(ak, **options))])(route)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """The same without a framework. Nobody tells it that its client has left: its sends are dropped then."""
    if scope["path"] == "/missing":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        return await send({"type": "http.response.body"})
    work = Work.of(scope)
    work.begin(scope["state"]["grant"])
    if work.plan["throws"]:
        work.count()
        raise RuntimeError("thrown on purpose")
    await send({"type": "http.response.start", "status": work.plan["status"], "headers": []})
    async for part in work.parts():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


doors = {"/held": RequireKey(plain, ak, **holding), "/flat": RequireKey(plain, ak, **options)}


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return await fastapi(scope, receive, send)
    await doors["/flat" if scope["path"] == "/flat" else "/held"](scope, receive, send)


class Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        say({"port": self.servers[0].sockets[0].getsockname()[1]})


app = {"fastapi": fastapi, "asgi": asgi}[sys.argv[1]]
config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)
asyncio.run(Server(config).serve())
