"""Calls that must be awaited. ``if ak.validate(key):`` without ``await`` would admit everybody: a coroutine is true.

The hot calls are a :class:`HotCall`, the others coroutines in an :class:`Awaited`."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Coroutine
from functools import wraps
from typing import Any, Callable, Literal, TypeVar

from ._loops import run
from ._native import Call

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


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

    def __bool__(self) -> Literal[True]:
        return _truth(self.__qualname__.replace("._", "."))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)

    def __repr__(self) -> str:
        return repr(self._coroutine)


class HotCall(Call):
    """The same without a coroutine, which costs as much as the work: ``HotCall(client, key)`` is a look-up,
    ``HotCall(client, key, cents)`` a charge. The native module warns of one that is never awaited."""

    # Not one of its own: the collector of garbage would look at each call.
    __slots__ = ()

    __await__ = run

    def send(self, value: Any) -> Any:
        return self._generator().send(value)

    def throw(self, *error: Any) -> Any:
        return self._generator().throw(*error)

    def close(self) -> None:
        self._generator().close()

    def _generator(self) -> Any:
        """What runs where it is driven by hand. It has the work, but not this object: that would be a circle."""
        if self.driver is None:
            self.driver = run(self.taken())
        return self.driver

    def __bool__(self) -> Literal[True]:
        return _truth(self.__qualname__)

    def __repr__(self) -> str:
        return f"<coroutine object {self.__qualname__}>"


def _truth(method: str) -> Literal[True]:
    """Nobody may ask, but asyncio's repr of a task: it does so since Python 3.12."""
    if sys._getframe(2).f_globals.get("__name__") == "asyncio.base_tasks":
        return True
    raise TypeError(f"{method}() was not awaited, so it has no answer yet: await it")


# asyncio asks whether what it is to run is a coroutine. Type checkers see no ABC in it.
_coroutine: Any = Coroutine
_coroutine.register(Awaited)
_coroutine.register(HotCall)


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

    return is_async(call)


def is_async(function: F) -> F:
    """Marks a function whose answer is awaited. Frameworks ask for it: FastAPI's Depends, mocks."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(function)
    else:  # Python 3.11 and older
        setattr(function, "_is_coroutine", asyncio.coroutines._is_coroutine)  # type: ignore[attr-defined]  # noqa: B010
    return function
