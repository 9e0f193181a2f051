"""A channel for each event loop, shared by all clients."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, CancelledError, Future, get_running_loop
from typing import Any

from . import _native
from ._native import Call


class Channel:
    """Calls that one event loop waits for. It is woken once for all the replies that came meanwhile."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._mailbox = _native.Mailbox()
        self._create_future = loop.create_future
        self._waiting: dict[int, Future[Any]] = {}
        loop.add_reader(self._mailbox.fileno(), self.deliver)

    async def run(self, call: Call) -> Any:
        token = self._mailbox.start(call)
        future: Future[Any] = self._create_future()
        self._waiting[token] = future
        try:
            return await future
        except (CancelledError, GeneratorExit):
            if self._waiting.pop(token, None) is not None:
                call.cancel()
            raise

    def deliver(self) -> None:
        """Gives the replies that came to their futures."""
        for token, result, error in self._mailbox.take():
            future = self._waiting.pop(token, None)
            # One that is done is of a task that was cancelled and has not run since.
            if future is None or future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def __len__(self) -> int:
        return len(self._waiting)


_channels: dict[AbstractEventLoop, Channel] = {}
_process = os.getpid()


def channel_of_running_loop() -> Channel:
    loop = get_running_loop()
    # Not a hook of os.register_at_fork: servers that fork by themselves (uWSGI) run none.
    if os.getpid() != _process:
        _leave_parent_behind()
    channel = _channels.get(loop)
    return _open(loop) if channel is None else channel


def _open(loop: AbstractEventLoop) -> Channel:
    for other in list(_channels):
        if other.is_closed():
            _channels.pop(other, None)
    channel = _channels[loop] = Channel(loop)
    return channel


def _leave_parent_behind() -> None:
    global _process  # noqa: PLW0603
    _process = os.getpid()
    _channels.clear()
