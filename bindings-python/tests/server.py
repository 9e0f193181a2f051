"""Apps under a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import uvicorn


@contextmanager
def serving(app: Any) -> Iterator[httpx.Client]:
    """An HTTP client of an app that uvicorn serves, in a thread and an event loop of its own."""
    # Requests that come before the server accepts them wait in the socket.
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    thread = Thread(target=asyncio.run, args=(server.serve([listening]),))
    thread.start()
    # With a bound of idle connections httpcore closes one that another thread was just given.
    limits = httpx.Limits(max_keepalive_connections=None)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=30, limits=limits) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def seen(response: httpx.Response) -> tuple[int, Any]:
    assert response.headers["content-type"].startswith("application/json")
    assert int(response.headers["content-length"]) == len(response.content)
    return response.status_code, response.json()
