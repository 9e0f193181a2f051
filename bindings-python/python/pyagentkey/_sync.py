"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Optional, TypeVar, Union

from ._base import UNSET, Base, BudgetPeriod, Id, TrackUsageResult, Unset, ValidateResult
from ._native import Call, Created

T = TypeVar("T")


class AgentKey(Base):
    """Keys on a Postgres table. For any number of threads, whose calls share statements; a call that waits for the
    database lets other threads run."""

    def __enter__(self) -> AgentKey:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def create(
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
        return self._run(
            self._client.create(
                account_id, user_id, scopes, budget_cents, budget_period, expires_in, delegated_by, name
            )
        )

    def validate(self, key: str) -> ValidateResult:
        """What a key may do and what remains of its budget, or why it is refused (then the result is false)."""
        return self._run(self._client.validate(key))

    def validate_by_subject(self, subject: str) -> ValidateResult:
        """The same for an external subject."""
        return self._run(self._client.validate_by_subject(subject))

    def track_usage(self, key: str, cost_cents: Union[int, float]) -> TrackUsageResult:
        """Records what a call cost, if it fits the budget; a refusal is false. A fraction of a cent is rounded up.
        An expired key can still be charged: the call began before."""
        return self._run(self._client.track_usage(key, cost_cents))

    def track_usage_by_subject(self, subject: str, cost_cents: Union[int, float]) -> TrackUsageResult:
        """The same for an external subject."""
        return self._run(self._client.track_usage_by_subject(subject, cost_cents))

    def ensure_subject(
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
        self._run(
            self._client.ensure_subject(
                subject, account_id, user_id, scopes, budget_cents, budget_period, expires_in, delegated_by, name
            )
        )

    def revoke(self, key_id: Id, account_id: Union[Id, Unset, None] = UNSET) -> bool:
        """Revokes a key; whether a live one was revoked. With ``account_id`` only a key of that account; an account
        that is ``None`` owns no key."""
        if isinstance(account_id, Unset):
            return self._run(self._client.revoke(key_id))
        return self._run(self._client.revoke_of_account(key_id, account_id))

    def migrate(self) -> None:
        """Creates the table, or adds what it lacks. Any number of processes may call it at once."""
        self._run(self._client.migrate())

    def close(self) -> None:
        """Refuses new calls, waits for those under way, closes the connections."""
        call = self._client.close()
        if call is not None:
            self._run(call)

    def _run(self, call: Call[T]) -> T:
        return self._client.wait(call)
