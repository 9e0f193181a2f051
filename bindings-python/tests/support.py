"""What the tests share: a database of their own, and running coroutines."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Optional, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

T = TypeVar("T")

ROOT = Path(__file__).parents[2]


def server_url() -> str:
    url = os.environ.get("DATABASE_URL")
    assert url, "DATABASE_URL is not set: run `make test-python`, or `tests/postgres.sh run -- pytest`"
    return url


class Database:
    """A database of one test file, which `drop` removes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = urlunsplit(urlsplit(server_url())._replace(path=f"/{name}"))

    @classmethod
    def create(cls) -> Database:
        database = cls(f"agentkey_test_{secrets.token_hex(8)}")
        asyncio.run(_run(server_url(), f"CREATE DATABASE {database.name}"))
        return database

    def drop(self) -> None:
        asyncio.run(_run(server_url(), f"DROP DATABASE {self.name} WITH (FORCE)"))

    async def run(self, sql: str) -> int:
        """Runs SQL; how many rows the last statement affected."""
        return await _run(self.url, sql)

    async def text(self, sql: str) -> Optional[str]:
        """The first column of the first row as text."""
        session = await asyncpg.connect(self.url, statement_cache_size=0)
        try:
            value = await session.fetchval(f"SELECT q.value::text FROM ({sql}) AS q(value)")
            return None if value is None else str(value)
        finally:
            await session.close()

    async def texts(self, sql: str) -> list[str]:
        """The first column of all rows."""
        session = await asyncpg.connect(self.url, statement_cache_size=0)
        try:
            return [row[0] for row in await session.fetch(sql)]
        finally:
            await session.close()

    async def session(self) -> Any:
        return await asyncpg.connect(self.url, statement_cache_size=0)


class Postgres:
    """A Postgres of one test, which may be stopped and started."""

    def __init__(self) -> None:
        base = Path(os.environ.get("AGENTKEY_PG_RUN", "/tmp"))
        self._directory = base / f"agentkey-test-{secrets.token_hex(8)}"
        self.url = self.do("start")

    def do(self, command: str) -> str:
        launcher = [str(ROOT / "tests" / "postgres.sh"), command, str(self._directory)]
        return subprocess.run(launcher, capture_output=True, text=True, check=True).stdout.strip()


async def _run(url: str, sql: str) -> int:
    session = await asyncpg.connect(url, statement_cache_size=0)
    try:
        status: str = await session.execute(sql)
        last = status.split()[-1:]
        return int(last[0]) if last and last[0].isdigit() else 0
    finally:
        await session.close()


async def eventually(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a condition of the world, up to a bound that no healthy machine reaches."""
    end = time.monotonic() + 30
    while not await condition():
        assert time.monotonic() < end, f"still not the case: {what}"
        await asyncio.sleep(0.002)  # between two looks at a condition, whose time is bounded


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine; nothing may hang."""

    async def bounded() -> T:
        return await asyncio.wait_for(main, 120)

    return asyncio.run(bounded())


def python(program: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Runs a program in a Python of its own that turns every warning into output, and leaves."""
    command = [sys.executable, "-X", "dev", "-W", "always", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
