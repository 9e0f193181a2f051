"""For FastAPI: ``pip install pyagentkey[fastapi]``.

>>> from typing import Annotated
>>> from fastapi import Depends, FastAPI, HTTPException
>>> from pyagentkey import AsyncAgentKey, Grant
>>> from pyagentkey.fastapi import RESPONSES, create_router, presented_key, require_key
>>> def make_app(ak: AsyncAgentKey) -> FastAPI:
...     app = FastAPI()
...     Caller = Annotated[Grant, Depends(require_key(ak, scope="search"))]
...     Key = Annotated[str, Depends(presented_key)]
...
...     @app.get("/search", responses=RESPONSES)
...     async def search(caller: Caller, key: Key) -> dict[str, str]:
...         if not await ak.track_usage(key, 12):
...             raise HTTPException(429, "budget_exceeded")
...         return {"account": str(caller.account_id)}
...
...     app.include_router(create_router(ak, signup_scopes=["search"]))
...     return app
"""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal, Optional, Union

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect, HTTPConnection

from . import _native, asgi
from ._door import Client, Door, Ending, Estimate, Price, Receive, RequestEnd, Scope, Send, presented
from ._handlers import Guarded, handling, watch
from ._results import Grant

__all__ = ["RESPONSES", "KeyRefused", "RequestEnd", "create_router", "presented_key", "require_key"]

watch()


def _error(description: str) -> dict[str, Any]:
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


Responses = dict[Union[int, str], dict[str, Any]]

RESPONSES: Responses = {
    401: _error("No key was presented, or one that is invalid, revoked, disabled or expired"),
    403: _error("The key lacks the scope"),
    429: _error("The key's budget is used up"),
    500: _error("Keys cannot be checked at the moment"),
}
"""What a guarded route answers besides its own: give it to the route as ``responses=RESPONSES``."""


class KeyRefused(HTTPException):
    """A request that does not pass. It is answered by itself; a handler of your own for this class takes precedence."""

    def __init__(self, response: _native.Response) -> None:
        super().__init__(response.status, json.loads(response.body), dict(response.headers))
        self.body = response.body
        self.response = response


class _Bearer(SecurityBase):
    """How a key is presented, for OpenAPI."""

    def __init__(self, description: str = "A key") -> None:
        self.model = HTTPBearerModel(description=description)
        self.scheme_name = "AgentKey"

    def __call__(self) -> None:
        """Documents only: the routes check the key themselves."""


class _RequireKey(_Bearer, Guarded):
    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door
        self._doors: dict[tuple[str, ...], Door] = {}
        self.api_key_header = door.api_key_header

    def _door_for(self, scopes: list[str]) -> Door:
        """The one that asks for the scopes of ``Security(...)``, too."""
        if not scopes:
            return self._door
        wanted = tuple(dict.fromkeys([*self._door.scopes, *scopes]))
        door = self._doors.get(wanted)
        if door is None:
            door = self._doors[wanted] = self._door.asking_for(list(wanted))
        return door

    # FastAPI runs what comes after the yield when the response has ended: sent, failed, or left by its client.
    async def __call__(  # type: ignore[override]
        self, request: HTTPConnection, response: Response, security_scopes: SecurityScopes
    ) -> AsyncIterator[Grant]:
        """Also of a WebSocket, which is refused before it is accepted."""
        admission = await self._door_for(security_scopes.scopes).admit(request.scope, request)
        if isinstance(admission, _native.Response):
            raise _refusal(request, admission)
        for name, value in admission.headers:
            response.headers[name] = value
        grant = request.state.grant = admission.grant
        ending = Ending(routed="handler")
        if request.scope["type"] == "websocket":
            ending.status = asgi.SWITCHING_PROTOCOLS
        handler = handling(request)
        if handler is not None:
            handler.tell(ending, admission.headers)
        try:
            yield grant
        except HTTPException as error:
            ending.status = error.status_code
            raise
        except ClientDisconnect:
            raise
        except Exception:
            ending.threw = True
            raise
        finally:
            await self._door.end(admission, ending, request)


def require_key(
    ak: Client,
    *,
    scope: Optional[str] = None,
    budget_headers: bool = False,
    reserve_cents: Union[int, float, Estimate, None] = None,
    cost: Optional[Price] = None,
    reserve_ttl: str = "10m",
    if_expired: Literal["release", "settle"] = "release",
    bill_errors: bool = False,
    exceeded_status: int = 429,
    api_key_header: Optional[str] = None,
) -> Any:
    """A dependency, for ``Depends``: the :class:`Grant` of the caller, whose key has budget left and may do ``scope``.
    Other requests are answered 401, 403 or 429, as by every other framework.

    :param budget_headers: puts ``RateLimit`` and ``RateLimit-Policy`` headers for the budget on the response
    :param reserve_cents: what a request may cost (also a function of the request): held before the handler runs,
        settled when its response has ended. A request that does not fit gets a 429
    :param cost: a function of the request, or of it and the :class:`RequestEnd`, that says what it did cost: cents, or
        one of ``{"usd": ...}``, ``{"cents": ...}`` and ``{"microcents": ...}``; without it that is ``reserve_cents``.
        Without ``reserve_cents`` nothing is held, and the cost is recorded whatever the budget
    :param reserve_ttl: how long an amount is held at most; a stream that takes longer extends ``grant.reservation``
    :param if_expired: what an amount is worth that nobody settles in time, for the process was killed: given back,
        or recorded as spent (``settle``)
    :param bill_errors: records the estimate of requests that end with an error (an ``HTTPException``, too) as well
    :param exceeded_status: what a request without budget is answered: 429, which the clients of model vendors repeat by
        themselves, or 402
    :param api_key_header: a header that may hold the key, such as ``x-api-key``; it counts where ``Authorization`` has
        no bearer token
    """
    return _RequireKey(
        Door(
            ak,
            scope=scope,
            budget_headers=budget_headers,
            estimate=reserve_cents,
            price=cost,
            ttl=reserve_ttl,
            if_expired=if_expired,
            bill_errors=bill_errors,
            exceeded_status=exceeded_status,
            api_key_header=api_key_header,
        )
    )


async def presented_key(request: Request) -> str:
    """A dependency, for ``Depends``: the secret of a request that :func:`require_key` guards, for charging it."""
    # Dependencies run in the order of the handler's parameters: the guard may come later.
    route = request.scope.get("route")
    key = presented(request.scope, _api_key_header(getattr(route, "dependant", None)))
    if isinstance(key, _native.Response):
        raise _refusal(request, key)
    return key


def _api_key_header(dependant: Any) -> Optional[str]:
    """Where the guards of a route look for keys besides ``Authorization``."""
    for each in getattr(dependant, "dependencies", ()):
        own = each.call.api_key_header if isinstance(each.call, _RequireKey) else None
        found = own or _api_key_header(each)
        if found is not None:
            return found
    return None


def create_router(
    ak: Client,
    *,
    signup: Optional[bool] = None,
    signup_scopes: Optional[Iterable[str]] = None,
    require_email_for_signup: bool = True,
    signup_rate_limit: Union[int, tuple[int, int], None] = None,
    signup_account: Literal["generated", "email"] = "generated",
    signup_max_expires_in: str = "365d",
    signup_budget: Optional[tuple[int, Optional[str]]] = None,
    revoke_policy: Literal["account", "descendants"] = "account",
    manage: bool = False,
    api_key_header: Optional[str] = None,
) -> APIRouter:
    """The self-serve routes ``POST /signup``, ``GET /sdk-keys/me``, ``POST /sdk-keys``, ``DELETE /sdk-keys/{id}``,
    ``POST`` and ``GET /sdk-keys/increases``, ``POST /sdk-keys/increases/{id}``, and with ``manage`` those for the keys
    below the caller's. The app's OpenAPI description has them. Options as of :class:`pyagentkey.asgi.KeyRoutes`."""
    routes = asgi.KeyRoutes(
        ak,
        signup=signup,
        signup_scopes=signup_scopes,
        require_email_for_signup=require_email_for_signup,
        signup_rate_limit=signup_rate_limit,
        signup_account=signup_account,
        signup_max_expires_in=signup_max_expires_in,
        signup_budget=signup_budget,
        revoke_policy=revoke_policy,
        manage=manage,
        api_key_header=api_key_header,
    )
    router = APIRouter(tags=["keys"])
    description = routes.openapi()
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            _add_route(router, routes, path, method, _inlined(operation, description))
    return router


def _add_route(router: APIRouter, routes: asgi.KeyRoutes, path: str, method: str, operation: dict[str, Any]) -> None:
    async def carry(request: Request) -> Response:
        return _Carried(routes, path.format(**request.path_params), request)

    status = min(operation["responses"])
    described: dict[str, Any] = {key: operation[key] for key in ("parameters", "requestBody") if key in operation}
    router.add_api_route(
        path,
        carry,
        methods=[method.upper()],
        name=operation["operationId"],
        status_code=int(status),
        summary=operation["summary"],
        description=operation.get("description", ""),
        response_description=operation["responses"][status]["description"],
        responses=operation["responses"],
        dependencies=[Depends(_Bearer())] if operation.get("security") else None,
        openapi_extra=described,
    )


def _inlined(part: Any, description: dict[str, Any]) -> Any:
    """The same with what it refers to in its place: a router has no components of its own."""
    if isinstance(part, list):
        return [_inlined(each, description) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        _, _, kind, name = part["$ref"].split("/")
        return _inlined(description["components"][kind][name], description)
    return {name: _inlined(each, description) for name, each in part.items()}


class _Carried(Response):
    """A response that the routes send themselves."""

    def __init__(self, routes: asgi.KeyRoutes, path: str, request: Request) -> None:
        super().__init__()
        self._routes = routes
        self._path = path
        self._receive = request.receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routes.serve(self._path, scope, self._receive, send)


async def _refuse(request: HTTPConnection, error: Exception) -> Optional[Response]:
    if not isinstance(error, KeyRefused):
        raise error
    return _Refusal(error)


class _Refusal(Response):
    def __init__(self, refused: KeyRefused) -> None:
        super().__init__(refused.body, refused.status_code, refused.headers)
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asgi.refuse(scope, receive, send, self._refused.response)


def _refusal(request: HTTPConnection, response: _native.Response) -> KeyRefused:
    """A refusal, for which the app of this request has a handler: a dependency can only raise, and what FastAPI makes
    of an ``HTTPException`` has another body. A handler of the application's own comes first."""
    handlers = request.scope.get("starlette.exception_handlers")
    if handlers is not None:
        of_class, of_status = handlers
        general = {of_class.get(HTTPException), of_class.get(StarletteHTTPException)} - {None, http_exception_handler}
        if not general and response.status not in of_status:
            of_class.setdefault(KeyRefused, _refuse)
    return KeyRefused(response)
