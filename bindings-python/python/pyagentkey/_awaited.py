"""Calls that must be awaited. ``if ak.validate(key):`` without ``await`` would admit everybody: a coroutine is true."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from functools import wraps
from typing import Any, Callable, NoReturn, TypeVar

C = TypeVar("C", bound=type)


class Awaited:
    """A coroutine whose truth cannot be asked. asyncio takes it as the coroutine that it carries: for ``await``,
    ``gather``, ``create_task``, ``wait_for``, ``TaskGroup``. One that is never awaited warns as any other."""

    __slots__ = ("__weakref__", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.__qualname__}() was not awaited, so it has no answer yet: await it")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)

    def __repr__(self) -> str:
        return repr(self._coroutine)


# Type checkers see no ABC in it.
_coroutine: Any = Coroutine
_coroutine.register(Awaited)


def must_be_awaited(cls: C) -> C:
    """Makes calls of all public ``async def`` methods of a class answer :class:`Awaited`."""
    for name, method in list(vars(cls).items()):
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            setattr(cls, name, _wrapped(method))
    return cls


def _wrapped(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Awaited:
        return Awaited(method(*args, **kwargs))

    # Frameworks ask whether to await what a function answers: FastAPI's Depends, mocks.
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(call)
    else:  # Python 3.11 and older
        setattr(call, "_is_coroutine", asyncio.coroutines._is_coroutine)  # type: ignore[attr-defined]  # noqa: B010
    return call
