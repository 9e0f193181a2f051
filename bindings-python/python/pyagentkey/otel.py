"""OpenTelemetry: metrics of what ``stats()`` says, and a span for each call that looks a key up or moves its budget.

Needs ``pip install "pyagentkey[otel]"``. Nothing of it is loaded otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Callable, Optional, Union

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from ._async import AsyncAgentKey
from ._awaited import Awaited, is_async
from ._door import TRACED
from ._native import Answered, Exchange
from ._results import FamilyStats, Grant, Histogram, Reservation, Stats
from ._sync import AgentKey

Attributes = Mapping[str, Union[str, bool, int, float]]
Client = Union[AgentKey, AsyncAgentKey]

_NAME = "agentkey"
_MICROS = 1_000_000
_TRACED = (
    *("validate", "track_usage", "reserve"),
    *(f"{name}_by_{what}" for name in ("validate", "track_usage", "reserve") for what in ("id", "subject")),
    *("settle", "release", "extend", "refund"),
)


class Instrumentation:
    """What :func:`instrument` has begun."""

    def __init__(self, ak: Client) -> None:
        self._ak: Optional[Client] = ak

    @property
    def ak(self) -> Optional[Client]:
        """The client, until it is over."""
        return self._ak

    def stop(self) -> None:
        """Ends it: no more spans, and no more values of metrics."""
        if self._ak is not None:
            for method in (*_TRACED, TRACED):
                vars(self._ak).pop(method, None)
            self._ak = None


def instrument(
    ak: Client,
    *,
    meter_provider: Optional[MeterProvider] = None,
    tracer_provider: Optional[TracerProvider] = None,
    attributes: Optional[Attributes] = None,
) -> Instrumentation:
    """OpenTelemetry for a client. Call it once the providers are registered. No attribute has a raw key.

    The calls that middlewares and routes make have spans, too.

    :param meter_provider: the global one if not given
    :param tracer_provider: the global one if not given
    :param attributes: of every metric and span of this client: ``{"db.collection.name": "sdk_api_keys"}``
    """
    every: dict[str, Any] = {"db.system.name": "postgresql", **(attributes or {})}
    instrumentation = Instrumentation(ak)
    _observe(metrics.get_meter(_NAME, meter_provider=meter_provider), instrumentation, every)
    tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
    for name in _TRACED:
        operation = name.split("_by_")[0]
        span = partial(_span, tracer, operation, every)
        traced = _traced(getattr(type(ak), name).__get__(ak), name, span, isinstance(ak, AsyncAgentKey))
        setattr(traced, TRACED, True)
        vars(ak)[name] = traced
    vars(ak)[TRACED] = partial(_carried, tracer, every)
    return instrumentation


def _traced(method: Callable[..., Any], name: str, span: Callable[..., Any], is_awaited: bool) -> Callable[..., Any]:
    takes_id = name == "refund" or name.endswith("_by_id")

    def asked(args: tuple[Any, ...], members: dict[str, Any]) -> tuple[Any, Any]:
        key_id = members.get("key_id", args[0] if args else None) if takes_id else None
        return key_id, members.get("metadata")

    if not is_awaited:

        @wraps(method)
        def call(*args: Any, **members: Any) -> Any:
            with span(*asked(args, members)) as note:
                return note(method(*args, **members))

        return call

    async def answer(args: tuple[Any, ...], members: dict[str, Any]) -> Any:
        with span(*asked(args, members)) as note:
            return note(await method(*args, **members))

    @wraps(method)
    def begin(*args: Any, **members: Any) -> Awaited:
        coroutine: Any = answer(args, members)
        coroutine.__name__, coroutine.__qualname__ = name, f"AsyncAgentKey.{name}"
        return Awaited(coroutine)

    return is_async(begin)


@contextmanager
def _span(
    tracer: trace.Tracer, operation: str, every: Mapping[str, Any], key_id: Any, metadata: Any
) -> Iterator[Callable[[Any], Any]]:
    """A span, and what notes the result in it. It is below the caller's; statements are not below it, for calls share
    them."""
    own = {**every, "agentkey.operation": operation}
    span = tracer.start_span(f"agentkey {operation}", kind=SpanKind.CLIENT, attributes=own)
    try:
        if isinstance(key_id, (int, str)):
            span.set_attribute("agentkey.key.id", str(key_id))
        # What the application says of the model and its tokens, by the names of the GenAI conventions.
        for name, value in metadata.items() if isinstance(metadata, dict) else ():
            if str(name).startswith("gen_ai.") and isinstance(value, (str, bool, int, float)):
                span.set_attribute(name, value)
        yield partial(_note, span)
    except BaseException as error:
        code = getattr(error, "code", None)
        span.set_attribute("agentkey.outcome", "error")
        span.set_attribute("error.type", code if isinstance(code, str) else type(error).__qualname__)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()


@contextmanager
def _carried(tracer: trace.Tracer, every: Mapping[str, Any], exchange: Exchange) -> Iterator[None]:
    """A span of the call that a middleware or a route makes."""
    operation = exchange.operation
    if operation not in _TRACED:
        yield
        return
    with _span(tracer, operation, every, None, None) as note:
        yield
        note(exchange.answer)


def _note(span: Span, result: Any) -> Any:
    if isinstance(result, Answered):
        span.set_attribute("agentkey.outcome", "success" if result.refusal is None else "refused")
        if result.refusal is not None:
            span.set_attribute("agentkey.refusal.reason", result.refusal)
        if result.key_id is not None:
            span.set_attribute("agentkey.key.id", result.key_id)
        return result
    reason = getattr(result, "reason", None)
    span.set_attribute("agentkey.outcome", "success" if result else "refused")
    if not result and isinstance(reason, str):
        span.set_attribute("agentkey.refusal.reason", reason)
    grant = result.grant if isinstance(result, Reservation) else result
    if isinstance(grant, Grant):
        span.set_attribute("agentkey.key.id", str(grant.id))
    return result


Values = Iterator[tuple[Union[int, float], dict[str, Any]]]


def _observe(meter: Meter, instrumentation: Instrumentation, every: Mapping[str, Any]) -> None:
    """Counters of ``stats()``. A histogram is given as Prometheus has it: how many values are no greater than each
    bound ``le``."""

    def told(values: Callable[[Stats], Values]) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        def tell(_: CallbackOptions) -> Iterable[Observation]:
            ak = instrumentation.ak
            if ak is not None:
                for value, own in values(ak.stats()):
                    yield Observation(value, {**every, **own})

        return [tell]

    def one(name: str) -> Callable[[Stats], Values]:
        return lambda stats: iter([(getattr(stats, name), {})])

    counter = meter.create_observable_counter
    meter.create_observable_up_down_counter(
        "agentkey.calls.pending", told(one("pending")), "{call}", "Calls that wait or are under way"
    )
    counter("agentkey.calls", told(_calls), "{call}", "Calls by what became of them")
    for name, member, unit, about in (
        ("agentkey.statement.retries", "retries", "{statement}", "Statements that were tried again"),
        ("agentkey.busy_rows", "busy_rows", "{row}", "How often a row was found locked by somebody else"),
        (
            "agentkey.statement.given_up",
            "given_up_statements",
            "{statement}",
            "Statements that took longer than their callers wait",
        ),
        (
            "agentkey.touches.failed",
            "failed_touches",
            "{statement}",
            "Background writes of last_used_at that failed",
        ),
    ):
        counter(name, told(one(member)), unit, about)
    for name, member, unit, per, about in (
        ("agentkey.statement.batch_size", "batch_sizes", "{call}", 1, "Calls that shared a statement"),
        ("agentkey.call.wait", "wait_micros", "s", _MICROS, "Time that a call waited for a statement"),
        ("agentkey.statement.duration", "statement_micros", "s", _MICROS, "Time that a statement took"),
    ):
        counter(f"{name}.bucket", told(_families(member, per, _buckets)), "{value}", f"{about}: how many up to le")
        counter(f"{name}.count", told(_families(member, per, _count)), "{value}", f"{about}: how many")
        counter(f"{name}.sum", told(_families(member, per, _sum)), unit, f"{about}: all together")


def _calls(stats: Stats) -> Values:
    for call in stats.calls:
        own = {"agentkey.operation": call.operation, "agentkey.outcome": call.outcome}
        if call.reason is not None:
            own["error.type" if call.outcome == "error" else "agentkey.refusal.reason"] = call.reason
        yield call.count, own


def _families(member: str, per: int, values: Callable[[Histogram, int], Values]) -> Callable[[Stats], Values]:
    def of_all(stats: Stats) -> Values:
        for family in stats.families:
            for value, own in values(_histogram(family, member), per):
                yield value, {"agentkey.family": family.family, **own}

    return of_all


def _histogram(family: FamilyStats, member: str) -> Histogram:
    histogram: Histogram = getattr(family, member)
    return histogram


def _buckets(histogram: Histogram, per: int) -> Values:
    below = 0
    bounds = [f"{bound / per:g}" for bound in histogram.bounds]
    for bound, count in zip([*bounds, "+Inf"], histogram.counts):
        below += count
        yield below, {"le": bound}


def _count(histogram: Histogram, _: int) -> Values:
    yield sum(histogram.counts), {}


def _sum(histogram: Histogram, per: int) -> Values:
    yield histogram.sum / per if per > 1 else histogram.sum, {}
