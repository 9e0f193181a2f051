from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyagentkey import AgentKey

from .support import Database, Postgres


@pytest.fixture(scope="module")
def db() -> Iterator[Database]:
    """A database with a migrated table."""
    database = Database.create()
    with AgentKey(database.url) as ak:
        ak.migrate()
    yield database
    database.drop()


@pytest.fixture(scope="module")
def empty_db() -> Iterator[Database]:
    database = Database.create()
    yield database
    database.drop()


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A Postgres of one test, which it may stop."""
    server = Postgres()
    yield server
    server.do("crash")
