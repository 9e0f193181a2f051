"""Requests that were admitted and whose ends are still to be recorded: what was spent must not be lost when the client
is closed first."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Callable, Optional

from ._native import Exchange

_log = logging.getLogger("pyagentkey")


class Ends:
    """Those of one client."""

    def __init__(self, on_error: Optional[Callable[[str], object]]) -> None:
        self._on_error = on_error
        self._open: set[Exchange] = set()
        self._waiting: list[asyncio.Future[None]] = []

    def begin(self, exchange: Exchange) -> None:
        """A request was admitted."""
        self._open.add(exchange)

    def recorded(self, exchange: Exchange, message: Optional[str]) -> None:
        """Its end is recorded, or ``message`` says why not."""
        if exchange not in self._open:
            return  # The client was closed meanwhile, which reported it.
        self._open.discard(exchange)
        self.report(message)
        if not self._open:
            for future in self._waiting:
                future.get_loop().call_soon_threadsafe(_wake, future)
            self._waiting.clear()

    async def wait(self, seconds: float) -> float:
        """Waits for all that are open. What is still open then is reported. How much of the time is left."""
        end = time.monotonic() + seconds
        if self._open:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await asyncio.wait([future], timeout=seconds)
        for exchange in list(self._open):
            self._open.discard(exchange)
            self._abandon(exchange)
        return max(0.0, end - time.monotonic())

    def _abandon(self, exchange: Exchange) -> None:
        """Goes through the end of a request without the application and the database, and reports what that leaves."""
        why = "the client was closed first"
        while True:
            step = exchange.step()
            if step.kind == "pass":
                exchange.ended(began=True, routed=None, status=None, threw=False, completed=False)
            elif step.kind == "price":
                exchange.price_failed(why)
            elif step.kind == "call":
                exchange.failed("closed", why)
            else:
                return self.report(step.message)

    def report(self, message: Optional[str]) -> None:
        """Tells what nobody waits for: the log, and the application's ``on_error``."""
        if message is None:
            return
        _log.error("%s", message)
        if self._on_error is not None:
            try:
                self._on_error(message)
            except Exception:
                _log.exception("on_error failed")


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
