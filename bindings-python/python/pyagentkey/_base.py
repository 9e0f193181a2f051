"""What both clients share: options, and what needs no database."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Literal, Optional, TypeVar, Union

from . import _background as background
from . import _native
from ._arguments import Dsn, dsn_text, seconds, share, texts, whole
from ._data import Result, read
from ._ends import Ends
from ._results import (
    Denial,
    Discrepancy,
    Event,
    Explanation,
    Extended,
    Grant,
    Increase,
    IncreaseRecorded,
    IncreaseRefusal,
    KeyRecord,
    OpenDelivery,
    Released,
    Reservation,
    ReservationRefusal,
    ReserveRefusal,
    Rotated,
    RotateRefusal,
    ScopeCheck,
    Settlement,
    Stats,
    Usage,
    UsageOfPeriod,
    UsageRefusal,
)

T = TypeVar("T")
R = TypeVar("R", bound=Result)
S = TypeVar("S", bound=Result)

ValidateResult = Union[Grant, Denial]
TrackUsageResult = Union[Usage, UsageRefusal]
ReserveResult = Union[Reservation, ReserveRefusal]
RotateResult = Union[Rotated, RotateRefusal]
IncreaseResult = Union[IncreaseRecorded, IncreaseRefusal]
SettleResult = Union[Settlement, ReservationRefusal]
ReleaseResult = Union[Released, ReservationRefusal]
ExtendResult = Union[Extended, ReservationRefusal]
NamedPeriod = Literal["hour", "day", "week", "month", "year"]
BudgetPeriod = Union[NamedPeriod, str]
"""A named period, or a window of so many minutes, hours or days: ``5m``, ``36h``, ``7d``."""


def outcome(done: type[R], refused: type[S]) -> Callable[[str], Union[R, S]]:
    """Reads an answer that says whether the call did what was asked."""

    def read_either(answer: str) -> Union[R, S]:
        data = json.loads(answer)
        return read(done, data) if data["success"] else read(refused, data)

    return read_either


RESERVED = outcome(Reservation, ReserveRefusal)
ROTATED = outcome(Rotated, RotateRefusal)
INCREASED = outcome(IncreaseRecorded, IncreaseRefusal)
SETTLED = outcome(Settlement, ReservationRefusal)
RELEASED = outcome(Released, ReservationRefusal)
EXTENDED = outcome(Extended, ReservationRefusal)


def listed(cls: type[R]) -> Callable[[str], list[R]]:
    """Reads an answer that is a list."""
    return lambda answer: [read(cls, data) for data in json.loads(answer)]


EVENTS = listed(Event)
KEYS = listed(KeyRecord)
INCREASES = listed(Increase)
USAGE = listed(UsageOfPeriod)
DISCREPANCIES = listed(Discrepancy)
DELIVERIES = listed(OpenDelivery)


def key_or_none(answer: str) -> Optional[KeyRecord]:
    """Reads a key's row, if there is one."""
    data = json.loads(answer)
    return None if data is None else read(KeyRecord, data)


def explained(answer: str) -> Explanation:
    """Reads an explanation."""
    return read(Explanation, json.loads(answer))


def nothing(_: Any) -> None:
    """Reads an answer that tells nothing."""


def truth(answer: str) -> bool:
    """Reads an answer that is yes or no."""
    return bool(json.loads(answer))


# The native module makes these itself.
VALIDATED: Callable[[Any], ValidateResult] = lambda answer: answer  # noqa: E731
CHARGED: Callable[[Any], TrackUsageResult] = lambda answer: answer  # noqa: E731


class Base:
    """Options. The constructor does no I/O: the first call connects, in each process anew."""

    def __init__(
        self,
        dsn: Dsn,
        *,
        pool_size: int = 10,
        table_name: str = "sdk_api_keys",
        key_prefix: str = "ak_",
        key_format: Literal["plain", "checksum"] = "plain",
        default_expires_in: Optional[str] = None,
        wildcards: bool = False,
        valid_scopes: Optional[Iterable[str]] = None,
        accepted_periods: Literal["all", "day_and_month"] = "all",
        align: Literal["creation", "calendar"] = "creation",
        ledger: bool = False,
        thresholds: Iterable[float] = (),
        expiry_notice_seconds: Optional[int] = None,
        stale_hold_seconds: Optional[int] = None,
        rounding: Literal["up", "exact"] = "up",
        timeout: float = 10.0,
        settle_timeout: float = 60.0,
        max_waiting: int = 100_000,
        touch_interval_seconds: Optional[int] = 60,
        remembered_keys: int = 10_000,
        max_cost_cents: Optional[int] = None,
        pooler: Optional[bool] = None,
        close_timeout: float = 10.0,
        on_error: Optional[Callable[[str], object]] = None,
        password: Optional[Callable[[], str]] = None,
    ) -> None:
        """
        :param dsn: ``postgresql://user:password@host/database``, also as SQLAlchemy writes it
            (``postgresql+asyncpg://``) and as its ``URL`` or pydantic's ``PostgresDsn``, with libpq's parameters
            (``sslmode``, ``options``, ...); or libpq's ``host=... dbname=...``. What it leaves open is as ``PGHOST``,
            ``PGUSER``, ``PGPASSWORD``, ... say
        :param pool_size: connections; calls share statements, so few are needed
        :param table_name: ``table`` or ``schema.table``
        :param key_format: ``checksum``: new keys end in one, so that scanners know them, and a mistyped one costs no
            query; keys of either form always work
        :param default_expires_in: how long keys live that are created without ``expires_in``
        :param wildcards: a scope such as ``files:*`` grants all that begins with ``files:``
        :param valid_scopes: the scopes that new keys may have; any if not given
        :param accepted_periods: ``day_and_month`` for a table that the original package serves too
        :param align: ``calendar``: budget periods of new keys begin at midnight UTC, on Mondays, on the 1st
        :param ledger: writes every charge and reservation into the ledger, not only those with an idempotency key; all
            clients of a table should agree
        :param thresholds: shares of a budget at which an alarm is written into the ledger, such as ``(0.5, 0.8, 1)``:
            once for each key, budget, period and threshold; all clients of a table should agree
        :param expiry_notice_seconds: raises an alarm so long before a key expires, once for each key and expiry;
            whoever reads alarms raises it (``follow``, ``deliver``, ``events(after=..., alarms=True)``)
        :param stale_hold_seconds: raises an alarm when a reservation is still open after so long, once for each
        :param rounding: ``exact``: costs in cents count to a millionth of a cent; otherwise they are rounded up
        :param timeout: seconds that a call may take; ``migrate`` has no limit
        :param settle_timeout: seconds for which ``settle`` and ``release`` are repeated through faults, also of a
            database that is restarted; never less than ``timeout``
        :param max_waiting: calls that may wait at once; more are refused with :class:`OverloadedError`
        :param touch_interval_seconds: ``last_used_at`` is written when it is older than this; ``None``: never
        :param remembered_keys: so many rows of keys are remembered (about 300 bytes each): look-ups of several keys
            then ask the database only which of them changed; 0 is none
        :param max_cost_cents: the most that one charge, reserve or settle may cost; more is an ``invalid_cost``
        :param pooler: whether a pooler in transaction mode (PgBouncer, Supavisor) is between client and database:
            statements then cost two more round trips. ``None``: the client finds out with one connection more. With
            ``False`` results are silently wrong behind such a pooler
        :param close_timeout: seconds that ``close`` waits for requests under way and for what they cost to be recorded
        :param on_error: gets each message about a fault that nobody waits for, after it was logged: what a request cost
            and could not be recorded, with the key, the reservation and the amount; that ``last_used_at`` could not be
            written. Of the latter it hears with the next answer, or when the client is closed
        :param password: answers the database's password, where that changes (tokens of RDS or Cloud SQL). A call asks
            for it when the last answer is older than ten seconds, and waits: keep one at hand
        """
        options = {
            "pool_size": whole("pool_size", pool_size),
            "table_name": table_name,
            "key_prefix": key_prefix,
            "key_format": key_format,
            "default_expires_in": default_expires_in,
            "wildcards": wildcards,
            "valid_scopes": texts("valid_scopes", valid_scopes),
            "accepted_periods": accepted_periods,
            "align": align,
            "ledger": ledger,
            "thresholds": [share("each of thresholds", item) for item in thresholds],
            "expiry_notice_seconds": (
                None if expiry_notice_seconds is None else whole("expiry_notice_seconds", expiry_notice_seconds)
            ),
            "stale_hold_seconds": (
                None if stale_hold_seconds is None else whole("stale_hold_seconds", stale_hold_seconds)
            ),
            "rounding": rounding,
            "timeout": timeout,
            "settle_timeout": settle_timeout,
            "max_waiting": whole("max_waiting", max_waiting),
            "touch_interval_seconds": (
                None if touch_interval_seconds is None else whole("touch_interval_seconds", touch_interval_seconds)
            ),
            "remembered_keys": whole("remembered_keys", remembered_keys),
            "max_cost_cents": None if max_cost_cents is None else whole("max_cost_cents", max_cost_cents),
            "pooler": pooler,
        }
        for name, function in (("on_error", on_error), ("password", password)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function")
        self._client = _native.Client(dsn_text(dsn), options, password)
        self._close_timeout = seconds("close_timeout", close_timeout)
        self._ends = Ends(on_error)
        background.watch(self)
        self._table_name = table_name
        self._wildcards = wildcards

    def __repr__(self) -> str:
        # The DSN may hold a password.
        return f"{type(self).__name__}(table_name={self._table_name!r})"

    def _wait(self, call: _native.Call) -> Any:
        """Runs a call and waits for its result."""
        try:
            return self._client.wait(call)
        finally:
            self._tell()

    def _tell(self) -> None:
        """Tells of faults that nobody waited for."""
        for message in self._client.reports():
            self._ends.report(message)

    def has_scope(self, result: ValidateResult, scope: str) -> bool:
        """Whether a validated key may do ``scope``; a refused one may do nothing."""
        return isinstance(result, Grant) and _native.has_scope(result.scopes, scope, self._wildcards)

    def validate_scopes(self, scopes: Iterable[str]) -> ScopeCheck:
        """Whether new keys may have these scopes; ``invalid`` are those that they may not."""
        wanted = texts("scopes", scopes)
        if wanted is None:
            raise TypeError("scopes must be a sequence of str, not None")
        invalid = self._client.invalid_scopes(wanted)
        return ScopeCheck(not invalid, invalid)

    def stats(self) -> Stats:
        """Counters of this process. Nothing in them names a key."""
        return read(Stats, json.loads(self._client.stats()))


def expiry_from_duration(duration: Optional[str]) -> Optional[datetime]:
    """When something that lasts from now on for ``30m``, ``12h``, ``7d`` or ``1mo`` ends; ``None`` is never.

    By this machine's clock. Keys expire by the database's.
    """
    seconds = _native.duration_seconds(duration)
    return None if seconds is None else datetime.now(timezone.utc) + timedelta(seconds=seconds)
