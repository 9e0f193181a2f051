"""WebSockets behind the guard, which are refused before they are accepted."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any, Callable

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from pyagentkey import AgentKey, AsyncAgentKey, Grant
from pyagentkey.asgi import RequireKey
from pyagentkey.fastapi import require_key

from .server import bearer
from .support import Database, eventually

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def ak(db: Database) -> Iterator[AgentKey]:
    """What the tests themselves ask."""
    with AgentKey(db.url) as client:
        yield client


def fastapi_socket(ak: AsyncAgentKey, **options: Any) -> Any:
    app = FastAPI()
    guarded = Depends(require_key(ak, **options))

    @app.websocket("/")
    async def socket(socket: WebSocket, caller: Grant = guarded) -> None:
        await socket.accept()
        await socket.send_text(caller.name)
        await socket.receive_text()

    return app


def asgi_socket(ak: AsyncAgentKey, **options: Any) -> Any:
    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.state.grant.name)
        await socket.receive_text()

    return RequireKey(Starlette(routes=[WebSocketRoute("/", socket)]), ak, **options)


@pytest.mark.parametrize("make", [fastapi_socket, asgi_socket])
def test_websockets(make: Make, db: Database, ak: AgentKey) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its HTTP client, which is not used here
        from starlette.testclient import TestClient, WebSocketDenialResponse
    key = ak.create("a", budget_cents=100, scopes=["talk"]).key
    app = make(AsyncAgentKey(db.url), scope="talk", reserve_cents=60, cost=lambda _: 7)
    # In one event loop, as with a server.
    with TestClient(app) as client:
        with client.websocket_connect("/", headers=bearer(key)) as socket:
            assert socket.receive_text() == "default"
            with pytest.raises(WebSocketDenialResponse) as second, client.websocket_connect("/", headers=bearer(key)):
                pass
            assert (second.value.status_code, second.value.json()) == (429, {"error": "budget_exceeded"})
            socket.send_text("enough")

        async def is_recorded() -> bool:
            grant = ak.validate(key)
            return isinstance(grant, Grant) and (grant.budget_used_cents, grant.budget_reserved_cents) == (7, 0)

        asyncio.run(eventually("what it cost is recorded", is_recorded))
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/"):
            pass
        assert (denied.value.status_code, denied.value.json()) == (401, {"error": "Missing API key"})
