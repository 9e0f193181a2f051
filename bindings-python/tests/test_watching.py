"""What a client shows of itself: counters, OpenTelemetry, faults that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from pyagentkey import AgentKey, AsyncAgentKey, Stats
from pyagentkey.asgi import KeyRoutes, RequireKey
from pyagentkey.otel import instrument

from .support import Database, eventually

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OF last_used_at ON sdk_api_keys FOR EACH ROW EXECUTE FUNCTION refuse()
"""


class Telemetry:
    """The real SDK, in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        data = self.reader.get_metrics_data()
        found = []
        for resource in data.resource_metrics if data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        found += [(dict(point.attributes or {}), point.value) for point in metric.data.data_points]  # type: ignore[union-attr]
        return found


def test_counters_say_what_became_of_calls(db: Database) -> None:
    with AgentKey(db.url) as ak:
        assert ak.stats() == Stats(0, 0, 0, 0, 0, 0, 0, [], [])
        key = ak.create(account_id="a", budget_cents=5).key
        assert ak.track_usage(key, 3)
        assert not ak.track_usage(key, 3)
        stats = ak.stats()
    calls = {(call.operation, call.outcome, call.reason): call.count for call in stats.calls}
    assert calls[("track_usage", "success", None)] == 1
    assert calls[("track_usage", "refused", "budget_exceeded")] == 1
    families = {family.family: family for family in stats.families}
    sizes = families["charge"].batch_sizes
    assert len(sizes.counts) == len(sizes.bounds) + 1
    assert sum(sizes.counts) >= 2 and families["charge"].statement_micros.sum > 0


async def calls_of_doors(ak: AsyncAgentKey, telemetry: Telemetry, key: str) -> None:
    """Spans of the calls that a middleware and the routes make. A client that is watched is no double."""
    app = Starlette(
        routes=[
            Mount("/paid", RequireKey(Starlette(routes=[Route("/", answer)]), ak, reserve_cents=5, cost=lambda _: 2)),
            Mount("/", KeyRoutes(ak, signup=True, manage=True, signup_rate_limit=1)),
        ]
    )
    before = len(telemetry.spans())
    held = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        with telemetry.tracers.get_tracer("app").start_as_current_span("request") as request:
            assert (await http.get("/paid/", headers=held)).status_code == 200
            assert (await http.get("/paid/", headers={"Authorization": "Bearer ak_none"})).status_code == 401
            me = await http.get("/sdk-keys/me", headers=held)
            assert me.json()["explanation"]["allowed"] is True
            assert (await http.get("/sdk-keys", headers=held)).status_code == 200
            # Counted by the database, as without it.
            assert [(await http.post("/signup", json={"email": "a@b"})).status_code for _ in range(2)] == [201, 429]
    *spans, outer = telemetry.spans()[before:]
    assert outer.name == "request"
    assert all(span.parent and span.parent.span_id == request.get_span_context().span_id for span in spans)
    told = [dict(span.attributes or {}) for span in spans]
    names = ["reserve", "settle", "reserve", "validate", "validate"]
    assert [each["agentkey.operation"] for each in told] == names
    assert [each["agentkey.outcome"] for each in told] == ["success", "success", "refused", "success", "success"]
    assert told[2]["agentkey.refusal.reason"] == "invalid_key"
    key_id = told[3]["agentkey.key.id"]
    assert told[0]["agentkey.key.id"] == key_id and "agentkey.key.id" not in told[2]
    assert key not in "".join(span.to_json() for span in spans)


async def answer(_: Request) -> JSONResponse:
    return JSONResponse({})


def test_spans_and_metrics(db: Database) -> None:
    asyncio.run(spans_and_metrics(db))


async def spans_and_metrics(db: Database) -> None:
    telemetry = Telemetry()
    async with AsyncAgentKey(db.url) as ak:
        created = await ak.create(account_id="a", budget_cents=100)
        instrumentation = instrument(
            ak,
            meter_provider=telemetry.meters,
            tracer_provider=telemetry.tracers,
            attributes={"db.collection.name": "sdk_api_keys"},
        )
        with telemetry.tracers.get_tracer("app").start_as_current_span("request"):
            assert await ak.validate(created.key)
        held = await ak.reserve(created.key, 50)
        assert held
        model = {"gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 12, "other": 1}
        assert await ak.track_usage_by_id(created.id, 1, metadata=model)
        assert await ak.settle(held.reservation_id, 7)
        assert not await ak.track_usage(created.key, 500)
        with pytest.raises(ValueError, match="Invalid duration: soon"):
            await ak.reserve(created.key, 1, ttl="soon")
        forgotten = ak.validate(created.key)
        with pytest.raises(TypeError, match=r"^AsyncAgentKey\.validate\(\) was not awaited"):
            bool(forgotten)
        forgotten.close()
        one, outer, *others = telemetry.spans()
        assert (one.name, one.kind.name) == ("agentkey validate", "CLIENT")
        assert one.parent == outer.context
        assert dict(one.attributes or {}) == {
            "db.system.name": "postgresql",
            "db.collection.name": "sdk_api_keys",
            "agentkey.operation": "validate",
            "agentkey.outcome": "success",
            "agentkey.key.id": str(created.id),
        }
        told = [dict(span.attributes or {}) for span in others]
        assert [each["agentkey.operation"] for each in told][:3] == ["reserve", "track_usage", "settle"]
        assert told[0]["agentkey.key.id"] == told[1]["agentkey.key.id"] == str(created.id)
        assert (told[1]["gen_ai.request.model"], told[1]["gen_ai.usage.input_tokens"]) == ("m-1", 12)
        assert "other" not in told[1]
        assert (told[3]["agentkey.outcome"], told[3]["agentkey.refusal.reason"]) == ("refused", "budget_exceeded")
        assert told[4]["agentkey.outcome"] == "error" and told[4]["error.type"]
        assert others[4].status.status_code.name == "ERROR"
        assert created.key not in "".join(span.to_json() for span in telemetry.spans())

        calls = telemetry.points("agentkey.calls")
        refused = [value for own, value in calls if own.get("agentkey.refusal.reason") == "budget_exceeded"]
        assert refused == [1]
        assert all(own["db.collection.name"] == "sdk_api_keys" for own, _ in calls)
        buckets = [
            (own["le"], value)
            for own, value in telemetry.points("agentkey.statement.duration.bucket")
            if own["agentkey.family"] == "validate"
        ]
        count = [
            v
            for own, v in telemetry.points("agentkey.statement.duration.count")
            if own["agentkey.family"] == "validate"
        ]
        assert buckets[0][0] == "0.0001" and buckets[-1] == ("+Inf", count[0])
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)

        await calls_of_doors(ak, telemetry, created.key)

        instrumentation.stop()
        before = len(telemetry.spans())
        assert await ak.validate(created.key)
        assert len(telemetry.spans()) == before
        assert telemetry.points("agentkey.calls") == []


def test_nothing_of_it_is_loaded_unasked() -> None:
    program = "import sys, pyagentkey; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)


async def use_until_told(ak: AsyncAgentKey, key: str, told: list[str]) -> None:
    async def is_told() -> bool:
        assert await ak.validate(key)
        return bool(told)

    await eventually("it is told", is_told)


def test_what_nobody_waits_for_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="pyagentkey")
    db = Database.create()
    try:
        for_loops: list[str] = []
        for_threads: list[str] = []
        with AgentKey(db.url, touch_interval_seconds=0, on_error=for_threads.append) as ak:
            ak.migrate()
            key = ak.create(account_id="a").key
            asyncio.run(db.run(REFUSE))
            assert ak.validate(key)
        # What comes when all is answered is told by `close`.
        assert len(for_threads) == 1 and for_threads[0].startswith("last_used_at was not written")

        async def loop() -> None:
            async with AsyncAgentKey(db.url, touch_interval_seconds=0, on_error=for_loops.append) as ak:
                await use_until_told(ak, key, for_loops)

        asyncio.run(loop())
        assert len(for_loops) == 1 and for_loops[0].startswith("last_used_at was not written")
        assert [record.message for record in caplog.records] == for_threads + for_loops
    finally:
        db.drop()
