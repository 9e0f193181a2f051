"""A shared case under way: a database, a client, kept values, and the steps. tests/cases/README.md is the format."""

from __future__ import annotations

import asyncio
import inspect
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional, Union

from pyagentkey import AgentKey, AgentKeyError, AsyncAgentKey, Grant, Subject, expiry_from_duration

from ..support import Database
from .expect import Comparison, Kept, Problem, fill, members, resolve

Client = Union[AgentKey, AsyncAgentKey]

EXPECTATIONS = ["expect", "exactly", "error", "as"]
POOL_SIZE = 6


def snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


def is_only_exact(name: str, members: dict[str, Any]) -> bool:
    """Whether it is the exact form of an amount that is also told in cents."""
    return name.endswith("Microcents") and name.replace("Microcents", "Cents") in members


def plain(value: Any, is_exact: bool) -> Any:
    """A result as the other languages write it in JSON; what was spent and remains to the micro-cent only of an exact
    client."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, dict):
        camel = [snake_name.split("_") for snake_name in value]
        names = [first + "".join(part.title() for part in rest) for first, *rest in camel]
        members = {name: plain(member, is_exact) for name, member in zip(names, value.values())}
        return {name: member for name, member in members.items() if is_exact or not is_only_exact(name, members)}
    if isinstance(value, datetime):
        assert value.tzinfo is timezone.utc
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, (list, tuple)):
        return [plain(item, is_exact) for item in value]
    return value


def arguments_of(members: dict[str, Any]) -> dict[str, Any]:
    """The members of a step as keyword arguments. What belongs to one object in other languages does not here."""
    options: dict[str, Any] = {}
    for name, value in members.items():
        if name in ("with", "filter"):
            options.update(arguments_of(value))
        else:
            options[f"{name}_" if name in ("from", "for") else snake(name)] = python_of(name, value)
    return options


def python_of(name: str, value: Any) -> Any:
    """A value in Python's own type."""
    if name in ("from", "to"):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    if name == "costCents" and isinstance(value, dict):
        return float(value["$number"])
    if name == "parent" and isinstance(value, dict):
        return Subject(value["subject"])
    return value


def scopes_of(result: Any) -> Any:
    if not isinstance(result, dict) or "scopes" not in result:
        raise Problem("a result without scopes")
    return result["scopes"]


def construct(ak: Any, options: dict[str, Any]) -> None:
    """Only the options' check counts."""
    type(ak)("postgresql://", **options)


# What is no method of a client, or takes its arguments otherwise. Every other step is passed to the method of its name.
SPECIAL: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "create": lambda ak, a: ak.create(**{"account_id": None, **arguments_of(a)}),
    "pruneEvents": lambda ak, a: ak.prune_events(timedelta(seconds=a["olderThanSeconds"])),
    "hasScope": lambda ak, a: ak.has_scope(Grant(id=0, scopes=scopes_of(a["result"])), a["scope"]),
    "expiryFromDuration": lambda _, a: expiry_from_duration(a["duration"]),
    "construct": lambda ak, a: construct(ak, client_options(a["with"])),
}


def call_of(ak: Any, step: str, members: dict[str, Any]) -> Any:
    if step in SPECIAL:
        return SPECIAL[step](ak, members)
    method = getattr(ak, snake(step), None)
    if method is None:
        raise Problem(f"unknown step {step!r}")
    return method(**arguments_of(members))


def client_options(fields: dict[str, Any]) -> dict[str, Any]:
    options = {snake(name): value for name, value in fields.items()}
    if options.get("accepted_periods") == "dayAndMonth":
        options["accepted_periods"] = "day_and_month"
    return options


class Session:
    def __init__(self, db: Database, make: type[Client], table: str, options: dict[str, Any]) -> None:
        self._db = db
        self._table = table
        self._open: Callable[[], Client] = lambda: make(db.url, pool_size=POOL_SIZE, **client_options(options))
        self._ak = self._open()
        self._is_exact = options.get("rounding") == "exact"
        self._kept: Kept = {}
        self._results: dict[str, Any] = {}
        self._met = 0

    async def _call_client(self, call: Callable[[], Any]) -> Any:
        """Blocking calls run in threads, so that those made together run at once."""
        if isinstance(self._ak, AsyncAgentKey):
            result = call()
            return await result if inspect.isawaitable(result) else result
        return await asyncio.to_thread(call)

    async def migrate(self) -> None:
        await self._call_client(self._ak.migrate)

    async def close(self) -> None:
        await self._call_client(self._ak.close)

    async def run(self, steps: list[dict[str, Any]]) -> None:
        await self._steps(steps, "")
        if self._met == 0:
            raise Problem("the case expects nothing")

    async def _steps(self, steps: list[dict[str, Any]], within: str) -> None:
        for n, step in enumerate(steps, 1):
            try:
                await self._step(step, f"{within}{n}")
            except Exception as error:
                text = str(error) if isinstance(error, Problem) else repr(error)
                if not text.startswith("step "):
                    text = f"step {within}{n} ({step.get('do')}):\n{text}"
                raise Problem(text) from error

    async def _step(self, step: dict[str, Any], number: str) -> None:
        kind = step.get("do")
        if kind == "sql":
            await self._sql(members(step, ["do", "run"], ["note", "rows"]))
        elif kind == "query":
            await self._query(members(step, ["do", "sql"], ["note", "expect", "as", "eventually"]))
        elif kind == "together":
            await self._together(members(step, ["do", "steps"], ["note", "times", "counts"]))
        elif kind == "unchanged":
            before = await self._snapshot()
            await self._steps(members(step, ["do", "steps"], ["note"])["steps"], f"{number}.")
            after = await self._snapshot()
            if before != after:
                raise Problem(f"  rows were written, before:\n{before}\n  after:\n{after}")
            self._met += 1
        elif kind == "reopen":
            members(step, ["do"], ["note"])
            await self._reopen()
        else:
            await self._meet(step, await self._call(step))

    async def _call(self, step: dict[str, Any]) -> dict[str, Any]:
        arguments = {name: value for name, value in step.items() if name not in ("do", "note", *EXPECTATIONS)}
        resolved = {name: resolve(value, self._kept) for name, value in arguments.items()}
        try:
            result = await self._call_client(lambda: call_of(self._ak, step["do"], resolved))
        except AgentKeyError as error:
            return {"error": {"code": error.code, "message": error.message}}
        if step["do"] == "hasScope" and isinstance(arguments["result"], str):
            # The same of the object that validate answered.
            whole = self._results[arguments["result"][1:]]
            assert self._ak.has_scope(whole, resolved["scope"]) is whole.has_scope(resolved["scope"]) is result
        if "as" in step:
            self._results[step["as"]] = result
        return {"result": plain(result, self._is_exact)}

    async def _meet(self, step: dict[str, Any], outcome: dict[str, Any]) -> None:
        if not any(name in step for name in EXPECTATIONS):
            raise Problem("  a call without an expectation")
        if "error" in step and any(name in step for name in ("expect", "exactly", "as")):
            raise Problem("  an error and a result are expected")
        if "error" in outcome:
            if "error" not in step:
                raise Problem(f"  failed: {outcome['error']}")
            return await self._compare(step["error"], outcome["error"], False)
        if "error" in step:
            raise Problem(f"  expected an error, got {outcome['result']}")
        if "expect" in step:
            await self._compare(step["expect"], outcome["result"], False)
        if "exactly" in step:
            await self._compare(step["exactly"], outcome["result"], True)
        if "as" in step:
            self._kept[step["as"]] = outcome["result"]

    async def _compare(self, expected: Any, actual: Any, whole: bool) -> None:
        comparison = Comparison(resolve(expected, self._kept), actual, whole)
        for at, condition, value in comparison.conditions:
            sql = fill(condition, self._table, self._kept, [value])
            if await self._db.text(f"SELECT ({sql})::boolean") != "true":
                comparison.differ(at, f"that {condition}", value)
        if comparison.differences:
            raise Problem("\n".join([*comparison.differences, f"  the whole: {actual}"]))
        self._met += 1

    async def _sql(self, step: dict[str, Any]) -> None:
        sql = fill(step["run"], self._table, self._kept)
        affected = await self._db.run(sql)
        if affected != step.get("rows", 1):
            raise Problem(f"  affected {affected} rows: {sql}")

    async def _query(self, step: dict[str, Any]) -> None:
        if "expect" not in step and "as" not in step:
            raise Problem("  a query without an expectation")
        sql = fill(step["sql"], self._table, self._kept)
        end = time.monotonic() + 10
        while True:
            found = await self._db.text(sql)
            try:
                if "expect" in step:
                    await self._compare(step["expect"], found, False)
                break
            except Problem:
                if step.get("eventually") is not True or time.monotonic() > end:
                    raise
                await asyncio.sleep(0.005)  # between two looks at a condition, whose time is bounded
        if "as" in step:
            self._kept[step["as"]] = found

    async def _together(self, step: dict[str, Any]) -> None:
        counts: Optional[list[Any]] = step.get("counts")
        calls = step["steps"] * step.get("times", 1)
        outcomes = await asyncio.gather(*(self._call(call) for call in calls))
        for call, outcome in zip(calls, outcomes):
            # Without an expectation of its own a result is only counted.
            if counts is None or any(name in call for name in ("expect", "exactly", "error")):
                await self._meet(call, outcome)
        if counts is None:
            return
        left = [outcome.get("result", outcome) for outcome in outcomes]
        for entry in counts:
            expected = resolve(members(entry, ["of", "count"], [])["of"], self._kept)
            others = [result for result in left if self._differs(expected, result)]
            if len(left) - len(others) != entry["count"]:
                raise Problem(f"  expected {entry['count']} of {expected}, got {len(left) - len(others)} of {left}")
            left = others
        if left:
            raise Problem(f"  not counted: {left}")
        self._met += 1

    @staticmethod
    def _differs(expected: Any, result: Any) -> bool:
        comparison = Comparison(expected, result, False)
        return bool(comparison.differences or comparison.conditions)

    async def _snapshot(self) -> list[str]:
        """Every row, with the version that it is of."""
        await self._reopen()
        row = "k.ctid::text || ' ' || k.xmin::text || ' ' || k::text"
        return await self._db.texts(f"SELECT {row} FROM {self._table} k ORDER BY 1")

    async def _reopen(self) -> None:
        await self.close()
        self._ak = self._open()
