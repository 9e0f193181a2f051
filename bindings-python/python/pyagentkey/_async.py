"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Optional, TypeVar, Union

from ._base import (
    UNSET,
    Base,
    BudgetPeriod,
    Cents,
    ExtendResult,
    Id,
    ReleaseResult,
    ReserveResult,
    SettleResult,
    Subject,
    TrackUsageResult,
    Unset,
    ValidateResult,
    account_of,
    only_one,
    seconds_of,
)
from ._loops import channel_of_running_loop
from ._native import Call, Created, Discrepancy, Event, UsageOfPeriod

T = TypeVar("T")


class AsyncAgentKey(Base):
    """Keys on a Postgres table. For any number of event loops and threads, whose calls share statements. A task that is
    cancelled while it awaits a call affects no other; a charge that was sent already may then have been recorded."""

    async def __aenter__(self) -> AsyncAgentKey:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()

    async def create(
        self,
        account_id: Union[Id, Unset, None] = UNSET,
        *,
        user_id: Optional[str] = None,
        scopes: Optional[Iterable[str]] = None,
        budget_cents: Optional[int] = None,
        budget_period: Optional[BudgetPeriod] = None,
        expires_in: Optional[str] = None,
        delegated_by: Optional[str] = None,
        name: Optional[str] = None,
        parent: Union[Id, Subject, None] = None,
    ) -> Created:
        """Creates a key. Its secret is returned only here.

        :param account_id: whose key it is; of a child by default its parent's
        :param scopes: what it may do; ``None`` is everything, an empty list nothing
        :param budget_cents: what it may spend in a period, or for life; 0 refuses every call
        :param expires_in: ``30m``, ``12h``, ``7d``, ``1mo`` (30 days); ``None`` is never
        :param delegated_by: the human who authorises it
        :param parent: the key that this one draws on and dies with: its id, its raw key, or the :class:`Subject` of its
            row. Its scopes and expiry bound those of the child. They, its account, user and human are the child's where
            it names none
        """
        return await self._run(
            self._client.create(
                account_of(account_id, parent),
                user_id,
                scopes,
                budget_cents,
                budget_period,
                expires_in,
                delegated_by,
                name,
                parent,
            )
        )

    async def validate(self, key: str) -> ValidateResult:
        """What a key may do and what remains of its budget, or why it is refused (then the result is false)."""
        return await self._run(self._client.validate(key))

    async def validate_by_subject(self, subject: str) -> ValidateResult:
        """The same for an external subject."""
        return await self._run(self._client.validate_by_subject(subject))

    async def track_usage(
        self,
        key: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Union[str, Decimal, None] = None,
        idempotency_key: Optional[str] = None,
        overrun: Literal["reject", "record"] = "reject",
        metadata: Optional[dict[str, Any]] = None,
    ) -> TrackUsageResult:
        """Records what a call cost, if it fits the budgets of the key and its ancestors; a refusal is false. An expired
        key can still be charged: the call began before.

        :param cost_cents: a fraction of a cent is rounded up, unless the client is exact
        :param cost_microcents: instead, in millionths of a cent
        :param cost_usd: instead, in US dollars, as a decimal
        :param idempotency_key: a second charge of the key under it answers what the first one did, and moves nothing
        :param overrun: ``record``: one that does not fit is recorded all the same, for it is spent already
        :param metadata: kept in the ledger, JSON values
        """
        return await self._run(
            self._client.track_usage(key, cost_cents, cost_microcents, cost_usd, idempotency_key, overrun, metadata)
        )

    async def track_usage_by_subject(
        self,
        subject: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Union[str, Decimal, None] = None,
        idempotency_key: Optional[str] = None,
        overrun: Literal["reject", "record"] = "reject",
        metadata: Optional[dict[str, Any]] = None,
    ) -> TrackUsageResult:
        """The same for an external subject."""
        return await self._run(
            self._client.track_usage_by_subject(
                subject, cost_cents, cost_microcents, cost_usd, idempotency_key, overrun, metadata
            )
        )

    async def reserve(
        self,
        key: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Union[str, Decimal, None] = None,
        ttl: str = "10m",
        idempotency_key: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
    ) -> ReserveResult:
        """Holds an amount before a call whose cost is known only afterwards, if the budgets of the key and its
        ancestors have room for it; a refusal is false. ``settle`` or ``release`` ends it, or the end of ``ttl``.

        :param cost_cents: the most that the call may cost; whole cents are held
        :param ttl: ``30s``, ``10m``, ``2h``; between a second and 30 days
        :param idempotency_key: a second reserve of the key under it answers the first one's reservation
        """
        return await self._run(
            self._client.reserve(key, cost_cents, cost_microcents, cost_usd, ttl, idempotency_key, metadata)
        )

    async def reserve_by_subject(
        self,
        subject: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Union[str, Decimal, None] = None,
        ttl: str = "10m",
        idempotency_key: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
    ) -> ReserveResult:
        """The same for an external subject."""
        return await self._run(
            self._client.reserve_by_subject(
                subject, cost_cents, cost_microcents, cost_usd, ttl, idempotency_key, metadata
            )
        )

    async def settle(
        self,
        reservation_id: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Union[str, Decimal, None] = None,
    ) -> SettleResult:
        """Records what was really spent, whatever the estimate and the cap, and gives back what was held. Exactly once:
        a second settle answers what the first one did."""
        return await self._run(self._client.settle(reservation_id, cost_cents, cost_microcents, cost_usd))

    async def release(self, reservation_id: str) -> ReleaseResult:
        """Gives back what was held: nothing was spent."""
        return await self._run(self._client.release(reservation_id))

    async def extend(self, reservation_id: str, ttl: str) -> ExtendResult:
        """Lets a reservation live so long from now on: ``30s``, ``10m``, ``2h``."""
        return await self._run(self._client.extend(reservation_id, ttl))

    async def sweep_reservations(self) -> int:
        """Ends the reservations whose time is over; how many. Whoever finds them in the way does it too."""
        return await self._run(self._client.sweep_reservations())

    async def revoke_all(
        self, *, account_id: Optional[Id] = None, parent: Optional[Id] = None, delegated_by: Optional[str] = None
    ) -> int:
        """The panic switch: revokes every live key of an account, below a parent, or that a human authorised; how
        many."""
        return await self._run(
            self._client.revoke_all(*only_one(account_id=account_id, parent=parent, delegated_by=delegated_by))
        )

    async def events(
        self,
        *,
        key_id: Optional[Id] = None,
        account_id: Optional[Id] = None,
        kind: Optional[str] = None,
        before: Optional[int] = None,
        limit: int = 100,
    ) -> list[Event]:
        """Ledger entries, the newest first; ``before`` the one of this id, at most 1,000."""
        return await self._run(self._client.events(key_id, account_id, kind, before, limit))

    async def usage(
        self,
        key_id: Id,
        *,
        from_: Optional[datetime] = None,
        to: Optional[datetime] = None,
        by: BudgetPeriod = "day",
    ) -> list[UsageOfPeriod]:
        """What a key and its descendants spent, by period of the calendar in UTC, as far as the ledger knows."""
        return await self._run(self._client.usage(key_id, from_, to, by))

    async def verify_ledger(self, key_id: Optional[Id] = None) -> list[Discrepancy]:
        """Which keys do not add up; none is good. Needs ``ledger=True`` in every client of the table."""
        return await self._run(self._client.verify_ledger(key_id))

    async def prune_events(self, older_than: timedelta) -> int:
        """Deletes ledger entries that are older; how many. What is left still adds up."""
        return await self._run(self._client.prune_events(seconds_of(older_than)))

    async def ensure_subject(
        self,
        subject: str,
        *,
        account_id: Optional[Id] = None,
        user_id: Optional[str] = None,
        scopes: Optional[Iterable[str]] = None,
        budget_cents: Optional[int] = None,
        budget_period: Optional[BudgetPeriod] = None,
        expires_in: Optional[str] = None,
        delegated_by: Optional[str] = None,
        name: Optional[str] = None,
        parent: Union[Id, Subject, None] = None,
    ) -> None:
        """Creates, once, the row of an external identity; a second call changes nothing. Its account is the subject
        unless ``account_id`` is given. Options as of ``create``."""
        await self._run(
            self._client.ensure_subject(
                subject,
                account_id,
                user_id,
                scopes,
                budget_cents,
                budget_period,
                expires_in,
                delegated_by,
                name,
                parent,
            )
        )

    async def revoke(self, key_id: Id, account_id: Union[Id, Unset, None] = UNSET) -> bool:
        """Revokes a key, and with it its descendants; whether a live one was revoked. With ``account_id`` only a key of
        that account; an account that is ``None`` owns no key."""
        if isinstance(account_id, Unset):
            return await self._run(self._client.revoke(key_id))
        return await self._run(self._client.revoke_of_account(key_id, account_id))

    async def migrate(self) -> None:
        """Creates the table, or adds what it lacks. Any number of processes may call it at once."""
        await self._run(self._client.migrate())

    async def close(self) -> None:
        """Refuses new calls, waits for those under way, closes the connections."""
        call = self._client.close()
        if call is not None:
            await self._run(call)

    async def _run(self, call: Call[T]) -> T:
        return await channel_of_running_loop().run(call)
