"""Event loops, threads, cancellation."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyagentkey import AgentKey, AsyncAgentKey, CallTimeoutError, _loops

from .support import Database, eventually, run

CHARGES = 10_000


def test_concurrent_calls_share_statements_and_wake_ups(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as ak:
            key = (await ak.create("acct", budget_cents=300)).key
            loop = asyncio.get_running_loop()
            channel = _loops._channels[asyncio.get_running_loop()]
            fileno = channel.mailbox.fileno()
            loop.remove_reader(fileno)
            wake_ups = 0

            def deliver() -> None:
                nonlocal wake_ups
                wake_ups += 1
                channel.deliver()

            loop.add_reader(fileno, deliver)
            before = ak.stats().statements
            results = await asyncio.gather(*(ak.track_usage(key, 1) for _ in range(1000)))
            assert sum(map(bool, results)) == 300
            statements = ak.stats().statements - before
            assert statements <= 20
            assert wake_ups <= statements
            assert len(channel.mailbox) == 0

    run(main())


def test_cancelled_tasks_lose_nothing_of_others(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as ak:
            key = (await ak.create("acct", budget_cents=CHARGES)).key
            tasks = [asyncio.create_task(ak.track_usage(key, 1)) for _ in range(CHARGES)]
            cancelled = tasks[5::10]
            for n, task in enumerate(cancelled):
                # Some before they have begun, some while they wait, some when their answers have come.
                if n % 100 == 0:
                    await asyncio.sleep(0)  # lets other tasks run once: no time is waited for
                task.cancel()
            done, pending = await asyncio.wait(tasks, timeout=60)
            assert not pending
            acknowledged = sum(not task.cancelled() and bool(task.result()) for task in done)
            lost = sum(task.cancelled() for task in done)
            assert acknowledged + lost == CHARGES and 0 < lost <= len(cancelled)
            assert len(_loops._channels[asyncio.get_running_loop()].mailbox) == 0
            await eventually("nothing is under way", lambda: _idle(ak))
            used = int(await db.text("SELECT max(budget_used_cents) FROM sdk_api_keys") or 0)
            assert acknowledged <= used <= acknowledged + lost

    run(main())


async def _idle(ak: AsyncAgentKey) -> bool:
    return ak.stats().pending == 0


def test_a_call_that_was_cancelled_before_it_was_sent_never_is(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url, pool_size=2) as ak:
            created = await ak.create("acct")
            session = await db.session()
            await session.execute("BEGIN")
            await session.execute(f"SELECT 1 FROM sdk_api_keys WHERE id = {created.id} FOR UPDATE")
            # While a statement waits for a key, what else comes for it is not sent.
            sent = [asyncio.create_task(ak.track_usage(created.key, 1)) for _ in range(2)]
            await eventually("they wait", lambda: _waits(db))
            queued = [asyncio.create_task(ak.track_usage(created.key, 100)) for _ in range(10)]
            await asyncio.sleep(0)  # lets other tasks run once: no time is waited for
            for task in queued:
                task.cancel()
            await asyncio.gather(*queued, return_exceptions=True)
            await session.execute("COMMIT")
            await session.close()
            await asyncio.gather(*sent)
            used = await db.text(f"SELECT budget_used_cents FROM sdk_api_keys WHERE id = {created.id}")
            assert used == "2"

    run(main())


def test_a_lock_is_a_timeout_and_not_a_hang(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as maker, AsyncAgentKey(db.url, timeout=0.2) as ak:
            created = await maker.create("acct")
            session = await db.session()
            await session.execute("BEGIN")
            await session.execute(f"SELECT 1 FROM sdk_api_keys WHERE id = {created.id} FOR UPDATE")
            with pytest.raises(CallTimeoutError) as error:
                await ak.track_usage(created.key, 1)
            assert error.value.code == "timeout"
            with AgentKey(db.url, timeout=0.2) as blocking, pytest.raises(CallTimeoutError):
                await asyncio.to_thread(blocking.track_usage, created.key, 1)
            await session.close()

    run(main())


def test_wait_for_and_timeouts_of_the_caller(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as ak:
            created = await ak.create("acct")
            session = await db.session()
            await session.execute("BEGIN")
            await session.execute(f"SELECT 1 FROM sdk_api_keys WHERE id = {created.id} FOR UPDATE")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ak.track_usage(created.key, 1), 0.05)
            assert len(_loops._channels[asyncio.get_running_loop()].mailbox) == 0
            await session.close()
            assert await ak.track_usage(created.key, 1)

    run(main())


def test_many_loops_and_threads_share_a_client(db: Database) -> None:
    ak = AsyncAgentKey(db.url)
    blocking = AgentKey(db.url)
    created = blocking.create("acct", budget_cents=900)
    key = created.key

    async def charge_some() -> int:
        return sum(map(bool, await asyncio.gather(*(ak.track_usage(key, 1) for _ in range(100)))))

    def charge_blocking() -> int:
        return sum(bool(blocking.track_usage(key, 1)) for _ in range(50))

    with ThreadPoolExecutor(12) as threads:
        loops = [threads.submit(asyncio.run, charge_some()) for _ in range(8)]
        others = [threads.submit(charge_blocking) for _ in range(4)]
        granted = sum(future.result(60) for future in [*loops, *others])
    assert granted == 900
    for _ in range(3):
        assert asyncio.run(charge_some()) == 0
    used = asyncio.run(db.text(f"SELECT budget_used_cents FROM sdk_api_keys WHERE id = {created.id}"))
    assert used == "900"
    run(ak.close())
    blocking.close()


def test_closed_loops_are_forgotten(db: Database) -> None:
    ak = AsyncAgentKey(db.url)
    for _ in range(5):
        run(ak.validate("ak_x"))
    assert sum(loop.is_closed() for loop in _loops._channels) <= 1
    run(ak.close())


def test_a_loop_may_end_while_calls_are_under_way(db: Database) -> None:
    ak = AsyncAgentKey(db.url)

    async def main() -> None:
        waiting = [asyncio.create_task(ak.validate("ak_x")) for _ in range(100)]
        await asyncio.sleep(0)  # lets other tasks run once: no time is waited for
        assert not any(task.done() for task in waiting)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())
        gc.collect()
        assert run(ak.validate("ak_x")).reason == "invalid"
        run(ak.close())


def test_other_threads_run_while_a_blocking_call_waits(db: Database) -> None:
    async def main() -> None:
        with AgentKey(db.url) as ak:
            created = ak.create("acct")
            session = await db.session()
            await session.execute("BEGIN")
            await session.execute(f"SELECT 1 FROM sdk_api_keys WHERE id = {created.id} FOR UPDATE")
            charge = threading.Thread(target=ak.track_usage, args=(created.key, 1))
            charge.start()
            # This thread, which frees the other one, could not run if the lock were kept.
            await eventually("the charge waits", lambda: _waits(db))
            await session.execute("COMMIT")
            await session.close()
            charge.join(30)
            assert not charge.is_alive()

    run(main())


async def _waits(db: Database) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return await db.text(waiting) != "0"


def test_uvloop(db: Database) -> None:
    uvloop: Any = pytest.importorskip("uvloop", reason="there is no uvloop for this platform")

    async def main() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        async with AsyncAgentKey(db.url) as ak:
            key = (await ak.create("acct", budget_cents=500)).key
            tasks = [asyncio.create_task(ak.track_usage(key, 1)) for _ in range(1000)]
            await asyncio.sleep(0)  # lets other tasks run once: no time is waited for
            for task in tasks[::10]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(not isinstance(r, BaseException) and bool(r) for r in results) <= 500
            assert (await ak.track_usage(key, 0)).success

    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(main(), 60))
    loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals to oneself differ")
def test_ctrl_c_ends_a_blocking_call(db: Database) -> None:
    import signal

    async def locked() -> Any:
        session = await db.session()
        await session.execute("BEGIN")
        await session.execute("LOCK sdk_api_keys")
        return session

    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(locked())

    def interrupt() -> None:
        try:
            asyncio.run(eventually("the call waits", lambda: _waits(db)))
        finally:
            signal.raise_signal(signal.SIGINT)

    with AgentKey(db.url, timeout=120) as ak:
        interrupting = threading.Thread(target=interrupt)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            interrupting.start()
            ak.validate("ak_x")
        assert time.monotonic() - started < 60
        interrupting.join()
        loop.run_until_complete(session.close())
        assert ak.validate("ak_x").reason == "invalid"
    loop.close()
