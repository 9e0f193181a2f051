"""The client for asyncio."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine, Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Callable, Literal, Optional, TypeVar, Union

from . import _arguments as arguments
from ._arguments import MAX_PLAIN, UNSET, Cents, Id, KeyLimit, Subject, Unset, Usd
from ._awaited import Awaited, HotCall, is_async, must_be_awaited
from ._base import (
    CHARGED,
    DELIVERIES,
    DISCREPANCIES,
    EVENTS,
    EXTENDED,
    INCREASED,
    INCREASES,
    KEYS,
    RELEASED,
    RESERVED,
    ROTATED,
    SETTLED,
    USAGE,
    VALIDATED,
    Base,
    BudgetPeriod,
    ExtendResult,
    IncreaseResult,
    NamedPeriod,
    ReleaseResult,
    ReserveResult,
    RotateResult,
    SettleResult,
    TrackUsageResult,
    ValidateResult,
    explained,
    key_or_none,
    nothing,
    outcome,
    truth,
)
from ._data import read
from ._errors import ClosedError
from ._loops import answer_of
from ._native import Call
from ._results import (
    Created,
    Discrepancy,
    Event,
    Explanation,
    Increase,
    KeyRecord,
    OpenDelivery,
    Usage,
    UsageOfPeriod,
    UsageRefusal,
)
from ._webhooks import LOOK, known_webhook, pause, posted

T = TypeVar("T")

# In the class the name is a method's.
Many = list


@must_be_awaited
class AsyncAgentKey(Base):
    """Keys on a Postgres table. For any number of event loops and threads, whose calls share statements. A task that is
    cancelled while it awaits a call affects no other; a charge that was sent already may then have been recorded. What
    is not awaited has no truth: ``if ak.validate(key):`` raises a ``TypeError``."""

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
        limits: Optional[Iterable[KeyLimit]] = None,
        expires_in: Optional[str] = None,
        delegated_by: Optional[str] = None,
        name: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
        parent: Union[Id, Subject, None] = None,
    ) -> Created:
        """Creates a key. Its secret is returned only here.

        :param account_id: whose key it is; of a child by default its parent's
        :param scopes: what it may do; ``None`` is everything, an empty list nothing
        :param budget_cents: what it may spend in a period, or for life; 0 refuses every call
        :param limits: what it may spend in other periods beside the budget, six at most:
            ``[{"cents": 200, "period": "5m", "when_exceeded": "disable"}, {"cents": 2000, "period": "month"}]``. Every
            charge draws on each of them, too. ``disable`` switches the key off until somebody enables it
        :param expires_in: ``30m``, ``12h``, ``7d``, ``1mo`` (30 days); ``None`` is never
        :param delegated_by: the human who authorises it
        :param metadata: what the application keeps with it, JSON values
        :param parent: the key that this one draws on and dies with: its id, its raw key, or the :class:`Subject` of its
            row. Its scopes and expiry bound those of the child. They, its account, user and human are the child's where
            it names none
        """
        spec = arguments.new_key(
            arguments.account_of(account_id, parent),
            user_id,
            scopes,
            budget_cents,
            budget_period,
            limits,
            expires_in,
            delegated_by,
            name,
            metadata,
            parent,
        )
        return await self._submit(lambda answer: read(Created, json.loads(answer)), "create", with_=spec)

    @is_async
    def validate(self, key: str) -> Coroutine[Any, Any, ValidateResult]:
        """What a key may do and what remains of its budget, or why it is refused (then the result is false)."""
        return HotCall(self._client, key)  # pyright: ignore[reportReturnType]

    async def validate_by_subject(self, subject: str) -> ValidateResult:
        """The same for an external subject."""
        return await self._submit(VALIDATED, "validate", subject=arguments.text("subject", subject))

    async def validate_by_id(self, key_id: Id) -> ValidateResult:
        """The same for the key of an id, for whoever has no secret."""
        return await self._submit(VALIDATED, "validate", key_id=arguments.id_text("key_id", key_id))

    @is_async
    def track_usage(
        self,
        key: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
        idempotency_key: Optional[str] = None,
        overrun: Literal["reject", "record"] = "reject",
        metadata: Optional[dict[str, Any]] = None,
    ) -> Coroutine[Any, Any, TrackUsageResult]:
        """Records what a call cost, if it fits the budgets of the key and its ancestors; a refusal is false. An expired
        key can still be charged: the call began before.

        :param cost_cents: a fraction of a cent is rounded up, unless the client is exact
        :param cost_microcents: instead, in millionths of a cent
        :param cost_usd: instead, in US dollars; a ``Decimal`` or a text is exact
        :param idempotency_key: a second charge of the key under it answers what the first one did, and moves nothing
        :param overrun: ``record``: one that does not fit is recorded all the same, for it is spent already
        :param metadata: kept in the ledger, JSON values
        """
        is_plain = type(cost_cents) is float or (type(cost_cents) is int and -MAX_PLAIN < cost_cents < MAX_PLAIN)
        is_plain = is_plain and cost_microcents is None and cost_usd is None and overrun == "reject"
        if is_plain and idempotency_key is None and metadata is None:
            return HotCall(self._client, key, cost_cents)  # pyright: ignore[reportReturnType]
        cost = (cost_cents, cost_microcents, cost_usd)
        charge = self._track_usage(
            "key", key, cost, idempotency_key=idempotency_key, overrun=overrun, metadata=metadata
        )
        return Awaited(charge)  # pyright: ignore[reportReturnType]

    async def track_usage_by_subject(
        self,
        subject: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
        idempotency_key: Optional[str] = None,
        overrun: Literal["reject", "record"] = "reject",
        metadata: Optional[dict[str, Any]] = None,
    ) -> TrackUsageResult:
        """The same for an external subject."""
        cost = (cost_cents, cost_microcents, cost_usd)
        return await self._track_usage(
            "subject", subject, cost, idempotency_key=idempotency_key, overrun=overrun, metadata=metadata
        )

    async def track_usage_by_id(
        self,
        key_id: Id,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
        idempotency_key: Optional[str] = None,
        overrun: Literal["reject", "record"] = "reject",
        metadata: Optional[dict[str, Any]] = None,
    ) -> TrackUsageResult:
        """The same for the key of an id, for whoever has no secret."""
        cost = (cost_cents, cost_microcents, cost_usd)
        return await self._track_usage(
            "key_id", key_id, cost, idempotency_key=idempotency_key, overrun=overrun, metadata=metadata
        )

    async def _track_usage(
        self,
        name: Literal["key", "subject", "key_id"],
        whose: Id,
        cost: tuple[Optional[Cents], Optional[int], Optional[Usd]],
        *,
        idempotency_key: Optional[str],
        overrun: str,
        metadata: Optional[dict[str, Any]],
    ) -> TrackUsageResult:
        members = arguments.named(name, whose)
        return await self._submit(
            CHARGED,
            "trackUsage",
            **members,
            **arguments.cost(*cost),
            idempotency_key=arguments.optional_text("idempotency_key", idempotency_key),
            overrun=arguments.text("overrun", overrun),
            metadata=arguments.metadata(metadata),
        )

    async def reserve(
        self,
        key: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
        ttl: str = "10m",
        if_expired: Literal["release", "settle"] = "release",
        scope: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
    ) -> ReserveResult:
        """Looks a key up and, in the same statement, holds an amount before a call whose cost is known only afterwards,
        if the key is live and the budgets of it and its ancestors have room; a refusal is false. ``settle`` or
        ``release`` ends it, or the end of ``ttl``.

        :param cost_cents: the most that the call may cost; whole cents are held
        :param ttl: ``30s``, ``10m``, ``2h``; between a second and 30 days
        :param if_expired: what it is worth if nobody ends it in time: given back, or recorded as spent (``settle``)
        :param scope: what the key must be allowed to do
        :param idempotency_key: a second reserve of the key under it answers the first one's reservation
        """
        return await self._submit(
            RESERVED,
            "reserve",
            key=arguments.key_text(key),
            **arguments.cost(cost_cents, cost_microcents, cost_usd),
            ttl=arguments.text("ttl", ttl),
            if_expired=arguments.text("if_expired", if_expired),
            scope=arguments.optional_text("scope", scope),
            idempotency_key=arguments.optional_text("idempotency_key", idempotency_key),
            metadata=arguments.metadata(metadata),
        )

    async def reserve_by_subject(
        self,
        subject: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
        ttl: str = "10m",
        if_expired: Literal["release", "settle"] = "release",
        scope: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
    ) -> ReserveResult:
        """The same for an external subject."""
        return await self._submit(
            RESERVED,
            "reserve",
            subject=arguments.text("subject", subject),
            **arguments.cost(cost_cents, cost_microcents, cost_usd),
            ttl=arguments.text("ttl", ttl),
            if_expired=arguments.text("if_expired", if_expired),
            scope=arguments.optional_text("scope", scope),
            idempotency_key=arguments.optional_text("idempotency_key", idempotency_key),
            metadata=arguments.metadata(metadata),
        )

    async def reserve_by_id(
        self,
        key_id: Id,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
        ttl: str = "10m",
        if_expired: Literal["release", "settle"] = "release",
        scope: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
    ) -> ReserveResult:
        """The same for the key of an id, for whoever has no secret."""
        return await self._submit(
            RESERVED,
            "reserve",
            key_id=arguments.id_text("key_id", key_id),
            **arguments.cost(cost_cents, cost_microcents, cost_usd),
            ttl=arguments.text("ttl", ttl),
            if_expired=arguments.text("if_expired", if_expired),
            scope=arguments.optional_text("scope", scope),
            idempotency_key=arguments.optional_text("idempotency_key", idempotency_key),
            metadata=arguments.metadata(metadata),
        )

    async def settle(
        self,
        reservation_id: str,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
    ) -> SettleResult:
        """Records what was really spent, whatever the estimate and the cap, and gives back what was held. Exactly once:
        a second settle answers what the first one did."""
        return await self._submit(
            SETTLED,
            "settle",
            reservation_id=arguments.text("reservation_id", reservation_id),
            **arguments.cost(cost_cents, cost_microcents, cost_usd),
        )

    async def release(self, reservation_id: str) -> ReleaseResult:
        """Gives back what was held: nothing was spent."""
        return await self._submit(RELEASED, "release", reservation_id=arguments.text("reservation_id", reservation_id))

    async def extend(self, reservation_id: str, ttl: str) -> ExtendResult:
        """Lets a reservation live so long from now on: ``30s``, ``10m``, ``2h``."""
        return await self._submit(
            EXTENDED,
            "extend",
            reservation_id=arguments.text("reservation_id", reservation_id),
            ttl=arguments.text("ttl", ttl),
        )

    async def refund(
        self,
        key_id: Id,
        cost_cents: Optional[Cents] = None,
        *,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
        idempotency_key: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
    ) -> TrackUsageResult:
        """Gives back what a key spent, for work that failed after it was charged: on the key and its ancestors, of no
        budget more than is used of it in this period. Also of a key that was revoked. Options as of ``track_usage``."""
        return await self._submit(
            outcome(Usage, UsageRefusal),
            "refund",
            key_id=arguments.id_text("key_id", key_id),
            **arguments.cost(cost_cents, cost_microcents, cost_usd),
            idempotency_key=arguments.optional_text("idempotency_key", idempotency_key),
            metadata=arguments.metadata(metadata),
        )

    async def sweep_reservations(self) -> int:
        """Ends the reservations whose time is over; how many. Whoever finds them in the way does it too."""
        return await self._submit(int, "sweepReservations")

    async def revoke_all(
        self, *, account_id: Optional[Id] = None, parent: Optional[Id] = None, delegated_by: Optional[str] = None
    ) -> int:
        """The panic switch: revokes every live key of an account, below a parent, or that a human authorised; how
        many."""
        filter = arguments.only_one(account_id=account_id, parent=parent, delegated_by=delegated_by)
        return await self._submit(int, "revokeAll", filter=filter)

    async def events(
        self,
        *,
        key_id: Optional[Id] = None,
        account_id: Optional[Id] = None,
        kind: Optional[str] = None,
        alarms: bool = False,
        before: Optional[int] = None,
        after: Optional[int] = None,
        limit: int = 100,
    ) -> Many[Event]:
        """Ledger entries, the newest first; ``before`` the one of this id, at most 1,000. With ``after`` they are those
        after this id, the oldest first: a cursor, which skips none; ``0`` is all. ``alarms``: only what somebody should
        hear of."""
        filter = arguments.filter_of(
            key_id=arguments.optional_id("key_id", key_id),
            account_id=arguments.optional_id("account_id", account_id),
            kind=arguments.optional_text("kind", kind),
            alarms=arguments.flag("alarms", alarms),
            before=arguments.whole("before", before),
            after=arguments.whole("after", after),
            limit=arguments.count("limit", limit, 1, 1_000),
        )
        return await self._submit(EVENTS, "events", filter=filter)

    async def follow(
        self,
        *,
        key_id: Optional[Id] = None,
        account_id: Optional[Id] = None,
        kind: Optional[str] = None,
        alarms: bool = True,
        after: Optional[int] = None,
    ) -> AsyncIterator[Event]:
        """Alarms as they come: those after ``after`` first, or those from now on; with ``alarms=False`` all entries
        of the ledger. Ends when the client is closed. Each process that asks gets each; who must not miss any keeps the
        last id, and gives it as ``after``."""
        try:
            if after is None:
                latest = await self.events(limit=1)
                after = latest[0].id if latest else 0
            while True:
                page = await self.events(
                    key_id=key_id, account_id=account_id, kind=kind, alarms=alarms, after=after, limit=1_000
                )
                for event in page:
                    after = event.id
                    yield event
                if not page:
                    await pause(LOOK)
        except ClosedError:
            return

    async def deliver(self, name: str, url: str, secrets: Iterable[str], *, timeout: float = 15.0) -> int:
        """Delivers what is due of a webhook's alarms, signed after Standard Webhooks; how many attempts were made: 0 is
        time for a pause. Any number of processes may call it: a delivery is one process's at a time. Alarms count from
        when a webhook is first delivered to.

        :param name: what its deliveries are kept under in the database
        :param secrets: each ``whsec_`` and 24 to 64 bytes in base64; while there are two, both sign
        :param timeout: seconds that the receiver may take, at most 15
        """
        known = known_webhook(name, url, secrets, timeout)
        claimed = await self._submit(json.loads, "claimDeliveries", webhook=known)
        ends = await posted(url, claimed, timeout)
        for delivery, end in zip(claimed, ends):
            of = {"event_id": delivery["eventId"], "attempt": delivery["attempt"]}
            await self._submit(truth, "endDelivery", webhook=name, **of, **end)
        return len(claimed)

    async def deliveries(
        self,
        *,
        webhook: Optional[str] = None,
        dead: bool = False,
        limit: int = 100,
    ) -> Many[OpenDelivery]:
        """Deliveries that are not done, the latest first; ``dead``: only those that are not tried again."""
        filter = arguments.filter_of(
            webhook=arguments.optional_text("webhook", webhook),
            dead=arguments.flag("dead", dead),
            limit=arguments.count("limit", limit, 1, 1_000),
        )
        return await self._submit(DELIVERIES, "deliveries", filter=filter)

    async def usage(
        self,
        key_id: Id,
        *,
        from_: Optional[datetime] = None,
        to: Optional[datetime] = None,
        by: NamedPeriod = "day",
    ) -> Many[UsageOfPeriod]:
        """What a key and its descendants spent, by period of the calendar in UTC, as far as the ledger knows; each says
        whether that is all."""
        filter = arguments.filter_of(
            key_id=arguments.id_text("key_id", key_id),
            from_=arguments.time_text("from_", from_),
            to=arguments.time_text("to", to),
            by=arguments.text("by", by),
        )
        return await self._submit(USAGE, "usage", filter=filter)

    async def verify_ledger(self, key_id: Optional[Id] = None) -> Many[Discrepancy]:
        """Which keys do not add up; none is good. Needs ``ledger=True`` in every client of the table."""
        return await self._submit(DISCREPANCIES, "verifyLedger", key_id=arguments.optional_id("key_id", key_id))

    async def prune_events(self, older_than: timedelta) -> int:
        """Deletes ledger entries that are older; how many. What is left still adds up."""
        return await self._submit(int, "pruneEvents", older_than_seconds=arguments.seconds_of(older_than))

    async def ensure_subject(
        self,
        subject: str,
        *,
        account_id: Optional[Id] = None,
        user_id: Optional[str] = None,
        scopes: Optional[Iterable[str]] = None,
        budget_cents: Optional[int] = None,
        budget_period: Optional[BudgetPeriod] = None,
        limits: Optional[Iterable[KeyLimit]] = None,
        expires_in: Optional[str] = None,
        delegated_by: Optional[str] = None,
        name: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
        parent: Union[Id, Subject, None] = None,
    ) -> None:
        """Creates, once, the row of an external identity; a second call changes nothing. Its account is the subject
        unless ``account_id`` is given. Options as of ``create``."""
        spec = arguments.new_key(
            account_id,
            user_id,
            scopes,
            budget_cents,
            budget_period,
            limits,
            expires_in,
            delegated_by,
            name,
            metadata,
            parent,
        )
        subject = arguments.text("subject", subject)
        await self._submit(nothing, "ensureSubject", subject=subject, with_=spec)

    async def get(self, key_id: Id) -> Optional[KeyRecord]:
        """A key's row, whatever became of it; ``None`` if there is no such key."""
        return await self._submit(key_or_none, "get", key_id=arguments.id_text("key_id", key_id))

    async def explain(
        self,
        key: Id,
        *,
        cost_cents: Optional[Cents] = None,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
    ) -> Explanation:
        """Says whether a charge of a key would pass, and if not why: every limit of its chain, what binds first, and
        what is held of each. A key is named by its id or by its raw key. Without a cost it asks about the smallest
        charge. Only reads."""
        return await self._submit(
            explained,
            "explain",
            key=arguments.id_text("key", key),
            **arguments.optional_cost(cost_cents, cost_microcents, cost_usd),
        )

    async def explain_by_subject(
        self,
        subject: str,
        *,
        cost_cents: Optional[Cents] = None,
        cost_microcents: Optional[int] = None,
        cost_usd: Optional[Usd] = None,
    ) -> Explanation:
        """The same for an external subject."""
        return await self._submit(
            explained,
            "explain",
            subject=arguments.text("subject", subject),
            **arguments.optional_cost(cost_cents, cost_microcents, cost_usd),
        )

    async def rotate(
        self, key: Id, *, grace: Union[str, int, timedelta] = "24h", idempotency_key: Optional[str] = None
    ) -> RotateResult:
        """Gives a key a new secret, by its id or by its raw key; a refusal is false. The key stays the same: its
        budget, holds, children and history. The secret before counts beside the new one for the grace; then, or at the
        next rotation, it stops.

        :param grace: ``30s``, ``24h``, ``7d``, or seconds; 0: the secret before stops at once
        :param idempotency_key: a second rotation of the key under it, because the answer of the first one was lost,
            replaces the secret that the first one made
        """
        return await self._submit(
            ROTATED,
            "rotate",
            key=arguments.id_text("key", key),
            grace=arguments.grace(grace),
            idempotency_key=arguments.optional_text("idempotency_key", idempotency_key),
        )

    async def request_increase(
        self,
        key: Id,
        *,
        cents: int,
        for_: Union[str, int, timedelta],
        reason: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> IncreaseResult:
        """A key asks for more budget, by its id or by its raw key; nothing is raised until somebody decides it, and a
        refusal is false. A key has one open request: asking for the same again answers that one.

        :param cents: how much more
        :param for_: how long it is to last, from when it is approved: ``90s``, ``2h``, ``1d``, or seconds
        :param reason: why, for whoever decides
        :param idempotency_key: a second request under it is the first one, also once that is decided
        """
        return await self._submit(
            INCREASED,
            "requestIncrease",
            key=arguments.id_text("key", key),
            with_=arguments.increase(cents, for_, reason, idempotency_key),
        )

    async def request_increase_by_subject(
        self,
        subject: str,
        *,
        cents: int,
        for_: Union[str, int, timedelta],
        reason: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> IncreaseResult:
        """The same for an external subject."""
        return await self._submit(
            INCREASED,
            "requestIncrease",
            subject=arguments.text("subject", subject),
            with_=arguments.increase(cents, for_, reason, idempotency_key),
        )

    async def list_increases(
        self,
        *,
        key_id: Optional[Id] = None,
        account_id: Optional[Id] = None,
        within: Optional[Id] = None,
        state: Optional[Literal["pending", "approved", "denied"]] = None,
        before: Optional[int] = None,
        limit: int = 100,
    ) -> Many[Increase]:
        """Requests for more budget, the newest first, a page of at most 1,000 at a time: give the last id as ``before``
        to go on.

        :param within: only of this key and of those that descend from it
        """
        filter = arguments.filter_of(
            key_id=arguments.optional_id("key_id", key_id),
            account_id=arguments.optional_id("account_id", account_id),
            within=arguments.optional_id("within", within),
            state=arguments.optional_text("state", state),
            before=None if before is None else arguments.whole("before", before),
            limit=arguments.count("limit", limit, 1, 1_000),
        )
        return await self._submit(INCREASES, "listIncreases", filter=filter)

    async def decide_increase(
        self,
        request_id: int,
        *,
        approve: bool,
        by: str,
        cents: Optional[int] = None,
        expires_in: Union[str, int, timedelta, None] = None,
        decider: Optional[Id] = None,
    ) -> IncreaseResult:
        """Decides a request. An approval raises the key's budget at once, for a while, and no further than the budgets
        of its ancestors. Of several decisions the first one stands; the others are told of it, with a refusal.

        :param by: who decides, for the ledger
        :param cents: by how much; as much as was asked for if not given
        :param expires_in: for how long from now; as long as was asked for if not given
        :param decider: the id of the key that decides: it must be a live ancestor of the one that asked. The
            application decides if not given
        """
        return await self._submit(
            INCREASED,
            "decideIncrease",
            request_id=arguments.whole("request_id", request_id),
            with_=arguments.decision(approve, by, cents, expires_in, decider),
        )

    async def list(
        self,
        *,
        account_id: Optional[Id] = None,
        parent: Optional[Id] = None,
        delegated_by: Optional[str] = None,
        state: Optional[Literal["live", "revoked", "disabled", "expired"]] = None,
        scope: Optional[str] = None,
        metadata: Optional[dict[str, Any]] = None,
        over_share: Optional[float] = None,
        after: Optional[Id] = None,
        limit: int = 100,
    ) -> Many[KeyRecord]:
        """Keys in the order of their ids, a page of at most 1,000 at a time: give the last id as ``after`` to go on.

        :param parent: only the children of this key
        :param state: what became of the key itself, whatever its ancestors and its budget
        :param scope: only keys whose scopes name this one; ``admin`` and no scopes set are not looked at
        :param metadata: only keys whose metadata contains this
        :param over_share: only keys that have used at least this share of their budget: above 0, 1 at most
        """
        filter = arguments.filter_of(
            account_id=arguments.optional_id("account_id", account_id),
            parent=arguments.optional_id("parent", parent),
            delegated_by=arguments.optional_text("delegated_by", delegated_by),
            state=arguments.optional_text("state", state),
            scope=arguments.optional_text("scope", scope),
            metadata=arguments.metadata(metadata),
            over_share=arguments.share("over_share", over_share),
            after=arguments.optional_id("after", after),
            limit=arguments.count("limit", limit, 1, 1_000),
        )
        return await self._submit(KEYS, "list", filter=filter)

    async def update(
        self,
        key_id: Id,
        *,
        name: Union[str, Unset] = UNSET,
        scopes: Union[Iterable[str], Unset, None] = UNSET,
        budget_cents: Union[int, Unset, None] = UNSET,
        budget_period: Union[BudgetPeriod, Unset, None] = UNSET,
        limits: Union[Iterable[KeyLimit], Unset] = UNSET,
        expires_in: Union[str, Unset, None] = UNSET,
        metadata: Union[dict[str, Any], Unset, None] = UNSET,
    ) -> Optional[KeyRecord]:
        """Changes a key, within the bounds of its parent. What is not given stays as it is. The next call meets the
        change. The key as it is after it; ``None`` if there is no such key.

        :param scopes: ``None`` is everything that its parent may do
        :param budget_cents: ``None`` is no budget. What is used and held stays
        :param budget_period: a new period begins now, and what is used counts in it; ``None`` is one budget for life
        :param limits: in place of those that it had; one of the same period goes on. A key that has children gets no
            more than it had before them
        :param expires_in: from now on; ``None`` is for ever
        :param metadata: in place of what the key kept; ``None`` is nothing
        """
        with_ = arguments.changes(name, scopes, budget_cents, budget_period, limits, expires_in, metadata)
        return await self._submit(key_or_none, "update", key_id=arguments.id_text("key_id", key_id), with_=with_)

    async def disable(self, key_id: Id) -> Optional[KeyRecord]:
        """Switches a key off, and with it its descendants, until it is enabled again."""
        return await self._submit(key_or_none, "disable", key_id=arguments.id_text("key_id", key_id))

    async def enable(self, key_id: Id) -> Optional[KeyRecord]:
        """Switches a key on again."""
        return await self._submit(key_or_none, "enable", key_id=arguments.id_text("key_id", key_id))

    async def revoke(self, key_id: Id, account_id: Union[Id, Unset, None] = UNSET) -> bool:
        """Revokes a key, and with it its descendants; whether a live one was revoked. With ``account_id`` only a key of
        that account; an account that is ``None`` owns no key."""
        revocation: dict[str, Optional[str]] = {"key_id": arguments.id_text("key_id", key_id)}
        if not isinstance(account_id, Unset):
            revocation["account_id"] = arguments.optional_id("account_id", account_id)
        return await self._submit(truth, "revoke", **revocation)

    async def migrate(self) -> None:
        """Creates the table, or adds what it lacks. Any number of processes may call it at once."""
        await self._submit(nothing, "migrate")

    async def close(self) -> None:
        """Waits for requests that were admitted and for what they cost to be recorded, up to ``close_timeout`` seconds.
        What is not recorded by then is logged and told to ``on_error``. Then it refuses new calls, waits for those
        under way as long as there is time left, and closes the connections."""
        call = self._client.close(await self._ends.wait(self._close_timeout))
        if call is not None:
            await self._run(call)
        self._tell()

    async def _submit(self, read_answer: Callable[[Any], T], op: str, **members: Any) -> T:
        """Any request but the two that are hot."""
        return read_answer(await self._run(self._client.submit(arguments.request(op, **members))))

    async def _run(self, call: Call) -> Any:
        return await answer_of(call)
