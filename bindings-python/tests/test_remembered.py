"""Rows that a client remembers: the next look-up sees what changed."""

from __future__ import annotations

import asyncio

import pytest

from pyagentkey import AsyncAgentKey, Denial

from .support import Database


async def look_ups(db: Database, remembered_keys: int) -> int:
    """How many rows were found unchanged, before one was changed by hand."""
    async with AsyncAgentKey(db.url, remembered_keys=remembered_keys) as ak:
        keys = [await ak.create(account_id="a", budget_cents=100) for _ in range(6)]

        async def all_keys() -> list[object]:
            return list(await asyncio.gather(*(ak.validate(created.key) for created in keys)))

        for _ in range(5):
            assert all(await all_keys())
        unchanged = ak.stats().unchanged_keys
        await db.run(f"UPDATE sdk_api_keys SET revoked_at = now() WHERE id = {keys[3].id}")
        results = await all_keys()
        assert isinstance(results[3], Denial) and results[3].reason == "revoked"
        assert sum(map(bool, results)) == 5
        return unchanged


def test_what_changed_is_seen(db: Database) -> None:
    assert asyncio.run(look_ups(db, 10_000)) > 0
    assert asyncio.run(look_ups(db, 0)) == 0


def test_a_count_below_nothing_is_refused(db: Database) -> None:
    with pytest.raises(ValueError, match="remembered_keys"):
        asyncio.run(look_ups(db, -1))
