"""A guarded handler and the routes, in FastAPI and in ASGI alone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pyagentkey import AsyncAgentKey, Grant
from pyagentkey.asgi import KeyRoutes, RequireKey, presented_key
from pyagentkey.fastapi import RESPONSES, create_router, require_key
from pyagentkey.fastapi import presented_key as fastapi_presented_key

Key = Annotated[str, Depends(fastapi_presented_key)]


def fastapi_app(ak: AsyncAgentKey, *, options: Any = (), **guard: Any) -> FastAPI:
    app = FastAPI()
    guarded = Depends(require_key(ak, **guard))

    @app.get("/", responses=RESPONSES)
    async def handler(key: Key, caller: Grant = guarded) -> dict[str, Any]:
        return {"id": caller.id, "name": caller.name, "key": key}

    app.include_router(create_router(ak, **{"signup": True, **dict(options)}))
    return app


def asgi_app(ak: AsyncAgentKey, *, options: Any = (), **guard: Any) -> Any:
    async def handler(request: Request) -> JSONResponse:
        caller = request.state.grant
        return JSONResponse({"id": caller.id, "name": caller.name, "key": presented_key(request.scope)})

    guarded = RequireKey(Starlette(routes=[Route("/", handler)]), ak, **guard)
    routes = KeyRoutes(ak, **{"signup": True, **dict(options)})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (guarded if scope["type"] == "lifespan" or scope["path"] == "/" else routes)(scope, receive, send)

    return app
