"""What calls answer: plain data, the same as the JSON of the other languages in Python's own types.

A result is true if the call did what was asked, and false, with a ``reason``, if it was refused. ``or_raise()`` makes
an exception of a refusal. Results are made by calls, and by you: in tests, in doubles, as responses of FastAPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Callable, Final, Literal, Optional, Union

from . import _native
from ._data import OPTIONAL, TIME, Money, No, Result, Yes, read


def _limit(data: Optional[Mapping[str, Any]]) -> Optional[Limit]:
    return None if data is None else read(Limit, data)


def _grant(data: Mapping[str, Any]) -> Grant:
    return read(Grant, data)


LIMIT: Final[Mapping[str, Any]] = {"optional": True, "read": _limit}
GRANT: Final[Mapping[str, Any]] = {"read": _grant}


@dataclass(frozen=True)
class Limit(Result):
    """A budget that stands in the way."""

    key_id: Union[int, str]
    """The key, or the ancestor, whose budget it is."""
    budget_cents: int
    used_cents: int
    reserved_cents: int = 0
    resets_at: Optional[datetime] = field(default=None, metadata=TIME)
    """When it begins anew; ``None`` is never."""
    period: Optional[str] = field(default=None, metadata=OPTIONAL)
    """Of one of the key's ``limits``, as ``when_exceeded``."""
    when_exceeded: Optional[Literal["refuse", "disable"]] = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Grant(Yes, Money):
    """A live key: what it may do and spend."""

    id: Union[int, str]
    """The key's row: ``int`` where the column is of an integer type."""
    account_id: Union[int, str, None] = None
    """Whose key it is: ``int`` where the column is INTEGER."""
    user_id: Optional[str] = None
    scopes: Optional[list[str]] = None
    """What it may do; ``None`` is everything."""
    budget_cents: Optional[int] = None
    """The budget of a period, or for life; ``None`` is no budget."""
    budget_used_cents: int = 0
    budget_remaining_cents: Optional[int] = None
    """``None`` without a budget."""
    budget_period: Optional[str] = None
    budget_reset_at: Optional[datetime] = field(default=None, metadata=TIME)
    expires_at: Optional[datetime] = field(default=None, metadata=TIME)
    delegated_by: Optional[str] = None
    """The human who authorised the key."""
    name: str = "default"
    budget_reserved_cents: int = 0
    budget_used_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_remaining_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    valid: Literal[True] = field(default=True, init=False, repr=False)

    # Set by the native module for a client with ``wildcards``; no member.
    _wildcards = False

    def has_scope(self, scope: str) -> bool:
        """Whether the key may do ``scope``."""
        return _native.has_scope(self.scopes, scope, self._wildcards)

    @property
    def reservation(self) -> Optional[Reservation]:
        """What is held for the request that this key was admitted with, behind a door that reserves."""
        return self.__dict__.get("_reservation")

    def charge(self, amount: Any) -> None:
        """Behind a door: says what the request that this key was admitted with costs, in cents, or as one of
        ``{"usd": ...}``, ``{"cents": ...}`` and ``{"microcents": ...}``. Several amounts add up. They are recorded when
        the response has ended, in place of what ``cost`` would say, and of the estimate."""
        charge = self.__dict__.get("_charge")
        if charge is None:
            raise RuntimeError("only the grant of a request can be charged: behind require_key or RequireKey")
        charge(amount)

    def holding(self, reservation: Optional[Reservation], charge: Optional[Callable[[Any], None]] = None) -> Grant:
        """The same key, with what is held for its request, and a way to charge it."""
        grant = object.__new__(Grant)
        grant.__dict__.update(self.__dict__, _reservation=reservation, _charge=charge)
        return grant


@dataclass(frozen=True)
class Denial(No, Result):
    """A refused key: false."""

    reason: Literal["invalid", "revoked", "disabled", "expired", "budget_exceeded"]
    limit: Optional[Limit] = field(default=None, metadata=LIMIT)
    """The budget that is used up, where that is the reason."""
    valid: Literal[False] = field(default=False, init=False, repr=False)

    def has_scope(self, _scope: str) -> Literal[False]:
        """A refused key may do nothing."""
        return False


@dataclass(frozen=True)
class Usage(Yes, Money):
    """A charge that is recorded. Of one that cost nothing there is no budget to tell."""

    budget_used_cents: Optional[int] = None
    budget_remaining_cents: Optional[int] = None
    over_budget: bool = field(default=False, metadata=OPTIONAL)
    """Whether the budget is passed: with ``overrun="record"``."""
    overage_cents: Optional[int] = field(default=None, metadata=OPTIONAL)
    """By how much."""
    budget_used_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_remaining_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    replayed: bool = field(default=False, metadata=OPTIONAL)
    """Whether an earlier charge under the same idempotency key was recorded, and this one was not."""
    success: Literal[True] = field(default=True, init=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        if self.budget_used_cents is None:
            return {"success": True}
        return super().to_dict()


@dataclass(frozen=True)
class UsageRefusal(No, Result):
    """A refused charge: false."""

    reason: Literal["invalid_cost", "invalid_key", "budget_exceeded", "idempotency_conflict"]
    success: Literal[False] = field(default=False, init=False, repr=False)


@dataclass(frozen=True)
class Reservation(Yes, Money):
    """An amount that is held."""

    reservation_id: str
    """Names it to ``settle``, ``release`` and ``extend``."""
    expires_at: datetime = field(metadata=TIME)
    """When it gives its amount back by itself."""
    grant: Grant = field(metadata=GRANT)
    """The key as it was before: what ``validate`` would have answered."""
    budget_used_cents: int = 0
    budget_remaining_cents: Optional[int] = None
    budget_reserved_cents: int = 0
    budget_used_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_remaining_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    replayed: bool = field(default=False, metadata=OPTIONAL)
    """Whether it was made earlier, under the same idempotency key, and holds its amount still."""
    success: Literal[True] = field(default=True, init=False, repr=False)


@dataclass(frozen=True)
class ReserveRefusal(No, Result):
    """A refused reserve: false, and nothing is held."""

    reason: Literal[
        "invalid_cost",
        "invalid_key",
        "revoked",
        "disabled",
        "expired",
        "insufficient_scope",
        "budget_exceeded",
        "idempotency_conflict",
        "already_settled",
        "unknown_reservation",
    ]
    limit: Optional[Limit] = field(default=None, metadata=LIMIT)
    """The budget that has no room, where that is the reason."""
    reservation_id: Optional[str] = field(default=None, metadata=OPTIONAL)
    """The reservation that was made under the same idempotency key and is ``already_settled``."""
    cost_cents: Optional[int] = field(default=None, metadata=OPTIONAL)
    """What that was settled with."""
    cost_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    success: Literal[False] = field(default=False, init=False, repr=False)


@dataclass(frozen=True)
class Settlement(Yes, Money):
    """A settled reservation."""

    cost_cents: int
    overage_cents: int = 0
    """How far the cost passed what was held."""
    budget_used_cents: int = 0
    budget_remaining_cents: Optional[int] = None
    cost_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_used_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_remaining_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    replayed: bool = field(default=False, metadata=OPTIONAL)
    """Whether it was settled before: this is what the first settle answered."""
    success: Literal[True] = field(default=True, init=False, repr=False)

    @property
    def cost(self) -> Decimal:
        """In cents, exactly."""
        cost = self._cents("cost")
        assert cost is not None
        return cost


@dataclass(frozen=True)
class Released(Yes, Result):
    """A reservation that is released, or ended otherwise before."""

    released: bool
    """Whether this call gave the amount back."""
    success: Literal[True] = field(default=True, init=False, repr=False)


@dataclass(frozen=True)
class Extended(Yes, Result):
    """A reservation that lives longer."""

    expires_at: datetime = field(metadata=TIME)
    success: Literal[True] = field(default=True, init=False, repr=False)


@dataclass(frozen=True)
class ReservationRefusal(No, Result):
    """A reservation that was not settled, released or extended: false."""

    reason: Literal["invalid_cost", "unknown_reservation", "released", "settled", "expired", "unrecordable"]
    cost_cents: Optional[int] = field(default=None, metadata=OPTIONAL)
    """What is ``unrecordable``: a total would not fit its column. The amount is held still."""
    cost_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    success: Literal[False] = field(default=False, init=False, repr=False)


@dataclass(frozen=True)
class Created(Result):
    """A new key, with its secret."""

    key: str = field(repr=False)
    """The secret itself: it is shown here, and stored nowhere."""
    id: Union[int, str]
    scopes: Optional[list[str]] = None
    budget_cents: Optional[int] = None
    budget_period: Optional[str] = None
    expires_at: Optional[datetime] = field(default=None, metadata=TIME)

    def __repr__(self) -> str:
        return f"Created(key=<secret>, id={self.id!r})"


@dataclass(frozen=True)
class Rotated(Yes, Result):
    """A key with a new secret."""

    key: str = field(repr=False)
    """The secret itself: it is shown here, and stored nowhere."""
    id: Union[int, str]
    """The key's row, which is the same as before."""
    previous_expires_at: Optional[datetime] = field(default=None, metadata=TIME)
    """Until when the secret before counts; ``None`` if it counts no more."""
    success: Literal[True] = field(default=True, init=False, repr=False)

    def __repr__(self) -> str:
        return f"Rotated(key=<secret>, id={self.id!r})"


@dataclass(frozen=True)
class RotateRefusal(No, Result):
    """A refused rotation: false, and nothing was written."""

    reason: Literal["invalid_key", "revoked", "idempotency_conflict"]
    success: Literal[False] = field(default=False, init=False, repr=False)


@dataclass(frozen=True)
class Increase(Result):
    """A request for more budget, and what became of it."""

    id: int
    key_id: Union[int, str]
    """The key that asks."""
    state: Literal["pending", "approved", "denied"]
    cents: int
    """How much more is asked for."""
    for_seconds: int
    """How long it is to last, from when it is approved."""
    requested_at: datetime = field(metadata=TIME)
    account_id: Optional[str] = None
    reason: Optional[str] = None
    """Why."""
    decided_at: Optional[datetime] = field(default=None, metadata=TIME)
    decided_by: Optional[str] = None
    decided_by_key_id: Union[int, str, None] = None
    """The key that decided; ``None`` if the application did."""
    granted_cents: Optional[int] = None
    granted_until: Optional[datetime] = field(default=None, metadata=TIME)


def _increase(data: Any) -> Increase:
    return read(Increase, data)


@dataclass(frozen=True)
class IncreaseRecorded(Yes, Result):
    """A request for more budget, or a decision of one, that stands."""

    request: Increase = field(metadata={"read": _increase})
    """The request as it is now."""
    replayed: bool = field(default=False, metadata=OPTIONAL)
    """Whether it was recorded earlier, by the same call."""
    success: Literal[True] = field(default=True, init=False, repr=False)


@dataclass(frozen=True)
class IncreaseRefusal(No, Result):
    """A request for more budget, or a decision of one, that was not recorded: false."""

    reason: Literal[
        "invalid_key",
        "revoked",
        "disabled",
        "expired",
        "no_budget",
        "already_pending",
        "idempotency_conflict",
        "unknown_request",
        "already_decided",
        "exceeds_ancestor",
    ]
    request: Optional[Increase] = field(default=None, metadata={"read": _increase, "optional": True})
    """The request that it is about, as it stands."""
    limit_key_id: Union[int, str, None] = field(default=None, metadata=OPTIONAL)
    """The ancestor whose budget is too small."""
    success: Literal[False] = field(default=False, init=False, repr=False)


@dataclass(frozen=True)
class Hold(Result):
    """An open reservation."""

    reservation_id: str
    key_id: Union[int, str]
    """The key that made it."""
    amount_cents: int
    created_at: datetime = field(metadata=TIME)
    expires_at: datetime = field(metadata=TIME)
    expired: bool = False
    """Whether its time is over."""
    amount_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Holds(Result):
    """What open reservations hold of a budget."""

    count: int = 0
    amount_cents: int = 0
    recoverable_cents: int = 0
    """What of it a charge gets back in whose way it is: the time of these reservations is over."""
    oldest: list[Hold] = field(
        default_factory=list, metadata={"read": lambda holds: [read(Hold, hold) for hold in holds]}
    )
    """Ten at most."""
    amount_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    recoverable_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class ExplainedLimit(Money):
    """A key of a chain and its budget, or one of its limits."""

    key_id: Union[int, str, None]
    """``None`` if the row names an ancestor that cannot be."""
    name: Optional[str] = None
    """``None`` if there is no such key."""
    live: bool = True
    """Whether this key is live; its budget does not count."""
    reason: Optional[Literal["invalid", "revoked", "disabled", "expired"]] = None
    """Why not; ``invalid`` of one that is not there."""
    budget_cents: Optional[int] = None
    budget_used_cents: int = 0
    budget_reserved_cents: int = 0
    budget_remaining_cents: Optional[int] = None
    budget_period: Optional[str] = None
    budget_reset_at: Optional[datetime] = field(default=None, metadata=TIME)
    when_exceeded: Optional[Literal["refuse", "disable"]] = field(default=None, metadata=OPTIONAL)
    """Of one of the key's limits: what a charge does that would pass it."""
    budget_boost_cents: Optional[int] = None
    """By how much the budget is raised now: part of ``budget_cents``. ``None`` if it is not."""
    budget_boost_until: Optional[datetime] = field(default=None, metadata=TIME)
    """Until when."""
    holds: Holds = field(default_factory=Holds, metadata={"read": lambda holds: read(Holds, holds)})
    """The open reservations that hold of the budget: the key's own and those of its descendants."""
    budget_used_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_reserved_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_remaining_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Explanation(Result):
    """What a charge of a key would meet: true if it would pass."""

    allowed: bool
    reason: Optional[Literal["invalid_key", "budget_exceeded", "invalid_cost"]] = None
    """Why it would be refused; ``None`` if it would pass."""
    limit_key_id: Union[int, str, None] = None
    """The key whose budget or state refuses it."""
    live: bool = True
    """Whether every key of the chain is live: ``validate`` and ``reserve`` refuse any other."""
    limits: list[ExplainedLimit] = field(
        default_factory=list, metadata={"read": lambda limits: [read(ExplainedLimit, limit) for limit in limits]}
    )
    """The key, its ancestors and the limits of each, what binds first: keys that are revoked or gone, then those that
    are switched off or expired, then the others, the one with the least room first. Empty if there is no such key."""

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True)
class ScopeCheck(Result):
    """Whether scopes are ones that keys may have: false if not."""

    valid: bool
    invalid: list[str] = field(default_factory=list, metadata=OPTIONAL)

    def __bool__(self) -> bool:
        return self.valid


@dataclass(frozen=True)
class CallCount(Result):
    """How many calls of one operation came to one end."""

    operation: str
    """What was asked for, the same name in every language: ``validate``, ``track_usage``, ``reserve``."""
    outcome: Literal["success", "refused", "error"]
    reason: Optional[str]
    """The reason of a refusal, the code of an error."""
    count: int


@dataclass(frozen=True)
class Histogram(Result):
    """How values are spread."""

    bounds: list[int]
    """Upper bounds, included, in rising order."""
    counts: list[int]
    """How many values each bucket has: those up to its bound and above the one before. The last one has no bound."""
    sum: int
    """All values together."""


def _histogram(data: Any) -> Histogram:
    return read(Histogram, data)


@dataclass(frozen=True)
class FamilyStats(Result):
    """Statements of one family."""

    family: str
    """``validate``, ``charge`` (plain charges), ``spend`` (other charges, and reserves), ``settle`` (ends of
    reservations), ``resolve`` (finding keys by their ids or former secrets), ``admin``, ``touch`` (``last_used_at``)
    or ``catalogue``."""
    batch_sizes: Histogram = field(metadata={"read": _histogram})
    """How many calls shared a statement."""
    wait_micros: Histogram = field(metadata={"read": _histogram})
    """How long a call waited for each of its statements until it was sent. In microseconds."""
    statement_micros: Histogram = field(metadata={"read": _histogram})
    """How long a statement took, from when it was sent, whatever became of it. In microseconds."""


@dataclass(frozen=True)
class Stats(Result):
    """Counters of a client in this process, since its first call. Nothing in them names a key."""

    pending: int
    """Calls that wait or are under way."""
    statements: int
    """Statements sent."""
    retries: int
    """Statements that were tried again."""
    busy_rows: int
    """How often a row that calls needed was found locked by somebody else."""
    given_up_statements: int
    """Statements whose callers' time was over before the database answered."""
    failed_touches: int
    """Background writes of ``last_used_at`` that failed. They fail no call."""
    unchanged_keys: int
    """Keys looked up whose remembered row the database found unchanged."""
    calls: list[CallCount] = field(metadata={"read": lambda calls: [read(CallCount, call) for call in calls]})
    """What became of calls."""
    families: list[FamilyStats] = field(metadata={"read": lambda each: [read(FamilyStats, one) for one in each]})
    """Statements by what they are for. Those that were never sent are left out."""


@dataclass(frozen=True)
class LimitState(Result):
    """One of a key's limits, and what is used of it."""

    cents: int
    period: Optional[str] = None
    """``None`` is once for life."""
    when_exceeded: Literal["refuse", "disable"] = "refuse"
    used_cents: int = 0
    reserved_cents: int = 0
    remaining_cents: int = 0
    """Never below 0."""
    resets_at: Optional[datetime] = field(default=None, metadata=TIME)


@dataclass(frozen=True)
class KeyRecord(Money):
    """A key's row, without its secret."""

    id: Union[int, str]
    """``int`` where the column is of an integer type."""
    account_id: Union[int, str, None] = None
    user_id: Optional[str] = None
    name: str = "default"
    scopes: Optional[list[str]] = None
    """What it may do; ``None`` is everything."""
    budget_cents: Optional[int] = None
    budget_used_cents: int = 0
    budget_reserved_cents: int = 0
    budget_remaining_cents: Optional[int] = None
    """``None`` without a budget."""
    budget_period: Optional[str] = None
    budget_reset_at: Optional[datetime] = field(default=None, metadata=TIME)
    expires_at: Optional[datetime] = field(default=None, metadata=TIME)
    delegated_by: Optional[str] = None
    """The human who authorised it."""
    reason: Optional[Literal["revoked", "disabled", "expired", "budget_exceeded"]] = None
    """Why ``validate`` refuses it; ``None`` of a live one. Its ancestors count."""
    limits: list[LimitState] = field(
        default_factory=list, metadata={"read": lambda limits: [read(LimitState, limit) for limit in limits]}
    )
    """What it may spend in other periods beside its budget."""
    key_prefix: str = ""
    """The beginning of the secret, to tell keys apart."""
    parent_id: Union[int, str, None] = None
    external_subject: Optional[str] = None
    created_at: Optional[datetime] = field(default=None, metadata=TIME)
    last_used_at: Optional[datetime] = field(default=None, metadata=TIME)
    """To about a minute."""
    disabled_at: Optional[datetime] = field(default=None, metadata=TIME)
    """Since when it is switched off."""
    revoked_at: Optional[datetime] = field(default=None, metadata=TIME)
    previous_expires_at: Optional[datetime] = field(default=None, metadata=TIME)
    """Until when the secret before its last rotation counts; ``None`` if none does."""
    budget_boost_cents: Optional[int] = None
    """By how much the budget is raised now: part of ``budget_cents``. ``None`` if it is not."""
    budget_boost_until: Optional[datetime] = field(default=None, metadata=TIME)
    """Until when."""
    metadata: Union[dict[str, Any], str, None] = None
    """What the application keeps with it. What no reader of ours takes is a text."""
    budget_used_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)
    budget_remaining_microcents: Optional[int] = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Event(Result):
    """An entry of the ledger."""

    id: int
    at: datetime = field(metadata=TIME)
    key_id: Union[int, str]
    """The key whose budget it is."""
    account_id: Optional[str]
    kind: str
    """``create``, ``revoke``, ``charge``, ``reserve``, ``settle``, ``release``, ``expire``, ``reset``,
    ``refund``, ``update``, ``disable``, ``enable``; and alarms: ``threshold``."""
    amount_microcents: Optional[int] = None
    """How much was spent (``charge``, ``settle``), forgotten (``reset``: negative), held or given back."""
    used_after_microcents: Optional[int] = None
    reserved_after_microcents: Optional[int] = None
    remaining_after_microcents: Optional[int] = None
    """Negative if the budget is passed, ``None`` without one."""
    idempotency_key: Optional[str] = None
    reservation_id: Optional[str] = None
    via_key_id: Union[int, str, None] = None
    """The descendant that drew on this key; ``None`` if it was the key itself."""
    actor: Optional[str] = None
    """The human who authorised a key that was created."""
    metadata: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class OpenDelivery(Result):
    """A delivery to a webhook that is not done."""

    webhook: str
    event_id: int
    key_id: Union[int, str]
    kind: str
    attempts: int
    next_at: Optional[datetime] = field(default=None, metadata=TIME)
    """When it is tried again; ``None`` if it is dead."""
    dead_at: Optional[datetime] = field(default=None, metadata=TIME)
    error: Optional[str] = None
    """Why the last attempt failed."""


@dataclass(frozen=True)
class UsageOfPeriod(Result):
    """What a key spent in a period."""

    from_: datetime = field(metadata=TIME)
    """When the period began."""
    spent_microcents: int
    charges: int
    complete: bool = True
    """Whether the ledger knows all that was spent in it."""


@dataclass(frozen=True)
class Discrepancy(Result):
    """A key whose counters are not what the ledger says."""

    key_id: Union[int, str]
    used_microcents: int
    """What the key's row says is used."""
    ledger_microcents: int
    """What the ledger says is used."""
    reserved_microcents: int
    """What the key's row says is held."""
    held_microcents: int
    """What open reservations hold."""
