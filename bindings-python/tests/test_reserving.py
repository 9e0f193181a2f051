"""The dependency and the app that reserve before a handler and settle after it, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from typing import Any, Callable

import anyio
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse as FastStreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from pyagentkey import AgentKey, AsyncAgentKey, Denial, Grant, InvalidInputError, Reservation, Settlement
from pyagentkey.asgi import RequireKey
from pyagentkey.fastapi import RequestEnd, require_key

from .server import bearer, serving
from .support import Database, eventually

Make = Callable[..., Any]
Handler = Callable[[Any], Any]


def fastapi_app(ak: AsyncAgentKey, handler: Handler, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(require_key(ak, **options))], response_model=None)
    async def route(request: Request) -> Any:
        return await handler(request)

    return app


def asgi_app(ak: AsyncAgentKey, handler: Handler, **options: Any) -> Any:
    # Alone, ASGI knows no requests: its options are given the scope.
    for name in ("reserve_cents", "cost"):
        of_request = options.get(name)
        if callable(of_request):
            if len(inspect.signature(of_request).parameters) == 2:
                options[name] = lambda scope, end, of_request=of_request: of_request(Request(scope), end)
            else:
                options[name] = lambda scope, of_request=of_request: of_request(Request(scope))
    return RequireKey(Starlette(routes=[Route("/", handler)]), ak, **options)


both = pytest.mark.parametrize("make", [fastapi_app, asgi_app])


@pytest.fixture(scope="module")
def ak(db: Database) -> Iterator[AgentKey]:
    with AgentKey(db.url) as client:
        client.migrate()
        yield client


def used(ak: AgentKey, key: str) -> int:
    """Once nothing is held any more: what is used, in cents."""
    end = time.monotonic() + 20
    while True:
        result = ak.validate(key)
        if result:
            held, cents = result.budget_reserved_cents, result.budget_used_cents
        else:
            assert result.limit
            held, cents = result.limit.reserved_cents, result.limit.used_cents
        if held == 0:
            return cents
        assert time.monotonic() < end, "something is held still"


async def fine(_: Any) -> JSONResponse:
    return JSONResponse({})


def many(http: Any, count: int, key: str) -> list[Any]:
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda _: http.get("/", headers=bearer(key)), range(count)))


@both
def test_what_does_not_fit_never_runs(make: Make, db: Database, ak: AgentKey) -> None:
    ran = []

    async def handler(_: Any) -> JSONResponse:
        ran.append(1)
        return JSONResponse({})

    key = ak.create("a", budget_cents=100, budget_period="day").key
    with serving(make(AsyncAgentKey(db.url), handler, reserve_cents=101)) as http:
        answers = many(http, 200, key)
    assert {answer.status_code for answer in answers} == {429}
    assert answers[0].json() == {"error": "budget_exceeded"}
    assert int(answers[0].headers["retry-after"]) > 80_000
    assert (ran, used(ak, key)) == ([], 0)


@both
def test_the_cost_hears_how_the_request_ended(make: Make, db: Database, ak: AgentKey) -> None:
    ends: list[Any] = []

    async def handler(request: Request) -> Any:
        status = request.query_params.get("status")
        if status is not None:
            return JSONResponse({}, int(status))

        async def broken() -> AsyncIterator[bytes]:
            yield b"x"
            raise ConnectionResetError

        return StreamingResponse(broken())

    async def cost(_: Request, end: RequestEnd) -> int:
        ends.append((end.status, end.completed, end.grant.name))
        return 3 if end.status == 200 and end.completed else 1

    key = ak.create("a", budget_cents=100).key
    with serving(make(AsyncAgentKey(db.url), handler, reserve_cents=50, cost=cost)) as http:
        for query in ("?status=200", "?status=404", ""):
            with contextlib.suppress(Exception):
                http.get(f"/{query}", headers=bearer(key))
            used(ak, key)
    assert ends == [(200, True, "default"), (404, True, "default"), (200, False, "default")]
    assert used(ak, key) == 5


@both
@pytest.mark.parametrize(("worth", "cents"), [("settle", 50), ("release", 0)])
def test_what_nobody_settles_is_worth_what_the_door_says(
    make: Make, db: Database, ak: AgentKey, worth: str, cents: int
) -> None:
    async def handler(request: Request) -> JSONResponse:
        # As if the process had been killed an hour ago.
        id = request.state.grant.reservation.reservation_id
        await db.run(f"UPDATE sdk_api_keys_reservations SET expires_at = now() WHERE id = '{id}'")
        await asyncio.to_thread(ak.sweep_reservations)
        grant = (await asyncio.to_thread(ak.validate, key)).or_raise()
        return JSONResponse([grant.budget_used_cents, grant.budget_reserved_cents])

    key = ak.create("a", budget_cents=100).key
    client = AsyncAgentKey(db.url)
    with serving(make(client, handler, reserve_cents=50, reserve_ttl="1h", if_expired=worth)) as http:
        assert http.get("/", headers=bearer(key)).json() == [cents, 0]
    with pytest.raises(InvalidInputError, match=r"^Invalid ifExpired: charge; it must be release or settle"):
        make(client, handler, reserve_cents=50, if_expired="charge")


@both
def test_exactly_as_many_run_as_fit(make: Make, db: Database, ak: AgentKey) -> None:
    key = ak.create("a", budget_cents=3000).key
    with serving(make(AsyncAgentKey(db.url), fine, reserve_cents=60)) as http:
        answers = many(http, 200, key)
    assert sum(answer.status_code == 200 for answer in answers) == 50
    assert used(ak, key) == 3000


@both
def test_what_was_really_spent_counts(make: Make, db: Database, ak: AgentKey) -> None:
    async def estimate(request: Request) -> int:
        return int(request.query_params["estimate"])

    async def shown(request: Request) -> JSONResponse:
        response = request.state.grant.reservation.to_dict()
        request.state.cents = float(request.query_params["cents"])
        return JSONResponse({**response, "expires_at": str(response["expires_at"])})

    key = ak.create("a", budget_cents=100).key
    options: Any = {"reserve_cents": estimate, "cost": lambda request: request.state.cents}
    with serving(make(AsyncAgentKey(db.url), shown, **options)) as http:
        answer = http.get("/", params={"estimate": 50, "cents": 7.2}, headers=bearer(key))
        assert answer.json()["budget_reserved_cents"] == 50
        assert used(ak, key) == 8
        assert http.get("/", params={"estimate": 92, "cents": 300}, headers=bearer(key)).status_code == 200
        assert used(ak, key) == 308
        assert http.get("/", params={"estimate": 1, "cents": 1}, headers=bearer(key)).status_code == 429


@both
def test_a_stream_is_settled_after_its_end(make: Make, db: Database, ak: AgentKey) -> None:
    held: list[int] = []
    streaming = FastStreamingResponse if make is fastapi_app else StreamingResponse

    async def chunks(request: Request) -> AsyncIterator[bytes]:
        request.state.sent = 0
        for _ in range(10):
            request.state.sent += 1
            grant = await asyncio.to_thread(ak.validate, key)
            assert isinstance(grant, Grant)
            held.append(grant.budget_reserved_cents)
            yield b"x" * 1000

    async def handler(request: Request) -> Any:
        return streaming(chunks(request))

    key = ak.create("a", budget_cents=100).key
    options: Any = {"reserve_cents": 50, "cost": lambda request: request.state.sent}
    with serving(make(AsyncAgentKey(db.url), handler, **options)) as http:
        assert len(http.get("/", headers=bearer(key)).content) == 10_000
        assert used(ak, key) == 10
    assert held == [50] * 10


def test_a_request_that_is_cancelled_is_settled(db: Database, ak: AgentKey) -> None:
    key = ak.create("a", budget_cents=100).key

    async def main() -> None:
        began = asyncio.Event()

        async def app(*_: Any) -> None:
            began.set()
            await asyncio.Event().wait()

        async def nothing(*_: Any) -> Any:
            return {"type": "http.disconnect"}

        async with AsyncAgentKey(db.url) as client:
            guarded = RequireKey(app, client, reserve_cents=50, cost=lambda _: 6)
            scope = {"type": "http", "headers": [(b"authorization", f"Bearer {key}".encode())]}
            # As middleware does it: whatever is awaited within is cancelled from then on.
            async with anyio.create_task_group() as group:
                group.start_soon(guarded, scope, nothing, nothing)
                await began.wait()
                group.cancel_scope.cancel()
            assert await asyncio.to_thread(used, ak, key) == 6

    asyncio.run(main())


def settled(ak: AgentKey, key: str) -> Decimal:
    """Once nothing is held any more: what is used, exactly."""
    used(ak, key)
    grant = ak.validate(key)
    assert isinstance(grant, Grant) and grant.budget_used is not None
    return grant.budget_used


class Double:
    """An application's own client, for its tests."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def validate(self, key: str) -> Any:
        self.calls.append(("validate", key))
        return Grant(7, "acct", scopes=["read"]) if key == "good" else Denial("revoked")

    async def reserve(self, key: str, cost_cents: int, **options: Any) -> Any:
        self.calls.append(("reserve", key, cost_cents))
        return Reservation("6f9619ff-8b86-4d01-b42d-00cf4fc964ff", datetime.now(timezone.utc), Grant(7))

    def settle(self, reservation_id: str, cost_cents: int) -> Any:
        self.calls.append(("settle", reservation_id, cost_cents))
        return Settlement(cost_cents)


@both
def test_an_applications_own_double(make: Make) -> None:
    double = Double()
    ended = threading.Event()

    def cost(_: Any) -> int:
        ended.set()
        return 3

    async def shown(request: Request) -> JSONResponse:
        grant = request.state.grant
        return JSONResponse([grant.id, grant.account_id, grant.reservation.reservation_id])

    held = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    with serving(make(double, shown, reserve_cents=5, cost=cost, scope="read")) as http:
        assert http.get("/", headers=bearer("bad")).json() == {"error": "revoked"}
        assert http.get("/", headers=bearer("good")).json() == [7, "acct", held]
        assert ended.wait(20)
    assert double.calls == [("validate", "bad"), ("validate", "good"), ("reserve", "good", 5), ("settle", held, 3)]


@both
def test_before_the_handler_there_is_one_statement(make: Make, db: Database, ak: AgentKey) -> None:
    for options in ({}, {"scope": "read"}, {"reserve_cents": 5, "scope": "read"}):
        client = AsyncAgentKey(db.url, touch_interval_seconds=1_000_000)
        seen: list[int] = []

        async def handler(_: Any, client: AsyncAgentKey = client, seen: list[int] = seen) -> JSONResponse:
            seen.append(client.stats().statements)
            return JSONResponse({})

        created = ak.create("a", budget_cents=100)
        with serving(make(client, handler, **options)) as http:
            # The first request also asks for the table's columns, and its use is noted.
            assert http.get("/", headers=bearer(created.key)).status_code == 200
            settled(ak, created.key)
            noted = f"SELECT count(last_used_at) FROM sdk_api_keys WHERE id = {created.id}"
            asyncio.run(eventually("its use is noted", partial(_is_one, db, noted)))
            counts = []
            for _ in range(4):
                before = client.stats().statements
                assert http.get("/", headers=bearer(created.key)).status_code == 200
                counts.append(seen[-1] - before)
                settled(ak, created.key)
            # Now and then the engine looks at the table's columns again meanwhile.
            assert sorted(counts)[:3] == [1, 1, 1], (options, counts)


async def _is_one(db: Database, sql: str) -> bool:
    return await db.text(sql) == "1"


@both
def test_a_fault_lets_nobody_pass(make: Make, db: Database) -> None:
    ran = []

    async def handler(_: Any) -> JSONResponse:
        ran.append(1)
        return JSONResponse({})

    with serving(make(AsyncAgentKey("postgresql://127.0.0.1:1/none", timeout=0.5), handler, reserve_cents=1)) as http:
        answer = http.get("/", headers=bearer("ak_x"))
        assert (answer.status_code, answer.json()) == (500, {"error": "auth_unavailable"})
    assert ran == []


def test_what_another_dependency_refuses_costs_nothing(db: Database, ak: AgentKey) -> None:
    """The handler never ran, whatever ``cost`` would say."""
    ak_ = AsyncAgentKey(db.url)
    app = FastAPI()

    async def refuse() -> None:
        raise HTTPException(403, "not today")

    guard = Depends(require_key(ak_, reserve_cents=10, cost=lambda request: 7, bill_errors=True))

    @app.get("/", dependencies=[guard, Depends(refuse)])
    async def route() -> None: ...

    key = ak.create("a", budget_cents=100).key
    with serving(app) as http:
        assert http.get("/", headers=bearer(key)).status_code == 403
        assert used(ak, key) == 0


def test_a_handler_that_yields_is_charged(db: Database, ak: AgentKey) -> None:
    ak_ = AsyncAgentKey(db.url)
    app = FastAPI()
    guard = Depends(require_key(ak_, reserve_cents=10))

    @app.get("/", dependencies=[guard], response_class=FastStreamingResponse)
    async def route() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    @app.get("/items", dependencies=[guard], response_class=FastStreamingResponse)
    def items() -> Iterator[str]:
        yield "c"

    key = ak.create("a", budget_cents=100).key
    with serving(app) as http:
        assert [http.get(path, headers=bearer(key)).text for path in ("/", "/items")] == ["ab", "c"]
        assert used(ak, key) == 20
