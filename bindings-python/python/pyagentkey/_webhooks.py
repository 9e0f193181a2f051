"""Webhooks: the POSTs that the core wants made, and pauses."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from . import _arguments as arguments

# The core gives a delivery to others after a minute.
_MOST_SECONDS = 15.0
# How often new entries are looked for.
LOOK = 1.0


def known_webhook(name: str, url: str, secrets: Iterable[str], timeout: float) -> dict[str, Any]:
    """What the core knows of a webhook. No message has its address, nor a secret."""
    secrets = [] if isinstance(secrets, str) else list(secrets)
    if not secrets or not all(isinstance(secret, str) for secret in secrets):
        raise TypeError("secrets must be a sequence of str")
    parts = urlsplit(arguments.text("url", url))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("url must be an address with http or https")
    if not 0 < arguments.seconds("timeout", timeout) <= _MOST_SECONDS:
        raise ValueError(f"timeout must be at most {_MOST_SECONDS:g} seconds")
    return {"name": arguments.text("name", name), "secrets": secrets}


async def posted(url: str, deliveries: list[dict[str, Any]], timeout: float) -> list[dict[str, Any]]:
    """How each POST ended."""
    return await asyncio.to_thread(posted_now, url, deliveries, timeout) if deliveries else []


def posted_now(url: str, deliveries: list[dict[str, Any]], timeout: float) -> list[dict[str, Any]]:
    """The same, for threads. A receiver that sends a byte now and then is left to a thread that nobody waits for."""
    ends: list[dict[str, Any]] = [{"error": "timeout"} for _ in deliveries]
    senders = [
        threading.Thread(target=_send, args=(url, delivery, timeout, ends, place), daemon=True)
        for place, delivery in enumerate(deliveries)
    ]
    for sender in senders:
        sender.start()
    deadline = time.monotonic() + timeout
    for sender in senders:
        sender.join(max(0.0, deadline - time.monotonic()))
    return [dict(end) for end in ends]


def _send(url: str, delivery: dict[str, Any], timeout: float, ends: list[dict[str, Any]], place: int) -> None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout)
        try:
            connection.request("POST", path, delivery["body"].encode(), delivery["headers"])
            ends[place] = {"status": connection.getresponse().status}
        finally:
            connection.close()
    except TimeoutError:
        pass
    except (OSError, ValueError, http.client.HTTPException) as error:
        # A message may have the address, which may have a secret.
        ends[place] = {"error": type(error).__name__}


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)  # between two looks at the ledger: `follow` has nothing to wait for


def pause_now(seconds: float) -> None:
    time.sleep(seconds)  # the same, for threads
