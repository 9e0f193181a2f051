"""What both clients share: options, and what needs no database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, Optional, Union
from uuid import UUID

from . import _native
from ._native import (
    Denial,
    Extended,
    FinishRefusal,
    Grant,
    Released,
    Reservation,
    ReserveRefusal,
    ScopeCheck,
    Settlement,
    Stats,
    Usage,
    UsageRefusal,
)

ValidateResult = Union[Grant, Denial]
TrackUsageResult = Union[Usage, UsageRefusal]
ReserveResult = Union[Reservation, ReserveRefusal]
SettleResult = Union[Settlement, FinishRefusal]
ReleaseResult = Union[Released, FinishRefusal]
ExtendResult = Union[Extended, FinishRefusal]
Id = Union[str, int, UUID]
Cents = Union[int, float]
BudgetPeriod = Literal["hour", "day", "week", "month", "year"]


@dataclass(frozen=True)
class Subject:
    """The external subject of a row: a parent that has no key."""

    name: str


def only_one(**values: Optional[Id]) -> tuple[str, Id]:
    """The name and value of the only argument that was given."""
    given = [(name, value) for name, value in values.items() if value is not None]
    if len(given) != 1:
        raise TypeError(f"give one of {', '.join(values)}")
    return given[0]


def seconds_of(age: timedelta) -> int:
    seconds = int(age.total_seconds())
    if seconds < 0:
        raise ValueError("older_than must not be negative")
    return seconds


class Unset:
    """An argument that was not given, where ``None`` means something."""

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final = Unset()


def account_of(account_id: Union[Id, Unset, None], parent: object) -> Optional[Id]:
    """The account of a new key: only a child's may be left open."""
    if not isinstance(account_id, Unset):
        return account_id
    if parent is None:
        raise TypeError("create() needs account_id or parent")
    return None


class Base:
    """Options. The constructor does no I/O: the first call connects, in each process anew."""

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 10,
        table_name: str = "sdk_api_keys",
        key_prefix: str = "ak_",
        valid_scopes: Optional[Iterable[str]] = None,
        accepted_periods: Literal["all", "day_and_month"] = "all",
        align: Literal["creation", "calendar"] = "creation",
        ledger: bool = False,
        rounding: Literal["up", "exact"] = "up",
        timeout: float = 10.0,
        max_waiting: int = 100_000,
        touch_interval_seconds: int = 60,
        pooler: bool = False,
    ) -> None:
        """
        :param dsn: ``postgresql://user:password@host/database``, also as SQLAlchemy writes it
            (``postgresql+asyncpg://``), with libpq's parameters (``sslmode``, ``options``, ...)
        :param pool_size: connections; calls share statements, so few are needed
        :param table_name: ``table`` or ``schema.table``
        :param valid_scopes: the scopes that new keys may have; any if not given
        :param accepted_periods: ``day_and_month`` for a table that the original package serves too
        :param align: ``calendar``: budget periods of new keys begin at midnight UTC, on Mondays, on the 1st
        :param ledger: writes every charge and reservation into the ledger, not only those with an idempotency key; all
            clients of a table should agree
        :param rounding: ``exact``: costs to a millionth of a cent, and results also in ``..._microcents``
        :param timeout: seconds that a call may take; ``migrate`` has no limit
        :param max_waiting: calls that may wait at once; more are refused with :class:`OverloadedError`
        :param touch_interval_seconds: ``last_used_at`` is written when it is older than this
        :param pooler: behind PgBouncer in transaction mode results are silently wrong without it
        """
        self._client = _native.Client(
            dsn,
            pool_size=pool_size,
            table_name=table_name,
            key_prefix=key_prefix,
            valid_scopes=valid_scopes,
            accepted_periods=accepted_periods,
            align=align,
            ledger=ledger,
            rounding=rounding,
            timeout=timeout,
            max_waiting=max_waiting,
            touch_interval_seconds=touch_interval_seconds,
            pooler=pooler,
        )
        self._table_name = table_name

    def __repr__(self) -> str:
        # The DSN may hold a password.
        return f"{type(self).__name__}(table_name={self._table_name!r})"

    def has_scope(self, result: ValidateResult, scope: str) -> bool:
        """Whether a validated key may do ``scope``; a refused one may do nothing."""
        return result.has_scope(scope)

    def validate_scopes(self, scopes: Iterable[str]) -> ScopeCheck:
        """Whether new keys may have these scopes; ``invalid`` are those that they may not."""
        return self._client.validate_scopes(scopes)

    def stats(self) -> Stats:
        """Counters of this process."""
        return self._client.stats()


def expiry_from_duration(duration: Optional[str]) -> Optional[datetime]:
    """When something that lasts from now on for ``30m``, ``12h``, ``7d`` or ``1mo`` ends; ``None`` is never.

    By this machine's clock. Keys expire by the database's.
    """
    seconds = _native.duration_seconds(duration)
    return None if seconds is None else datetime.now(timezone.utc) + timedelta(seconds=seconds)
