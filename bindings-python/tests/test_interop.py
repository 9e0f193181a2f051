"""One key, charged by processes of every language at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from pyagentkey import AgentKey

from .server import bearer
from .support import ROOT, Database

BUDGET_CENTS = 6_000
HERE = Path(__file__).parent
NODE = ROOT / "bindings-node" / "dist" / "index.mjs"
AXUM = ROOT / "target" / "release" / "agentkey-example-axum"

# As interop.mjs.
PYTHON = """
import asyncio, os, sys
from pyagentkey import AsyncAgentKey

async def main(key):
    async with AsyncAgentKey(os.environ["DATABASE_URL"]) as ak:
        assert await ak.validate(key)
        print("ready", flush=True)
        sys.stdin.readline()
        granted = 0

        async def charge():
            nonlocal granted
            while await ak.track_usage(key, 1):
                granted += 1

        await asyncio.gather(*(charge() for _ in range(8)))
        print(granted)

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def process(db: Database, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said its first line."""
    environment = {**os.environ, "DATABASE_URL": db.url, "PORT": "0"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def first_line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def charge_here(running: subprocess.Popen[str]) -> int:
    granted, _ = running.communicate("go\n", timeout=60)
    assert running.returncode == 0
    return int(granted)


def charge_over_http(port: str, key: str) -> int:
    def charge(_: int) -> int:
        granted = 0
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer(key), timeout=30) as http:
            while (answer := http.get("/search?limit=1")).status_code == 200:
                granted += 1
        assert (answer.status_code, answer.json()) == (429, {"error": "budget_exceeded"})
        return granted

    with ThreadPoolExecutor(4) as threads:
        return sum(threads.map(charge, range(4)))


@pytest.mark.parametrize("languages", ["python, rust", "python, rust, node"])
def test_a_budget_is_one_for_all(db: Database, languages: str) -> None:
    if not AXUM.exists():
        pytest.skip("the Rust example is not built: `make test-python` builds it")
    if "node" in languages and (not NODE.exists() or shutil.which("node") is None):
        pytest.skip("the Node package is not built: `make test` builds it")
    with ExitStack() as stack, AgentKey(db.url) as ak:
        created = ak.create("acct", scopes=["search"], budget_cents=BUDGET_CENTS)
        threads = stack.enter_context(ThreadPoolExecutor(8))
        rust = stack.enter_context(process(db, str(AXUM)))
        port = first_line(rust).split()[-1]
        others = [stack.enter_context(process(db, sys.executable, "-c", PYTHON, created.key)) for _ in range(2)]
        if "node" in languages:
            others.append(stack.enter_context(process(db, "node", str(HERE / "interop.mjs"), created.key)))
        assert all(first_line(other) == "ready" for other in others)

        shares = [threads.submit(charge_over_http, port, created.key)]
        shares += [threads.submit(charge_here, other) for other in others]
        granted = [share.result(90) for share in shares]
        assert sum(granted) == BUDGET_CENTS and all(granted), granted
        # The server in Rust may record what a request cost after it has answered. Until then that is held.
        while (denial := ak.validate(created.key)) and denial.budget_reserved_cents:
            pass
        assert denial.reason == "budget_exceeded" and denial.limit is not None
        assert denial.limit.used_cents == BUDGET_CENTS
