"""The way to the database: names of it, and why there is no connection."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pyagentkey import AgentKey, AsyncAgentKey, DatabaseError, InvalidInputError, MigrationRequiredError

from .support import Database, Postgres, eventually, run


@pytest.mark.parametrize(
    "dsn",
    ["", "nonsense", "mysql://h/d", "postgresql+asyncpg", "postgresql://h:x/d", "postgresql://h/d?nonsense=1",
     "postgresql://h/d?sslmode=maybe", "postgresql://u:hunter2@h:99999/d",
     "postgresql://u:hunter2@[::1/d", "postgresql://u:p@h?hunter2=x@host/d", "host=h password='hunter2"],
)  # fmt: skip
@pytest.mark.parametrize("make", [AgentKey, AsyncAgentKey])
def test_a_bad_dsn_is_refused_at_once(make: Any, dsn: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^Invalid DSN: ") as error:
        make(dsn)
    assert error.value.code == "invalid_dsn"
    assert "hunter2" not in repr(error.value)


def test_what_is_no_dsn_is_a_type_error() -> None:
    for dsn in (None, 1, b"postgresql://"):
        wrong: Any = dsn
        with pytest.raises(TypeError, match="dsn must be str"):
            AgentKey(wrong)


def test_dsns_as_others_write_them(db: Database) -> None:
    rest = db.url.split("://", 1)[1]
    place = urlsplit(db.url)
    dsns = [
        f"{scheme}://{rest}?sslmode=disable&application_name=app&connect_timeout=5"
        for scheme in ("postgres", "postgresql+asyncpg", "postgresql+psycopg")
    ]
    dsns.append(f"host={place.hostname} port={place.port} user={place.username} dbname={db.name}")
    dsns.append(f"postgresql://{place.username}:a@b/c?d@{place.hostname}:{place.port}/{db.name}")
    dsns.append(f"postgresql://{place.username}@127.0.0.1:1,{place.hostname}:{place.port}/{db.name}")
    for dsn in dsns:
        with AgentKey(dsn, pool_size=1) as ak:
            assert ak.validate("ak_x").reason == "invalid", dsn
    with (
        AgentKey(f"{db.url}?ssl=disable&options=-c%20search_path%3Dnowhere") as ak,
        pytest.raises(MigrationRequiredError),
    ):
        ak.create("acct")
    with AgentKey(f"{db.url}?sslmode=require") as ak, pytest.raises(DatabaseError, match="TLS"):
        ak.validate("ak_x")


def test_objects_that_are_urls(db: Database) -> None:
    place = urlsplit(db.url)
    sqlalchemy: Any = pytest.importorskip("sqlalchemy")
    pydantic: Any = pytest.importorskip("pydantic")
    url = sqlalchemy.URL.create("postgresql+asyncpg", place.username, "a secret/@", place.hostname, place.port, db.name)
    assert "***" in str(url)
    for dsn in (url, pydantic.TypeAdapter(pydantic.PostgresDsn).validate_python(db.url)):
        with AgentKey(dsn) as ak:
            assert ak.validate("ak_x").reason == "invalid"


def test_the_environment_says_the_rest(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    place = urlsplit(db.url)
    for name, value in (
        ("PGHOST", place.hostname),
        ("PGPORT", str(place.port)),
        ("PGUSER", place.username),
        ("PGDATABASE", db.name),
    ):
        monkeypatch.setenv(name, value or "")
    with AgentKey("postgresql://") as ak:
        assert ak.validate("ak_x").reason == "invalid"
    with AgentKey("postgresql:///nowhere") as ak, pytest.raises(DatabaseError) as error:
        ak.validate("ak_x")
    assert error.value.sqlstate == "3D000"


def test_a_refused_connection_says_so_at_once() -> None:
    refused = "postgresql://u:hunter2@127.0.0.1:1/d"

    def check(error: DatabaseError, began: float) -> None:
        assert time.monotonic() - began < 30
        assert "127.0.0.1:1" in str(error) and "refused" in str(error)
        assert error.transient and not error.may_have_been_recorded
        assert "hunter2" not in repr(error)

    with AgentKey(refused, timeout=60) as ak:
        began = time.monotonic()
        with pytest.raises(DatabaseError) as error:
            ak.validate("ak_x")
        check(error.value, began)

    async def main() -> None:
        async with AsyncAgentKey(refused, timeout=60) as other:
            began = time.monotonic()
            with pytest.raises(DatabaseError) as error:
                await other.validate("ak_x")
            check(error.value, began)

    run(main())


def test_a_password_that_changes_is_asked_for(db: Database) -> None:
    asked: list[str] = []

    def password() -> str:
        asked.append("secret")
        if len(asked) > 1:
            raise KeyError("the vault is closed")
        return asked[-1]

    with AgentKey(db.url, password=password) as ak:
        assert asked == []
        for _ in range(3):
            assert ak.validate("ak_x").reason == "invalid"
        assert asked == ["secret"]

    async def main() -> None:
        async with AsyncAgentKey(db.url, password=password) as other:
            with pytest.raises(KeyError, match="the vault is closed"):
                await other.validate("ak_x")

    run(main())
    wrong: Any = lambda: b"secret"  # noqa: E731
    with AgentKey(db.url, password=wrong) as ak, pytest.raises(TypeError):
        ak.validate("ak_x")


def ask_for_passwords(rules: Path) -> None:
    rules.write_text(f"host all rotating 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")


def test_that_password_opens_the_connections(server: Postgres) -> None:
    async def prepare() -> None:
        db.url = server.url
        await db.run("CREATE ROLE rotating LOGIN SUPERUSER PASSWORD 'secret'")
        ask_for_passwords(Path((await db.texts("SHOW hba_file"))[0]))
        await db.run("SELECT pg_reload_conf()")

    db = Database("postgres")
    run(prepare())
    dsn = f"postgresql://rotating@127.0.0.1:{urlsplit(server.url).port}/postgres"

    def is_refused() -> bool:
        with AgentKey(dsn) as ak:
            try:
                ak.migrate()
            except DatabaseError as error:
                return error.sqlstate in ("28P01", "28000")
            return False

    async def asks() -> bool:
        return await asyncio.to_thread(is_refused)

    run(eventually("passwords are asked for", asks))
    with AgentKey(dsn, password=lambda: "secret") as ak:
        ak.migrate()
        assert ak.validate("ak_x").reason == "invalid"
    with AgentKey(dsn, password=lambda: "hunter2") as ak, pytest.raises(DatabaseError) as error:
        ak.validate("ak_x")
    assert error.value.sqlstate == "28P01" and "hunter2" not in repr(error.value)
