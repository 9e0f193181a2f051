"""The shared cases of requests at a guarded door (tests/cases/http), over real HTTP, through FastAPI and plain ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi import Request as FastRequest
from fastapi import Response as FastResponse
from fastapi.responses import JSONResponse as FastJSONResponse
from fastapi.responses import StreamingResponse as FastStreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from pyagentkey import AgentKey, AsyncAgentKey
from pyagentkey.asgi import RequireKey
from pyagentkey.fastapi import require_key

from .server import serving
from .support import Database, eventually

FOLDER = Path(__file__).parents[2] / "tests" / "cases" / "http"
MEMBERS = {
    "name", "note", "doors", "mustFail", "key", "sql", "door", "cost", "handler", "request", "response",
    "spentMicrocents", "logs",
}  # fmt: skip

Case = dict[str, Any]
Make = Callable[[AsyncAgentKey, Case, dict[str, Any]], Any]


def cases() -> Iterator[Case]:
    for file in sorted(FOLDER.glob("*.json")):
        read = json.loads(file.read_text())
        assert read.keys() <= {"about", "door", "cases"} and read["cases"], file
        for case in read["cases"]:
            assert case.keys() <= MEMBERS, f"{file}: {case['name']}"
            yield {"door": read.get("door", {}), **case}


async def chunks() -> AsyncIterator[bytes]:
    yield b"the beginning"
    # Until the client is gone.
    await asyncio.Event().wait()


def charge(request: Any, wanted: dict[str, Any]) -> None:
    for amount in wanted.get("charges", []):
        request.state.grant.charge(amount)


def asgi_app(ak: AsyncAgentKey, case: Case, options: dict[str, Any]) -> Any:
    wanted = case.get("handler", {})

    async def handler(request: Request) -> Any:
        charge(request, wanted)
        if wanted.get("throws"):
            raise RuntimeError("the handler's own")
        if wanted.get("leaves"):
            return StreamingResponse(chunks())
        return JSONResponse({"ok": True}, wanted.get("status", 200))

    routes = [] if wanted.get("missing") else [Route("/", handler)]
    return RequireKey(Starlette(routes=routes), ak, **options)


def fastapi_app(ak: AsyncAgentKey, case: Case, options: dict[str, Any]) -> Any:
    wanted = case.get("handler", {})
    app = FastAPI()
    caller = Depends(require_key(ak, **options))

    @app.get("/", dependencies=[caller], response_model=None)
    async def handler(request: FastRequest, response: FastResponse, number: Optional[int] = Query(None)) -> Any:
        charge(request, wanted)
        if wanted.get("throws"):
            raise RuntimeError("the handler's own")
        if wanted.get("leaves"):
            return FastStreamingResponse(chunks())
        response.status_code = wanted.get("status", 200)
        return {"ok": True}

    return app


def fastapi_app_of_responses(ak: AsyncAgentKey, case: Case, options: dict[str, Any]) -> Any:
    """The handler is in a router, is no coroutine, and makes its responses itself."""
    wanted = case.get("handler", {})
    router = APIRouter()

    @router.get("/", response_model=None)
    def handler(request: FastRequest, number: Optional[int] = Query(None)) -> Any:
        charge(request, wanted)
        if wanted.get("throws"):
            raise RuntimeError("the handler's own")
        if wanted.get("leaves"):
            return FastStreamingResponse(chunks())
        return FastJSONResponse({"ok": True}, wanted.get("status", 200))

    app = FastAPI()
    app.include_router(router, dependencies=[Depends(require_key(ak, **options))])
    return app


DOORS: list[tuple[str, str, Make]] = [
    ("fastapi", "fastapi", fastapi_app),
    ("fastapi, its own responses", "fastapi", fastapi_app_of_responses),
    ("asgi", "asgi", asgi_app),
]
WRONG_ON_PURPOSE = pytest.mark.xfail(strict=True, reason="this case is wrong, so that the runner is seen to fail")
EVERY = [
    pytest.param(make, case, id=f"{name}: {case['name']}", marks=[WRONG_ON_PURPOSE] * ("mustFail" in case))
    for name, door, make in DOORS
    for case in cases()
    if door in case.get("doors", [door])
]


@pytest.fixture(scope="module")
def ak(db: Database) -> Iterator[AgentKey]:
    with AgentKey(db.url) as client:
        client.migrate()
        yield client


def options_of(db: Database, key_id: str, case: Case) -> dict[str, Any]:
    door = case["door"]
    assert door.keys() <= {"scope", "reserve", "billErrors", "budgetHeaders", "exceededStatus", "apiKeyHeader"}
    options: dict[str, Any] = {
        "scope": door.get("scope"),
        "reserve_cents": door.get("reserve"),
        "bill_errors": door.get("billErrors", False),
        "budget_headers": door.get("budgetHeaders", False),
        "exceeded_status": door.get("exceededStatus", 429),
        "api_key_header": door.get("apiKeyHeader"),
    }
    if "cost" in case:

        async def cost(_request: Any) -> Any:
            if "sql" in case["cost"]:
                await db.run(case["cost"]["sql"].replace("{id}", key_id))
            if "fails" in case["cost"]:
                raise RuntimeError(case["cost"]["fails"])
            return case["cost"].get("says")

        options["cost"] = cost
    return options


def send(client: httpx.Client, case: Case, key: str) -> Optional[httpx.Response]:
    request = case.get("request", {})
    authorization = request.get("authorization", "Bearer {key}")
    headers = {} if authorization is None else {"Authorization": authorization.replace("{key}", key)}
    if "apiKey" in request:
        headers["X-Api-Key"] = request["apiKey"].replace("{key}", key)
    wanted = case.get("handler", {})
    path = "/?number=x" if wanted.get("invalid") else "/"
    if not wanted.get("leaves"):
        return client.request(request.get("method", "GET"), path, headers=headers)
    with client.stream("GET", path, headers=headers) as response:
        next(response.iter_raw())
    return None


def until(what: str, condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    asyncio.run(eventually(what, holds))


async def check_spent(db: Database, key_id: str, spent: int) -> None:
    def column(name: str) -> str:
        return f"SELECT budget_{name}_cents * 1000000 + budget_{name}_microcents FROM sdk_api_keys WHERE id = {key_id}"

    async def is_free() -> bool:
        return await db.text(column("reserved")) == "0"

    async def is_recorded() -> bool:
        return await db.text(column("used")) != "0"

    await eventually("nothing is held any more", is_free)
    if spent:
        await eventually("it is recorded", is_recorded)
    assert await db.text(column("used")) == str(spent)


class Closing:
    """Gives a client's connections back."""

    def __init__(self, ak: AsyncAgentKey) -> None:
        self._ak = ak

    def close(self) -> None:
        asyncio.run(self._ak.close())


@pytest.mark.parametrize(("make", "case"), EVERY)
def test_case(db: Database, ak: AgentKey, make: Make, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="pyagentkey")
    spec = dict(case.get("key", {"accountId": "a", "budgetCents": 100}))
    created = ak.create(
        spec["accountId"],
        budget_cents=spec.get("budgetCents"),
        budget_period=spec.get("budgetPeriod"),
        scopes=spec.get("scopes"),
    )
    key_id = str(created.id)
    if "sql" in case:
        asyncio.run(db.run(case["sql"].replace("{id}", key_id)))
    behind = AsyncAgentKey(db.url, pool_size=2)
    with contextlib.closing(Closing(behind)), serving(make(behind, case, options_of(db, key_id, case))) as client:
        response = send(client, case, created.key)
        expected = case.get("response")
        if expected and response is not None:
            assert response.status_code == expected["status"]
            if "body" in expected:
                assert response.json() == expected["body"]
            for name, pattern in expected.get("headers", {}).items():
                assert re.search(pattern, response.headers[name]), (name, response.headers)
        if "spentMicrocents" in case:
            asyncio.run(check_spent(db, key_id, case["spentMicrocents"]))
        if "logs" in case:
            until("it is logged", lambda: bool(re.search(case["logs"], caplog.text)))
        else:
            assert [r for r in caplog.records if r.name.startswith("pyagentkey")] == []
    assert created.key not in caplog.text
