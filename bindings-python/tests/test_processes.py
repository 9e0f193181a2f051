"""Forks, interpreter exit, and workers of servers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from pyagentkey import AgentKey, AsyncAgentKey

from .support import Database, eventually, python, run

FORKS = 4


def charge(ak: AgentKey, key: str, results: Any) -> None:
    granted = sum(bool(ak.track_usage(key, 1)) for _ in range(50))

    async def more() -> int:
        async with AsyncAgentKey(os.environ["TEST_URL"]) as other:
            return sum(map(bool, await asyncio.gather(*(other.track_usage(key, 1) for _ in range(50)))))

    results.put(granted + asyncio.run(more()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_client_survives_a_fork(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_URL", db.url)
    context = multiprocessing.get_context("fork")
    with AgentKey(db.url) as ak:
        # In use before the fork: the runtime, the pool and its connections exist.
        key = ak.create("acct", budget_cents=450).key
        run(_use(db.url))
        results = context.Queue()
        children = [context.Process(target=charge, args=(ak, key, results)) for _ in range(FORKS)]
        for child in children:
            child.start()
        mine = sum(bool(ak.track_usage(key, 1)) for _ in range(100))
        theirs = sum(results.get(timeout=60) for _ in children)
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        assert mine + theirs == 450
        assert ak.validate(key).reason == "budget_exceeded"


def test_a_fork_that_runs_no_hooks_is_noticed(db: Database) -> None:
    """As uWSGI forks its workers: `os.register_at_fork` hears nothing of it."""
    program = """
import asyncio, ctypes, os, sys
from pyagentkey import AgentKey, AsyncAgentKey
ak, other = AgentKey(sys.argv[1]), AsyncAgentKey(sys.argv[1])
key = ak.create("acct", budget_cents=300).key
loop = asyncio.new_event_loop()
async def charge():
    return sum(map(bool, await asyncio.gather(*(other.track_usage(key, 1) for _ in range(25)))))
loop.run_until_complete(charge())
# Keeps the interpreter's lock, which the child then has.
fork = ctypes.PyDLL(None).fork
children = []
for _ in range(4):
    child = fork()
    if child == 0:
        granted = sum(bool(ak.track_usage(key, 1)) for _ in range(25)) + asyncio.run(charge())
        os._exit(granted)
    children.append(child)
granted = sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
mine = loop.run_until_complete(charge())
loop.close()
print(granted, mine, ak.validate(key).budget_used_cents)
"""
    ended = python(program, db.url)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "200 25 250\n", "")


UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(UWSGI is None, reason="uwsgi is not installed")
def test_uwsgi_with_its_defaults(db: Database, tmp_path: Path) -> None:
    with AgentKey(db.url) as ak:
        created = ak.create("acct", budget_cents=1000)
    (tmp_path / "app.py").write_text(
        f"""
from pyagentkey import AgentKey
ak = AgentKey({db.url!r}, timeout=5)
assert ak.validate({created.key!r})  # in the master, before it forks
def application(environ, start_response):
    start_response("200 OK", [])
    return [str(bool(ak.track_usage({created.key!r}, 1))).encode()]
"""
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert UWSGI is not None
    options = ["--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2", "--wsgi-file", "app.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([UWSGI, *options], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        assert run(_answers_of(f"http://127.0.0.1:{port}")) == {"True"}
        assert server.poll() is None
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


async def _answers_of(url: str) -> set[str]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:

        async def answers() -> bool:
            try:
                return (await http.get("/")).text == "True"
            except httpx.TransportError:
                return False

        await eventually("it listens", answers)
        return {(await http.get("/")).text for _ in range(20)}


def charge_spawned(url: str, key: str, results: Any) -> None:
    with AgentKey(url) as ak:
        charge(ak, key, results)


def test_spawned_processes_share_a_budget(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_URL", db.url)
    context = multiprocessing.get_context("spawn")
    with AgentKey(db.url) as ak:
        created = ak.create("acct", budget_cents=150)
        results = context.Queue()
        children = [context.Process(target=charge_spawned, args=(db.url, created.key, results)) for _ in range(2)]
        for child in children:
            child.start()
        assert sum(results.get(timeout=60) for _ in children) == 150
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        assert ak.validate(created.key).reason == "budget_exceeded"


async def _use(url: str) -> None:
    async with AsyncAgentKey(url) as ak:
        await ak.validate("ak_x")


@pytest.mark.parametrize(
    "ending", ["", "ak.close()", "asyncio.run(other.close())", "import os; os.kill(os.getpid(), 2)"]
)
def test_an_interpreter_ends_in_silence(db: Database, ending: str) -> None:
    program = f"""
import asyncio, sys
from pyagentkey import AgentKey, AsyncAgentKey
ak, other = AgentKey(sys.argv[1]), AsyncAgentKey(sys.argv[1])
ak.validate("ak_x")
async def main():
    await other.validate("ak_x")
    waiting = [asyncio.create_task(other.validate("ak_x")) for _ in range(100)]
    await asyncio.sleep(0)  # lets other tasks run once: no time is waited for
asyncio.run(main())
try:
    {ending or "pass"}
except KeyboardInterrupt:
    pass
print("end")
"""
    ended = python(program, db.url)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")


def test_an_interpreter_ends_while_threads_and_loops_wait(db: Database) -> None:
    program = """
import asyncio, sys, threading
from pyagentkey import AgentKey, AsyncAgentKey
ak, other = AgentKey(sys.argv[1]), AsyncAgentKey(sys.argv[1])
def spin():
    while True:
        ak.validate("ak_x")
async def flood():
    while True:
        await asyncio.gather(*(other.validate("ak_x") for _ in range(50)))
for _ in range(4):
    threading.Thread(target=spin, daemon=True).start()
threading.Thread(target=asyncio.run, args=(flood(),), daemon=True).start()
for _ in range(200):
    ak.validate("ak_y")
print("end")
"""
    for _ in range(3):
        ended = python(program, db.url)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")
