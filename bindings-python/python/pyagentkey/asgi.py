"""For every ASGI framework (Starlette, Litestar, Quart, ...), and what :mod:`pyagentkey.fastapi` is made of.

>>> from pyagentkey.asgi import KeyRoutes, RequireKey
>>> def starlette_app(ak: AsyncAgentKey) -> Starlette:
...     async def search(request: Request) -> JSONResponse:
...         return JSONResponse({"account": request.state.grant.account_id})
...
...     protected = RequireKey(Starlette(routes=[Route("/", search)]), ak, scope="search")
...     return Starlette(routes=[Mount("/search", protected), Mount("/", KeyRoutes(ak))])
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Iterable, MutableMapping
from typing import Any, Callable, Literal, Optional, Union
from urllib.parse import quote

from . import _native
from ._async import AsyncAgentKey
from ._native import Grant, Guard, Pass, Response, Routes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 100 * 1024
"""The longest body that is read."""

_log = logging.getLogger("pyagentkey")


Cost = Callable[[Any], Union[int, float, Awaitable[Union[int, float]]]]
"""Cents of a request, which is what the framework calls one (for ASGI alone: its scope)."""


class RequireKey:
    """Lets requests with a live key pass to ``app`` that has budget left and may do ``scope``. The grant is then
    ``request.state.grant``."""

    def __init__(
        self,
        app: App,
        ak: AsyncAgentKey,
        *,
        scope: Optional[str] = None,
        budget_headers: bool = False,
        reserve_cents: Union[int, float, Cost, None] = None,
        cost: Optional[Cost] = None,
        reserve_ttl: str = "10m",
    ) -> None:
        """
        :param reserve_cents: what a request may cost: held before the app runs, settled when its response has ended:
            sent, failed, or left by its client. A request that does not fit gets a 429
        :param cost: what it did cost; without it that is ``reserve_cents``. Without ``reserve_cents`` nothing is held,
            and the cost is recorded whatever the budget
        :param reserve_ttl: how long an amount is held at most; a stream that takes longer extends
            ``request.state.grant.reservation``
        """
        self._app = app
        self._spending = Spending(ak, reserve_cents, cost, reserve_ttl)
        self._guard = Guard(scope=scope, budget_headers=budget_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            raise RuntimeError(f"RequireKey guards HTTP, not {scope['type']}")
        admission = await self._spending.admit(self._guard, scope, scope)
        if isinstance(admission, Response):
            return await respond(send, admission.status, admission.headers, admission.body)
        scope.setdefault("state", {})["grant"] = admission.grant
        extra = encoded(admission.headers)

        async def send_with_headers(message: Message) -> None:
            if extra and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            await self._spending.finish(admission.grant, scope, scope)


class Spending:
    """Holds an amount for a request before it is served, and records what was spent after."""

    def __init__(
        self, ak: AsyncAgentKey, reserve_cents: Union[int, float, Cost, None], cost: Optional[Cost], ttl: str
    ) -> None:
        self._ak = ak
        self._reserve_cents = reserve_cents
        self._cost = cost
        self._ttl = ttl
        self._tasks: set[asyncio.Task[None]] = set()

    async def admit(self, guard: Guard, scope: Scope, request: Any) -> Union[Pass, Response]:
        """A pass, or the response to send instead."""
        cents = self._reserve_cents
        if callable(cents):
            cents = await _now(cents(request))
            scope.setdefault("state", {})[_ESTIMATE] = cents
        authorization = header(scope, b"authorization")
        admission = await self._ak._run(self._ak._client.admit(guard, authorization, cents, self._ttl))
        return admission if isinstance(admission, Pass) else logged(admission)

    async def finish(self, grant: Grant, scope: Scope, request: Any) -> None:
        """Records what was spent, in a task of its own: that of a request whose client is gone may be cancelled."""
        if self._reserve_cents is None and self._cost is None:
            return
        task = asyncio.create_task(self._record(grant, scope, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _record(self, grant: Grant, scope: Scope, request: Any) -> None:
        """What fails here is for the log: nobody waits for it."""
        try:
            estimate = 0 if self._reserve_cents is None else self._reserve_cents
            if callable(estimate):
                estimate = scope["state"][_ESTIMATE]
            cents = estimate if self._cost is None else await self._spent(request, estimate)
            if grant.reservation is None:
                await self._ak.track_usage(presented_key(scope), cents, overrun="record")
            elif not (settled := await self._ak.settle(grant.reservation.reservation_id, cents)):
                _log.error("a reservation was not settled: %s", settled.reason)
        except Exception:
            _log.exception("what a request cost is not recorded")

    async def _spent(self, request: Any, estimate: Union[int, float]) -> Union[int, float]:
        """What the application says; the estimate counts where that is no amount."""
        try:
            assert self._cost is not None
            cents = await _now(self._cost(request))
            if isinstance(cents, (int, float)) and not isinstance(cents, bool) and math.isfinite(cents):
                return cents
            raise TypeError(f"cost is no number: {cents!r}")
        except Exception:
            _log.exception("cost failed, %s cents count", estimate)
            return estimate


_ESTIMATE = "pyagentkey.estimate"


async def _now(value: Union[int, float, Awaitable[Union[int, float]]]) -> Union[int, float]:
    return await value if inspect.isawaitable(value) else value


class KeyRoutes:
    """An app of the self-serve routes ``POST /signup``, ``GET /sdk-keys/me``, ``POST /sdk-keys`` and
    ``DELETE /sdk-keys/{id}``, relative to where it is mounted."""

    def __init__(
        self,
        ak: AsyncAgentKey,
        *,
        signup_scopes: Optional[Iterable[str]] = None,
        require_email_for_signup: bool = True,
        signup_rate_limit: Union[int, tuple[int, int], None] = None,
        signup_account: Literal["generated", "email"] = "generated",
        signup_max_expires_in: str = "365d",
        signup_budget: Optional[tuple[int, Optional[str]]] = None,
        revoke_policy: Literal["account", "descendants"] = "account",
    ) -> None:
        """
        :param signup_scopes: the scopes that a signup may ask for, and gets if it asks for none; none if not given
        :param signup_rate_limit: how often one client address may sign up: so many an hour, or ``(times, seconds)``;
            counted by each process
        :param signup_account: whose keys signups are: each its own account, or (anyone can claim it) the address
        :param signup_max_expires_in: the longest that a signup's key may live
        :param signup_budget: cents and period that a signup may spend, and does if it names no budget
        :param revoke_policy: which keys a caller may revoke: all of its account, or only itself and its descendants
        """
        if isinstance(signup_rate_limit, int):
            signup_rate_limit = (signup_rate_limit, 3600)
        self._ak = ak
        self._routes = Routes(
            signup_scopes=signup_scopes,
            require_email_for_signup=require_email_for_signup,
            signup_rate_limit=signup_rate_limit,
            signup_account=signup_account,
            signup_max_expires_in=signup_max_expires_in,
            signup_budget=signup_budget,
            revoke_policy=revoke_policy,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"KeyRoutes serves HTTP, not {scope['type']}")
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        await self.serve(path, scope, receive, send)

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request whose path, without the prefix of the routes, is ``path``."""
        body = await read(receive)
        if body is None:
            return await respond(send, 413, JSON, b'{"error":"The body is too large"}')
        client = scope.get("client")
        call = self._ak._client.serve(
            self._routes,
            scope["method"],
            quote(path),
            header(scope, b"authorization"),
            body,
            client[0] if client else None,
        )
        if call is None:
            return await respond(send, 404, JSON, b'{"error":"Not found"}')
        response = logged(await self._ak._run(call))
        await respond(send, response.status, response.headers, response.body)


JSON = [("Content-Type", "application/json; charset=utf-8")]


def logged(response: Response) -> Response:
    if response.fault is not None:
        _log.error("%s", response.fault)
    return response


def presented_key(scope: Scope) -> str:
    """The key that a guarded request presented, for charging it."""
    key = _native.presented_key(header(scope, b"authorization"))
    if isinstance(key, Response):
        raise RuntimeError("The request presented no key: guard it first")
    return key


def header(scope: Scope, name: bytes) -> Optional[str]:
    """The first header of this name, as Node reads it."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def read(receive: Receive) -> Optional[bytes]:
    """The whole body; ``None`` if there is too much of it."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def respond(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    length = ("Content-Length", str(len(body)))
    await send({"type": "http.response.start", "status": status, "headers": encoded([*headers, length])})
    await send({"type": "http.response.body", "body": body})
