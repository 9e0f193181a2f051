"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Optional, TypeVar, Union

from ._base import UNSET, Base, BudgetPeriod, Id, TrackUsageResult, Unset, ValidateResult
from ._loops import channel_of_running_loop
from ._native import Call, Created

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
        account_id: Optional[Id],
        *,
        user_id: Optional[str] = None,
        scopes: Optional[Iterable[str]] = None,
        budget_cents: Optional[int] = None,
        budget_period: Optional[BudgetPeriod] = None,
        expires_in: Optional[str] = None,
        delegated_by: Optional[str] = None,
        name: Optional[str] = None,
    ) -> Created:
        """Creates a key. Its secret is returned only here.

        :param account_id: whose key it is
        :param scopes: what it may do; ``None`` is everything, an empty list nothing
        :param budget_cents: what it may spend in a period, or for life; 0 refuses every call
        :param expires_in: ``30m``, ``12h``, ``7d``, ``1mo`` (30 days); ``None`` is never
        :param delegated_by: the human who authorises it
        """
        return await self._run(
            self._client.create(
                account_id, user_id, scopes, budget_cents, budget_period, expires_in, delegated_by, name
            )
        )

    async def validate(self, key: str) -> ValidateResult:
        """What a key may do and what remains of its budget, or why it is refused (then the result is false)."""
        return await self._run(self._client.validate(key))

    async def validate_by_subject(self, subject: str) -> ValidateResult:
        """The same for an external subject."""
        return await self._run(self._client.validate_by_subject(subject))

    async def track_usage(self, key: str, cost_cents: Union[int, float]) -> TrackUsageResult:
        """Records what a call cost, if it fits the budget; a refusal is false. A fraction of a cent is rounded up.
        An expired key can still be charged: the call began before."""
        return await self._run(self._client.track_usage(key, cost_cents))

    async def track_usage_by_subject(self, subject: str, cost_cents: Union[int, float]) -> TrackUsageResult:
        """The same for an external subject."""
        return await self._run(self._client.track_usage_by_subject(subject, cost_cents))

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
    ) -> None:
        """Creates, once, the row of an external identity; a second call changes nothing. Its account is the subject
        unless ``account_id`` is given."""
        await self._run(
            self._client.ensure_subject(
                subject, account_id, user_id, scopes, budget_cents, budget_period, expires_in, delegated_by, name
            )
        )

    async def revoke(self, key_id: Id, account_id: Union[Id, Unset, None] = UNSET) -> bool:
        """Revokes a key; whether a live one was revoked. With ``account_id`` only a key of that account; an account
        that is ``None`` owns no key."""
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
