"""What ASGI and FastAPI share: they carry between the server, the client and the core, which decides."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import logging
from collections.abc import Awaitable, MutableMapping
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Callable, Literal, Optional, Union

from . import _native
from ._arguments import snake_arguments
from ._async import AsyncAgentKey
from ._data import Result, camel, read
from ._ends import Ends
from ._errors import AgentKeyError
from ._native import Exchange, Response
from ._results import Grant, Reservation

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Client = Any
"""An :class:`AsyncAgentKey`, or a double with those of its methods that are called."""

Amount = Union[int, float, Decimal, dict[str, Any], None]
"""Cents, or one of ``{"usd": ...}``, ``{"cents": ...}`` and ``{"microcents": ...}``; ``None`` is nothing said."""
Estimate = Callable[[Any], Union[Amount, Awaitable[Amount]]]
"""What a request may cost. A request is what the framework calls one (for ASGI alone: its scope)."""
Price = Union[
    Callable[[Any], Union[Amount, Awaitable[Amount]]],
    Callable[[Any, "RequestEnd"], Union[Amount, Awaitable[Amount]]],
]
"""What a request did cost: asked with the request, or with the request and how it ended."""

_log = logging.getLogger("pyagentkey")

METHODS = ("validate", "reserve", "settle", "release", "track_usage", "create", "revoke")


def is_own(ak: Client) -> bool:
    """Whether calls may take the short way. A double, and a client with a method that was replaced, is called by its
    methods."""
    own = [getattr(AsyncAgentKey, name) for name in METHODS]
    return (
        isinstance(ak, AsyncAgentKey)
        and [getattr(type(ak), name) for name in METHODS] == own
        and all(getattr(ak.__dict__[name], TRACED, None) is True for name in ak.__dict__.keys() & set(METHODS))
    )


TRACED = "_agentkey_traced"
"""An attribute of methods that OpenTelemetry's put in the place of a client's: they are its own still."""


class Charging:
    """What a handler says that its request costs."""

    __slots__ = ("_ends", "_exchange", "has_said")

    def __init__(self, exchange: Exchange, ends: Ends) -> None:
        self._exchange = exchange
        self._ends = ends
        self.has_said = False

    def __call__(self, amount: Amount) -> None:
        self._exchange.charge(_json(amount))
        self.has_said = True
        self._ends.begin(self._exchange)


@dataclass
class Admission:
    """A request that passed."""

    exchange: Exchange
    grant: Grant
    headers: list[tuple[str, str]]
    charging: Charging


@dataclass(frozen=True)
class RequestEnd:
    """How a request ended, for the ``cost`` of it."""

    status: Optional[int]
    """The status that was sent; ``None`` if none was."""
    completed: bool
    """Whether the whole response was sent: false of one that its client left, or that broke off."""
    grant: Grant
    """The caller's key."""


@dataclass
class Ending:
    """How a request ended."""

    began: bool = True
    """Whether the request was handed on."""
    routed: Optional[Literal["nowhere", "path", "handler"]] = None
    """How far the framework's routes led it: to none of them, to one of its path, or of its method, too."""
    status: Optional[int] = None
    threw: bool = False
    completed: bool = False
    """Whether the whole response was sent."""


class Door:
    """Holds an amount for a request before it is served, and records what was spent after."""

    def __init__(
        self,
        ak: Client,
        *,
        scope: Optional[str],
        budget_headers: bool,
        estimate: Union[Amount, Estimate],
        price: Optional[Price],
        ttl: str,
        if_expired: str,
        bill_errors: bool,
        exceeded_status: int,
        api_key_header: Optional[str],
    ) -> None:
        self._ak = ak
        self._estimate = estimate
        self._price = price
        self._hears_end = price is not None and _takes_two(price)
        self.scopes = [] if scope is None else [scope]
        self._options: dict[str, Any] = {
            "holds": estimate is not None,
            "prices": price is not None,
            "ttl": ttl,
            "if_expired": if_expired,
            "bill_errors": bill_errors,
            "budget_headers": budget_headers,
            "exceeded_status": exceeded_status,
            "api_key_header": api_key_header,
        }
        self._guard = _native.Guard(scopes=self.scopes, **self._options)
        self.api_key_header = self._guard.api_key_header
        self._tasks: set[asyncio.Task[None]] = set()
        # The client waits for them when it is closed. A double does not.
        self._has_end = estimate is not None or price is not None
        self._ends = ak._ends if isinstance(ak, AsyncAgentKey) else Ends(None)

    def asking_for(self, scopes: list[str]) -> Door:
        """The same door, for keys that may do all of ``scopes``."""
        other = copy.copy(self)
        other.scopes = scopes
        other._guard = _native.Guard(scopes=scopes, **self._options)
        return other

    async def admit(self, scope: Scope, request: Any) -> Union[Admission, Response]:
        """A pass, or the response to send instead. What the application's own function raises is its own."""
        authorization, api_key = credentials(scope, self.api_key_header)
        scope[_API_KEY_HEADER] = self.api_key_header
        exchange = self._guard.begin(authorization, api_key, not is_own(self._ak))
        told: dict[str, Any] = {}
        while True:
            step = exchange.step()
            if step.kind == "estimate":
                estimate = self._estimate
                exchange.estimated(_json(await _now(estimate(request)) if callable(estimate) else estimate))
            elif step.kind == "call":
                told.update(await make_call(self._ak, exchange))
            elif step.kind == "respond" and step.response is not None:
                return logged(step.response)
            elif step.kind == "pass":
                # A double's results reach the handler as they are.
                grant: Any = told.get("validate", step.grant)
                held = told.get("reserve")
                if held is None and step.reservation is not None:
                    held = read(Reservation, json.loads(step.reservation))
                if self._has_end:
                    self._ends.begin(exchange)
                charging = Charging(exchange, self._ends)
                if isinstance(grant, Grant):
                    grant = grant.holding(held, charging)
                return Admission(exchange, grant, step.headers, charging)
            else:
                raise RuntimeError(f"{step.kind} before the handler")

    async def end(self, admission: Admission, ending: Ending, request: Any) -> None:
        """Records what was spent, in a task of its own: that of a request whose client is gone may be cancelled."""
        exchange = admission.exchange
        exchange.ended(**vars(ending))
        if not (self._has_end or admission.charging.has_said):
            return
        end = RequestEnd(ending.status, ending.completed, admission.grant)
        task = asyncio.create_task(self._record(exchange, request, end))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _record(self, exchange: Exchange, request: Any, end: RequestEnd) -> None:
        """What fails here is for the log: nobody waits for it."""
        try:
            while True:
                step = exchange.step()
                if step.kind == "price":
                    await self._ask_price(exchange, (request, end) if self._hears_end else (request,))
                elif step.kind == "call":
                    await make_call(self._ak, exchange)
                else:
                    return self._ends.recorded(exchange, step.message)
        except Exception as error:
            self._ends.recorded(exchange, f"what a request cost is not recorded: {error!r}")

    async def _ask_price(self, exchange: Exchange, asked: tuple[Any, ...]) -> None:
        price: Any = self._price
        try:
            exchange.priced(_json(await _now(price(*asked))))
        except Exception as error:
            _log.debug("cost failed", exc_info=True)
            exchange.price_failed(f"{type(error).__name__}: {error}")


async def made(ak: Client, exchange: Exchange) -> Response:
    """The response to a visit to the routes."""
    while True:
        step = exchange.step()
        if step.kind == "call":
            await make_call(ak, exchange)
        elif step.response is not None:
            return logged(step.response)
        else:
            raise RuntimeError(f"{step.kind} at the routes")


async def make_call(ak: Client, exchange: Exchange) -> dict[str, Any]:
    """Makes the call that an exchange asks for, which goes on with the answer. What a double answered, by method."""
    try:
        if is_own(ak):
            trace = vars(ak).get(TRACED, nullcontext)
            with trace(exchange):
                await ak._run(ak._client.carry(exchange))
            return {}
        call = json.loads(exchange.call() or "null")
        (method,) = snake_arguments({call["method"]: None})
        result = await _now(getattr(ak, method)(*_positional(call["args"]), **_named(call["args"])))
        exchange.told(json.dumps(_told(result)))
        return {method: result}
    except Exception as error:
        # An answer that came has been taken already.
        if exchange.step().kind == "call":
            exchange.failed(error.code if isinstance(error, AgentKeyError) else None, str(error))
        return {}


def _positional(args: list[Any]) -> list[Any]:
    return [arg for arg in args if not isinstance(arg, dict)]


def _named(args: list[Any]) -> dict[str, Any]:
    return {name: value for arg in args if isinstance(arg, dict) for name, value in snake_arguments(arg).items()}


def _told(value: Any) -> Any:
    """A double's result as JSON has it."""
    if isinstance(value, Result):
        value = value.to_dict()
    if isinstance(value, dict):
        return {camel(name): _told(member) for name, member in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else value


_API_KEY_HEADER = "pyagentkey.api_key_header"


def credentials(scope: Scope, api_key_header: Optional[str]) -> tuple[Optional[str], Optional[str]]:
    """Where a request may present its key: ``Authorization``, and the header that may hold nothing else."""
    api_key = None if api_key_header is None else header(scope, api_key_header.encode("latin-1"))
    return header(scope, b"authorization"), api_key


def presented(scope: Scope, api_key_header: Optional[str] = None) -> Union[str, Response]:
    """The key of a request that is guarded, or the response to one without."""
    return _native.presented_key(*credentials(scope, api_key_header or scope.get(_API_KEY_HEADER)))


def logged(response: Response) -> Response:
    if response.fault is not None:
        _log.error("%s", response.fault)
    return response


def header(scope: Scope, name: bytes) -> Optional[str]:
    """The first header of this name, as Node reads it."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function must be given two arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters) == 2


async def _now(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _json(amount: Any) -> Optional[str]:
    """An amount for the core, which reads it. What JSON has no number for stays visible."""
    if amount is None:
        return None
    if isinstance(amount, dict):
        amount = {name: str(value) if isinstance(value, Decimal) else value for name, value in amount.items()}
    elif isinstance(amount, Decimal):
        # Exactly, which a float is not.
        return format(amount, "f") if amount.is_finite() else json.dumps(str(amount))
    try:
        return json.dumps(amount, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(repr(amount))
