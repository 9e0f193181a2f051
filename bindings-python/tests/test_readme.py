"""The code of README.md, as written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyagentkey.asgi import KeyRoutes, RequireKey

from .server import bearer, serving
from .support import Database

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def fresh_db() -> Iterator[Database]:
    """What is printed must make its own table."""
    database = Database.create()
    yield database
    database.drop()


def python_in(readme: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)


QUICK_START, BLOCKING, FASTAPI, CAPS, RAISING, DOUBLE = python_in(PROJECT / "README.md")


def printed(db: Database, program: str) -> list[str]:
    command = [sys.executable, "-X", "dev", "-c", program]
    environment = {**os.environ, "DATABASE_URL": db.url}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split()


def test_the_quick_start_is_short_and_does_what_it_says(fresh_db: Database) -> None:
    assert len(QUICK_START.splitlines()) <= 15
    assert python_in(PROJECT.parent / "README.md") == [QUICK_START]
    assert printed(fresh_db, QUICK_START) == ["488"]


def test_the_blocking_client(fresh_db: Database) -> None:
    assert printed(fresh_db, BLOCKING) == ["7", "budget_exceeded", "True"]


def test_caps(fresh_db: Database) -> None:
    assert printed(fresh_db, CAPS) == ["alice@example.com", "12.34", "13", "287", "True", "False"]


def test_raising(fresh_db: Database) -> None:
    assert printed(fresh_db, RAISING) == ["acct_1", "budget_exceeded"]


def test_fastapi(fresh_db: Database) -> None:
    saved = os.environ["DATABASE_URL"]
    os.environ["DATABASE_URL"] = fresh_db.url
    try:
        names: dict[str, object] = {"__name__": "readme"}
        exec(compile(FASTAPI, "README.md", "exec"), names)
    finally:
        os.environ["DATABASE_URL"] = saved
    with serving(names["app"]) as http:
        created = http.post("/signup", json={"email": "a@example.com", "budget_cents": 30}).json()
        answers = [http.get("/search", headers=bearer(created["key"])) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.json().get("remaining_cents") for answer in answers] == [18, 6, None]
    assert answers[0].json()["account"].startswith("signup:")


def test_a_double() -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(DOUBLE, "README.md", "exec"), names)
    app = RequireKey(KeyRoutes(names["FakeAgentKey"](), signup=False), names["FakeAgentKey"](), scope="search")
    with serving(app) as http:
        statuses = [http.get("/sdk-keys/me", headers=bearer(key)).status_code for key in ("ak_good", "ak_bad")]
    assert statuses == [200, 401]


def test_types(tmp_path: Path) -> None:
    files = []
    for n, code in enumerate((QUICK_START, BLOCKING, FASTAPI, CAPS, RAISING, DOUBLE)):
        files.append(tmp_path / f"readme_{n}.py")
        files[-1].write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", *map(str, files)]
    checked = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
