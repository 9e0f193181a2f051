"""The code of docs/alarms.md, as written there."""

from __future__ import annotations

import asyncio
import re
import textwrap
from typing import Any

from pyagentkey import AgentKey, AsyncAgentKey

from .support import ROOT, Database
from .support import run as run_async
from .test_alarms import SECRET, Receiver, receiver

__all__ = ["receiver"]

PAGE = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
THRESHOLDS, NOTICES, FOLLOWING, WEBHOOKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

EXPIRES_SOON = "UPDATE sdk_api_keys SET created_at = now() - interval '9 days', expires_at = now() + interval '2 days'"


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "alarms.md", "exec"), names)
    return names


def example(code: str, names: dict[str, Any]) -> Any:
    """Code that awaits, as a function."""
    source = f"async def example():\n{textwrap.indent(code, '    ')}"
    return run(source, **names)["example"]


def test_the_options(empty_db: Database) -> None:
    with run(THRESHOLDS, AgentKey=AgentKey, dsn=empty_db.url)["ak"] as ak:
        ak.migrate()
        created = ak.create("a", budget_cents=10)
        ak.track_usage(created.key, 8)
        alarms = ak.events(after=0, alarms=True)
        assert [alarm.metadata["threshold"] for alarm in alarms] == [0.5, 0.8]
    asyncio.run(empty_db.run(EXPIRES_SOON))
    with run(NOTICES, AgentKey=AgentKey, dsn=empty_db.url)["ak"] as ak:
        assert "expiring" in [alarm.kind for alarm in ak.events(after=0, alarms=True)]


def test_they_are_heard_and_delivered(empty_db: Database, receiver: Receiver) -> None:
    run_async(heard_and_delivered(empty_db, receiver))


async def heard_and_delivered(db: Database, receiver: Receiver) -> None:
    printed: list[tuple[Any, ...]] = []

    async def until_heard(ak: AsyncAgentKey, names: dict[str, Any]) -> None:
        # Both begin with what comes from now on, whenever that is.
        while not (printed and receiver.got):
            created = await ak.create("a", budget_cents=10)
            await ak.track_usage(created.key, 5)
            await asyncio.sleep(0.05)  # between two looks at a condition, whose time is bounded
        names["running"] = False

    async with AsyncAgentKey(db.url, thresholds=[0.5]) as ak:
        await ak.migrate()
        names = {"ak": ak, "asyncio": asyncio, "url": receiver.url, "secret": SECRET, "running": True}
        following = example(FOLLOWING, {**names, "print": lambda *said: printed.append(said)})
        delivering = example(WEBHOOKS, names)
        tasks = [asyncio.create_task(following()), asyncio.create_task(delivering())]
        await asyncio.wait_for(until_heard(ak, delivering.__globals__), 60)
        await tasks[1]
    await tasks[0]
    assert "threshold" in [kind for _, kind, _ in printed]
    assert '"agentkey.threshold"' in receiver.got[0][1].replace(" ", "")
