"""A channel for each event loop, shared by all clients."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, get_running_loop

from . import _native

_channels: dict[AbstractEventLoop, _native.Channel] = {}


def channel_of_running_loop() -> _native.Channel:
    loop = get_running_loop()
    channel = _channels.get(loop)
    return _open(loop) if channel is None else channel


def _open(loop: AbstractEventLoop) -> _native.Channel:
    for other in list(_channels):
        if other.is_closed():
            _channels.pop(other, None)
    channel = _channels[loop] = _native.Channel(loop.create_future)
    loop.add_reader(channel.fileno(), channel.deliver)
    return channel


def _leave_parent_behind() -> None:
    _native.after_fork_in_child()
    _channels.clear()


os.register_at_fork(after_in_child=_leave_parent_behind)
