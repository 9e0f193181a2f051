"""How FastAPI's handlers end. A dependency is told neither whether the handler of its route ran, nor what it answered:
FastAPI makes the function that serves a route in one place, and there the routes with a :class:`Guarded` dependency are
watched, from the first import of :mod:`pyagentkey.fastapi` on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextvars import ContextVar
from typing import Any, Callable, Optional

import fastapi.routing
from fastapi import Request, Response
from starlette.requests import HTTPConnection

from ._door import Ending

Serve = Callable[[Request], Awaitable[Response]]


class Guarded:
    """A dependency whose routes are watched."""


class Handling:
    """One request at a route that is watched."""

    def __init__(self) -> None:
        self.began = False
        self._endings: list[tuple[Ending, list[tuple[str, str]]]] = []

    def tell(self, ending: Ending, headers: list[tuple[str, str]]) -> None:
        """Writes down how the request ends, and puts ``headers`` on its response."""
        ending.began = self.began
        self._endings.append((ending, headers))

    def begin(self) -> None:
        self.began = True
        for ending, _ in self._endings:
            ending.began = True

    def respond(self, response: Response) -> None:
        """The handler answered; what a stream answers comes later."""
        stream = getattr(response, "body_iterator", None)
        for ending, headers in self._endings:
            ending.status = response.status_code
            ending.completed = stream is None
            for name, value in headers:
                response.headers.setdefault(name, value)
        if stream is not None:
            response.body_iterator = self._watched(stream)  # type: ignore[attr-defined]

    async def _watched(self, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for chunk in stream:
            yield chunk
        for ending, _ in self._endings:
            ending.completed = True


_HANDLING = "pyagentkey.handling"
_current: ContextVar[Optional[Handling]] = ContextVar(_HANDLING, default=None)


def handling(request: HTTPConnection) -> Optional[Handling]:
    """What is known of a request's handler; ``None`` where its route is not watched."""
    found: Optional[Handling] = request.scope.get(_HANDLING)
    return found


def watch() -> None:
    """Watches the routes that are made from now on."""
    make = fastapi.routing.get_request_handler
    if getattr(make, "watches", False):
        return

    @functools.wraps(make)
    def get_request_handler(*args: Any, **kwargs: Any) -> Serve:
        dependant = kwargs["dependant"] if "dependant" in kwargs else args[0]
        if not _is_guarded(dependant):
            return make(*args, **kwargs)
        dependant.call = _telling(dependant.call)
        serve = make(*args, **kwargs)

        async def watched(request: Request) -> Response:
            now = request.scope[_HANDLING] = Handling()
            _current.set(now)
            response = await serve(request)
            now.respond(response)
            return response

        return watched

    get_request_handler.watches = True  # type: ignore[attr-defined]
    fastapi.routing.get_request_handler = get_request_handler  # type: ignore[assignment]


def _is_guarded(dependant: Any) -> bool:
    return any(isinstance(each.call, Guarded) or _is_guarded(each) for each in dependant.dependencies)


def _telling(call: Any) -> Any:
    """The same handler, which tells that it runs. FastAPI serves each kind of function in its own way."""
    inner = inspect.unwrap(call)
    if not inspect.isroutine(inner):
        inner = inner.func if isinstance(inner, functools.partial) else type(inner).__call__

    @functools.wraps(call)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        _tell()
        return await call(*args, **kwargs)

    @functools.wraps(call)
    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        _tell()
        async for item in call(*args, **kwargs):
            yield item

    @functools.wraps(call)
    def items(*args: Any, **kwargs: Any) -> Iterator[Any]:
        _tell()
        yield from call(*args, **kwargs)

    @functools.wraps(call)
    def function(*args: Any, **kwargs: Any) -> Any:
        _tell()
        return call(*args, **kwargs)

    if inspect.iscoroutinefunction(inner):
        return coroutine
    if inspect.isasyncgenfunction(inner):
        return stream
    return items if inspect.isgeneratorfunction(inner) else function


def _tell() -> None:
    now = _current.get()
    if now is not None:
        now.begin()
