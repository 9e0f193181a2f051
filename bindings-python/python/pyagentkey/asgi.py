"""For every ASGI framework (Starlette, Litestar, Quart, ...), and what :mod:`pyagentkey.fastapi` is made of.

>>> from pyagentkey.asgi import KeyRoutes, RequireKey
>>> def starlette_app(ak: AsyncAgentKey) -> Starlette:
...     async def search(request: Request) -> JSONResponse:
...         return JSONResponse({"account": request.state.grant.account_id})
...
...     protected = RequireKey(Starlette(routes=[Route("/", search)]), ak, scope="search")
...     return Starlette(routes=[Mount("/search", protected), Mount("/", KeyRoutes(ak, signup=False))])
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable
from typing import Any, Literal, Optional, Union
from urllib.parse import quote

from . import _native
from ._arguments import texts
from ._door import (
    App,
    Client,
    Door,
    Ending,
    Estimate,
    Message,
    Price,
    Receive,
    RequestEnd,
    Scope,
    Send,
    credentials,
    is_own,
    made,
    presented,
)
from ._native import Response, Routes

__all__ = ["KeyRoutes", "RequestEnd", "RequireKey", "presented_key"]

_log = logging.getLogger("pyagentkey")


SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403
POLICY_VIOLATION = 1008


class RequireKey:
    """Lets requests and WebSockets with a live key pass to ``app`` that has budget left and may do ``scope``. The grant
    is then ``request.state.grant``."""

    def __init__(
        self,
        app: App,
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
    ) -> None:
        """
        :param reserve_cents: what a request may cost, or a function of its ASGI scope: held before the app runs,
            settled when its response has ended. A request that does not fit gets a 429
        :param cost: a function of the ASGI scope, or of it and the :class:`RequestEnd`, that says what it did cost:
            cents, or one of ``{"usd": ...}``, ``{"cents": ...}`` and ``{"microcents": ...}``; without it that is
            ``reserve_cents``. Without ``reserve_cents`` nothing is held, and the cost is recorded whatever the budget
        :param reserve_ttl: how long an amount is held at most; a stream that takes longer extends
            ``request.state.grant.reservation``
        :param if_expired: what an amount is worth that nobody settles in time, for the process was killed: given back,
            or recorded as spent (``settle``)
        :param bill_errors: records the estimate also of requests that end with an error (400 and above, an exception)
        :param exceeded_status: what a request without budget is answered: 429, which the clients of model vendors
            repeat by themselves, or 402
        :param api_key_header: a header that may hold the key, such as ``x-api-key``; it counts where ``Authorization``
            has no bearer token
        """
        self._app = app
        self._door = Door(
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"RequireKey guards HTTP and WebSockets, not {scope['type']}")
        admission = await self._door.admit(scope, scope)
        if isinstance(admission, Response):
            return await refuse(scope, receive, send, admission)
        scope.setdefault("state", {})["grant"] = admission.grant
        extra = encoded(admission.headers)
        ending = Ending()

        async def observed(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                ending.status = message.get("status", SWITCHING_PROTOCOLS)
                if extra:
                    message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)
            if message["type"] == "websocket.close":
                # Before it was accepted, that is a refusal.
                ending.status = ending.status or FORBIDDEN
                ending.completed = True
            elif message["type"].endswith("http.response.body") and not message.get("more_body", False):
                ending.completed = True

        try:
            await self._app(scope, receive, observed)
        except Exception:
            ending.threw = True
            raise
        finally:
            ending.routed = "path" if "endpoint" in scope else "nowhere"
            await self._door.end(admission, ending, scope)


class KeyRoutes:
    """An app of the self-serve routes ``POST /signup``, ``GET /sdk-keys/me``, ``POST /sdk-keys``,
    ``DELETE /sdk-keys/{id}``, ``POST`` and ``GET /sdk-keys/increases`` and ``POST /sdk-keys/increases/{id}``, and with
    ``manage`` those for the keys below the caller's, relative to where it is mounted."""

    def __init__(
        self,
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
    ) -> None:
        """
        :param signup: whether ``POST /signup`` is there: anybody gets a key. By default it is, as in the original, with
            a warning where ``signup_budget`` is missing, for such keys have no limit; ``True`` says that this is meant
        :param signup_scopes: the scopes that a signup may ask for, and gets if it asks for none; none if not given
        :param signup_rate_limit: how often one client address may sign up: so many an hour, or ``(times, seconds)``;
            all processes count together in the database; each for itself until the table is migrated
        :param signup_account: whose keys signups are: each its own account, or (anyone can claim it) the address
        :param signup_max_expires_in: the longest that a signup's key may live
        :param signup_budget: cents and period that a signup may spend, and does if it names no budget
        :param revoke_policy: which keys a caller may revoke: all of its account, or only itself and its descendants
        :param manage: whether a caller may manage the keys below its own: ``GET /sdk-keys``,
            ``PATCH /sdk-keys/{id}``, and ``POST /sdk-keys/{id}/rotate``, ``/disable`` and ``/enable``
        :param api_key_header: a header that may hold the key, as of :class:`RequireKey`
        """
        if isinstance(signup_rate_limit, int):
            signup_rate_limit = (signup_rate_limit, 3600)
        self._ak = ak
        self._routes = Routes(
            signup=signup,
            signup_scopes=texts("signup_scopes", signup_scopes),
            require_email_for_signup=require_email_for_signup,
            signup_rate_limit=signup_rate_limit,
            signup_account=signup_account,
            signup_max_expires_in=signup_max_expires_in,
            signup_budget=signup_budget,
            revoke_policy=revoke_policy,
            manage=manage,
            api_key_header=api_key_header,
        )
        if self._routes.opens_signup_unasked:
            warnings.warn(
                "POST /signup gives anybody a key without a limit: "
                "give a signup_budget, or signup=False, or signup=True",
                stacklevel=2,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"KeyRoutes serves HTTP, not {scope['type']}")
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        await self.serve(path, scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI description of these routes."""
        description: dict[str, Any] = json.loads(self._routes.openapi())
        return description

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request whose path, without the prefix of the routes, is ``path``."""
        client = scope.get("client")
        query: bytes = scope.get("query_string", b"")
        exchange = self._routes.visit(
            scope["method"],
            f"{quote(path)}?{query.decode('latin-1')}",
            *credentials(scope, self._routes.api_key_header),
            await read(receive),
            client[0] if client else None,
            not is_own(self._ak),
        )
        response = await made(self._ak, exchange)
        await respond(send, response.status, response.headers, response.body)


def presented_key(scope: Scope) -> str:
    """The key that a guarded request presented, for charging it."""
    key = presented(scope)
    if isinstance(key, Response):
        raise RuntimeError("The request presented no key: guard it first")
    return key


async def read(receive: Receive) -> bytes:
    """The whole body; of one that is too long, as much as shows it."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > _native.MOST_BODY_BYTES or not message.get("more_body", False):
            return bytes(body)


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def refuse(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Answers a request, or a WebSocket that is not accepted: as the response says where the server can, else 403."""
    if scope["type"] == "http":
        return await respond(send, response.status, response.headers, response.body)
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        return await respond(send, response.status, response.headers, response.body, "websocket.http.response")
    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})


async def respond(
    send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes, kind: str = "http.response"
) -> None:
    length = ("Content-Length", str(len(body)))
    await send({"type": f"{kind}.start", "status": status, "headers": encoded([*headers, length])})
    await send({"type": f"{kind}.body", "body": body})
