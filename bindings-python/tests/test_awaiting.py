"""A call that is not awaited admits nobody, and asyncio takes it as any coroutine."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import warnings
from typing import Any

import pytest

from pyagentkey import AgentKey, AsyncAgentKey, Denial, RefusedError

from .support import Database, run

METHODS = [name for name, method in vars(AsyncAgentKey).items() if not name.startswith("_") and callable(method)]
# What is iterated is not awaited.
STREAMS = ["follow"]
CALLS = [name for name in METHODS if name not in STREAMS]


def test_the_truth_of_what_is_not_awaited_cannot_be_asked(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as ak:
            for ask in (bool, lambda call: not call, lambda call: call and "admitted"):
                call = ak.validate("ak_x")
                with pytest.raises(TypeError, match=r"AsyncAgentKey\.validate\(\) was not awaited"):
                    ask(call)
                assert await call == Denial("invalid")

    run(main())


@pytest.mark.parametrize("name", CALLS)
def test_every_call_must_be_awaited(db: Database, name: str) -> None:
    method = getattr(AsyncAgentKey(db.url), name)
    needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
    named = {p.name: "1" for p in needed if p.kind is p.KEYWORD_ONLY}
    call = method(*("1" for p in needed if p.name not in named), **named)
    with pytest.raises(TypeError, match="await"):
        bool(call)
    assert inspect.isawaitable(call) and asyncio.iscoroutine(call)
    call.close()


def test_asyncio_takes_it_as_a_coroutine(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as ak:
            no = Denial("invalid")
            assert list(await asyncio.gather(ak.validate("a"), ak.validate("b"))) == [no, no]
            assert await asyncio.create_task(ak.validate("a")) == no
            assert await asyncio.ensure_future(ak.validate("a")) == no
            assert await asyncio.wait_for(ak.validate("a"), 60) == no
            assert await asyncio.shield(ak.validate("a")) == no
            loop = asyncio.get_running_loop()
            threaded = await asyncio.to_thread(asyncio.run_coroutine_threadsafe, ak.validate("a"), loop)
            assert await asyncio.wrap_future(threaded) == no
            task = asyncio.create_task(ak.validate("a"))
            assert "AsyncAgentKey.validate" in repr(task)
            # What repr does in Python 3.12 and later.
            asked = {"__name__": "asyncio.base_tasks", "coro": task.get_coro()}
            assert eval("bool(coro)", asked) is True
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            if sys.version_info >= (3, 11):
                async with asyncio.TaskGroup() as group:
                    grouped = group.create_task(ak.validate("a"))
                assert grouped.result() == no

    run(main())
    ak = AsyncAgentKey(db.url)
    call: Any = ak.validate("a")
    assert asyncio.run(call) == Denial("invalid")
    run(ak.close())


def test_one_that_is_never_awaited_warns(db: Database) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        AsyncAgentKey(db.url).validate("ak_x")  # type: ignore[unused-coroutine]
        gc.collect()
    assert ["AsyncAgentKey.validate' was never awaited" in str(one.message) for one in caught] == [True]


def test_it_is_told_from_a_plain_function() -> None:
    # FastAPI's Depends, and mocks, ask so.
    is_one = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    assert all(is_one(getattr(AsyncAgentKey, name)) for name in CALLS)
    assert all(inspect.isasyncgenfunction(getattr(AsyncAgentKey, name)) for name in STREAMS)
    for name in METHODS:
        asked, blocking = (inspect.signature(getattr(cls, name)) for cls in (AsyncAgentKey, AgentKey))
        assert asked.parameters == blocking.parameters


def test_refusals_can_be_raised(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as ak:
            key = (await ak.create("acct", budget_cents=5)).key
            assert (await ak.validate(key)).or_raise().budget_cents == 5
            assert (await ak.track_usage(key, 5)).or_raise().budget_remaining_cents == 0
            with pytest.raises(RefusedError, match="budget_exceeded") as error:
                (await ak.reserve(key, 1)).or_raise()
            refusal = error.value.refusal
            assert (error.value.reason, bool(refusal)) == ("budget_exceeded", False)
            assert error.value.limit is not None and error.value.limit.budget_cents == 5

    run(main())
    with AgentKey(db.url) as ak:
        with pytest.raises(RefusedError) as error:
            ak.validate("ak_x").or_raise()
        assert error.value.refusal == Denial("invalid") and error.value.limit is None
        with pytest.raises(RefusedError, match="unknown_reservation"):
            ak.settle("nothing", 1).or_raise()
        held = ak.reserve(ak.create("acct").key, 2).or_raise()
        assert ak.settle(held.reservation_id, 1).or_raise().cost_cents == 1
