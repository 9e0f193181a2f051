"""Faults that nobody waits for. Threads of the runtime never call Python, so Python asks when answers come."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from ._base import Base

_clients: list[ref[Base]] = []


def watch(client: Base) -> None:
    """Tells of this client's, as long as it lives."""
    _clients.append(ref(client, _clients.remove))


def tell() -> None:
    """Tells each application of its own."""
    for watched in tuple(_clients):
        client = watched()
        if client is not None:
            client._tell()
