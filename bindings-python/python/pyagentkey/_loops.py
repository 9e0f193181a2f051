"""A channel for each event loop, shared by all clients."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, BaseEventLoop, CancelledError, Future, InvalidStateError, get_running_loop
from collections.abc import Generator
from functools import partial
from types import coroutine
from typing import Any, Callable

from . import _native
from ._background import tell
from ._native import Call


class Channel:
    """Calls that one event loop waits for. It is woken once for all the replies that came meanwhile."""

    __slots__ = ("create_future", "mailbox", "start")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.mailbox = _native.Mailbox()
        self.start = self.mailbox.start
        # As asyncio's own loops make one, without a frame of Python's for each.
        plain = type(loop).create_future is BaseEventLoop.create_future
        self.create_future: Callable[[], Future[Any]] = partial(Future, loop=loop) if plain else loop.create_future
        loop.add_reader(self.mailbox.fileno(), self.deliver)

    def deliver(self) -> None:
        """Gives the replies that came to their futures."""
        for future, result, error in self.mailbox.take():
            try:
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
            except InvalidStateError:
                # Of a task that was cancelled and has not run since.
                continue
        tell()


_channels: dict[AbstractEventLoop, Channel] = {}


def run(call: Call) -> Generator[Any, None, Any]:
    """What awaiting a call does. One generator, without any below it: each costs as much as the work."""
    loop = get_running_loop()
    channel = _channels.get(loop)
    if channel is None:
        channel = _open(loop)
    future = channel.create_future()
    if not channel.start(call, future):
        channel = _open(loop)
        channel.start(call, future)
    try:
        return (yield from future)
    except (CancelledError, GeneratorExit):
        channel.mailbox.cancel(call)
        raise


def _open(loop: AbstractEventLoop) -> Channel:
    for other in list(_channels):
        if other is loop or other.is_closed():
            _channels.pop(other, None)
    channel = _channels[loop] = Channel(loop)
    return channel


@coroutine
def answer_of(call: Call) -> Generator[Any, None, Any]:
    """To be awaited."""
    return (yield from run(call))


os.register_at_fork(after_in_child=_channels.clear)
