"""The behaviour that every language shares: tests/cases of the repository, through both clients."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pyagentkey import AgentKey, AsyncAgentKey

from .cases.expect import Problem, fill, members
from .cases.session import Client, Session
from .support import ROOT, Database

DIRECTORY = ROOT / "tests" / "cases"
FILES = sorted(DIRECTORY.glob("*.json"))
SHARED: dict[str, Any] = {"tables": ["migrated"], "setup": [], "client": {}, "mustFail": False}


def read(file: Path) -> list[dict[str, Any]]:
    whole = members(json.loads(file.read_text()), ["about", "cases"], [*SHARED])
    inherited = {name: whole.get(name, default) for name, default in SHARED.items()}
    return [{**inherited, **members(case, ["name", "steps"], [*SHARED])} for case in whole["cases"]]


async def run_case(db: Database, make: type[Client], case: dict[str, Any], table: Any) -> None:
    name = case["client"].get("tableName", "sdk_api_keys")
    await db.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await db.run(f"ALTER DATABASE {db.name} RESET ALL")
    types = {"id": "SERIAL", "account": "TEXT"} if table == "original" else table
    if isinstance(types, dict):
        members(types, ["id", "account"], [])
        sql = (DIRECTORY / "original.sql").read_text()
        sql = sql.replace("{id}", types["id"]).replace("{account}", types["account"])
        await db.run(fill(sql, name, {}))
    elif types not in ("migrated", "none"):
        raise Problem(f"unknown table {table!r}")
    for sql in case["setup"]:
        await db.run(fill(sql, name, {}))
    # Connects after the setup, which may change settings of the database.
    session = Session(db, make, name, case["client"])
    try:
        if table == "migrated":
            await session.migrate()
        await session.run(case["steps"])
    finally:
        await session.close()


async def run_file(db: Database, make: type[Client], file: Path) -> list[str]:
    failures = []
    for case in read(file):
        for table in case["tables"]:
            try:
                await asyncio.wait_for(run_case(db, make, case, table), 60)
                problem = "it passed, but it must fail" if case["mustFail"] else None
            except Exception as error:
                problem = None if case["mustFail"] else f"{type(error).__name__}: {error}"
            if problem:
                failures.append(f"{case['name']} (table: {table})\n{problem}")
    return failures


def test_there_are_cases() -> None:
    assert FILES


@pytest.mark.parametrize("make", [AsyncAgentKey, AgentKey])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_cases(empty_db: Database, make: type[Client], file: Path) -> None:
    failures = asyncio.run(run_file(empty_db, make, file))
    assert not failures, "\n\n".join(failures)
