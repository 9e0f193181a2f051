"""What only FastAPI has: OpenAPI, scopes of `Security`, handlers of exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.responses import JSONResponse as FastJSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request

from pyagentkey import AgentKey, AsyncAgentKey, Grant
from pyagentkey.asgi import KeyRoutes
from pyagentkey.fastapi import KeyRefused, require_key

from .apps import fastapi_app
from .server import bearer, seen, serving
from .support import Database


@pytest.fixture(scope="module")
def ak(db: Database) -> Iterator[AgentKey]:
    """What the tests themselves ask."""
    with AgentKey(db.url) as client:
        yield client


def test_openapi_tells_of_keys() -> None:
    document = fastapi_app(AsyncAgentKey("postgresql://")).openapi()
    assert document["components"]["securitySchemes"] == {
        "AgentKey": {"type": "http", "scheme": "bearer", "description": "A key"}
    }
    paths = document["paths"]
    guarded = paths["/"]["get"]
    assert guarded["security"] == [{"AgentKey": []}]
    assert {"401", "403", "429", "500"} <= set(guarded["responses"])
    assert set(paths) == {
        "/",
        "/signup",
        "/sdk-keys",
        "/sdk-keys/me",
        "/sdk-keys/{id}",
        "/sdk-keys/increases",
        "/sdk-keys/increases/{id}",
    }
    assert "security" not in paths["/signup"]["post"]
    for path, method in (("/sdk-keys", "post"), ("/sdk-keys/me", "get"), ("/sdk-keys/{id}", "delete")):
        assert paths[path][method]["security"] == [{"AgentKey": []}]


def test_openapi_has_the_routes_as_the_core_describes_them() -> None:
    ak = AsyncAgentKey("postgresql://")
    ours = KeyRoutes(ak, signup=True, manage=True).openapi()["paths"]
    paths = fastapi_app(ak, options={"manage": True}).openapi()["paths"]
    assert set(ours) == set(paths) - {"/"}
    for path, operations in ours.items():
        assert set(operations) == set(paths[path])
        for method, described in operations.items():
            operation = paths[path][method]
            assert set(operation["responses"]) == set(described["responses"])
            assert operation["summary"] == described["summary"]
            assert operation.get("parameters", []) == described.get("parameters", [])
            assert ("requestBody" in operation, "security" in operation) == (
                "requestBody" in described,
                "security" in described,
            )
    kept = paths["/sdk-keys/me"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert "holds" in kept["properties"]["explanation"]["properties"]["limits"]["items"]["properties"]


def test_an_app_may_answer_refusals_itself(db: Database) -> None:
    app = fastapi_app(AsyncAgentKey(db.url))

    @app.exception_handler(KeyRefused)
    async def refuse(_: Request, refused: KeyRefused) -> FastJSONResponse:
        return FastJSONResponse({"mine": refused.detail}, refused.status_code)

    with serving(app) as http:
        assert seen(http.get("/")) == (401, {"mine": {"error": "Missing API key"}})


def test_other_exceptions_of_the_app_stay_its_own(db: Database, ak: AgentKey) -> None:
    key = ak.create("a").key
    app = fastapi_app(AsyncAgentKey(db.url))

    @app.get("/teapot", dependencies=[Depends(require_key(AsyncAgentKey(db.url)))])
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    with serving(app) as http:
        assert seen(http.get("/"))[0] == 401  # which gives the app its handler
        assert seen(http.get("/teapot", headers=bearer(key))) == (418, {"detail": "short and stout"})
        assert seen(http.get("/teapot")) == (401, {"error": "Missing API key"})


def test_security_scopes_are_asked_for(db: Database, ak: AgentKey) -> None:
    client = AsyncAgentKey(db.url)
    guarded = Security(require_key(client, reserve_cents=5), scopes=["read"])
    app = FastAPI()

    @app.get("/read")
    async def read(caller: Grant = guarded) -> Grant:
        return caller

    @app.get("/both", dependencies=[Security(require_key(client, scope="read", reserve_cents=5), scopes=["write"])])
    async def both() -> None: ...

    reader, writer = (ak.create("a", scopes=[scope], budget_cents=100).key for scope in ("read", "write"))
    editor = ak.create("a", scopes=["read", "write"], budget_cents=9).key
    with serving(app) as http:
        answer = http.get("/read", headers=bearer(reader))
        # A grant is a response as it is.
        assert (answer.status_code, answer.json()["scopes"]) == (200, ["read"])
        refused = {"error": "insufficient_scope", "required": "read", "available": ["write"]}
        assert seen(http.get("/read", headers=bearer(writer))) == (403, refused)
        assert seen(http.get("/both", headers=bearer(writer))) == (403, refused)
        refused = {"error": "insufficient_scope", "required": "write", "available": ["read"]}
        assert seen(http.get("/both", headers=bearer(reader))) == (403, refused)
        # Their estimate is held as well.
        assert [http.get("/both", headers=bearer(editor)).status_code for _ in range(2)] == [200, 429]


def test_an_application_s_own_handlers_come_first(db: Database) -> None:
    def app_with(exception: Any) -> FastAPI:
        app = FastAPI()

        @app.exception_handler(exception)
        async def handle(_: Request, error: HTTPException) -> FastJSONResponse:
            return FastJSONResponse({"mine": error.detail}, 400)

        @app.get("/", dependencies=[Depends(require_key(AsyncAgentKey(db.url)))])
        async def handler() -> None: ...

        return app

    for exception in (HTTPException, StarletteHTTPException, KeyRefused, 401):
        with serving(app_with(exception)) as http:
            assert seen(http.get("/")) == (400, {"mine": {"error": "Missing API key"}})
    with serving(app_with(404)) as http:
        assert seen(http.get("/")) == (401, {"error": "Missing API key"})
