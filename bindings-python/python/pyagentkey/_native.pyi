from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Generic, Literal, Optional, TypeVar, Union, final
from uuid import UUID

_T = TypeVar("_T")
_Id = Union[str, int, UUID]
_DenialReason = Literal["invalid", "revoked", "disabled", "expired", "budget_exceeded"]
_ChargeRefusal = Literal["invalid_cost", "invalid_key", "budget_exceeded", "idempotency_conflict"]
_ReserveRefusal = Literal[
    "invalid_cost", "invalid_key", "disabled", "expired", "budget_exceeded", "idempotency_conflict"
]
_FinishRefusal = Literal["invalid_cost", "unknown_reservation", "released", "settled", "expired"]
_Cents = Union[int, float]
_Usd = Union[str, Decimal, None]

__all__ = [
    "Call",
    "Client",
    "Created",
    "Denial",
    "Discrepancy",
    "Event",
    "Extended",
    "FinishRefusal",
    "Grant",
    "Guard",
    "Limit",
    "Mailbox",
    "Pass",
    "Released",
    "Reservation",
    "ReserveRefusal",
    "Response",
    "Routes",
    "ScopeCheck",
    "Settlement",
    "Stats",
    "Usage",
    "UsageOfPeriod",
    "UsageRefusal",
    "__version__",
    "after_fork_in_child",
    "bad_input_codes",
    "charge_refusals",
    "denial_reasons",
    "duration_seconds",
    "error_codes",
    "finish_refusals",
    "has_scope",
    "presented_key",
    "reserve_refusals",
]

__version__: Final[str]

@final
class Grant:
    """A live key: what it may do and spend."""

    __match_args__: Final = (
        "valid",
        "id",
        "account_id",
        "user_id",
        "scopes",
        "budget_cents",
        "budget_used_cents",
        "budget_reserved_cents",
        "budget_remaining_cents",
        "budget_period",
        "budget_reset_at",
        "expires_at",
        "delegated_by",
        "name",
        "budget_used_microcents",
        "budget_remaining_microcents",
    )
    # The members that tell the results of one call apart are no properties: type checkers narrow by them.
    valid: Literal[True]
    reason: None
    @property
    def id(self) -> Union[int, str]:
        """The key's row: int where the column is of an integer type."""
    @property
    def account_id(self) -> Union[int, str, None]:
        """Whose key it is: int where the column is INTEGER."""
    @property
    def user_id(self) -> Optional[str]: ...
    @property
    def scopes(self) -> Optional[list[str]]:
        """What it may do; None is everything."""
    @property
    def budget_cents(self) -> Optional[int]:
        """The budget of a period, or for life; None is no budget."""
    @property
    def budget_used_cents(self) -> int: ...
    @property
    def budget_remaining_cents(self) -> Optional[int]:
        """None without a budget."""
    @property
    def budget_used_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_remaining_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_used(self) -> Decimal:
        """In cents, exactly."""
    @property
    def budget_remaining(self) -> Optional[Decimal]:
        """In cents, exactly; None without a budget."""
    @property
    def budget_reserved_cents(self) -> int: ...
    @property
    def reservation(self) -> Optional[Reservation]:
        """What is held for the request, behind a dependency or an app that reserves."""
    @property
    def budget_period(self) -> Optional[str]: ...
    @property
    def budget_reset_at(self) -> Optional[datetime]: ...
    @property
    def expires_at(self) -> Optional[datetime]: ...
    @property
    def delegated_by(self) -> Optional[str]:
        """The human who authorised the key."""
    @property
    def name(self) -> str: ...
    def has_scope(self, scope: str, /) -> bool:
        """Whether the key may do `scope`."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[True]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Denial:
    """A refused key: false."""

    __match_args__: Final = ("valid", "reason", "limit")
    valid: Literal[False]
    reason: _DenialReason
    @property
    def limit(self) -> Optional[Limit]:
        """The budget that is used up, where that is the reason."""
    def has_scope(self, scope: str, /) -> Literal[False]:
        """A refused key may do nothing."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[False]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Limit:
    """A budget that stands in the way."""

    __match_args__: Final = ("key_id", "budget_cents", "used_cents", "reserved_cents", "resets_at")
    @property
    def key_id(self) -> Union[int, str]: ...
    @property
    def budget_cents(self) -> int: ...
    @property
    def used_cents(self) -> int: ...
    @property
    def reserved_cents(self) -> int: ...
    @property
    def resets_at(self) -> Optional[datetime]:
        """When it starts afresh, if it does."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Usage:
    """A charge that is recorded."""

    __match_args__: Final = (
        "success",
        "budget_used_cents",
        "budget_remaining_cents",
        "over_budget",
        "overage_cents",
        "budget_used_microcents",
        "budget_remaining_microcents",
        "replayed",
    )
    success: Literal[True]
    reason: None
    @property
    def over_budget(self) -> bool:
        """Whether it was recorded past the budget."""
    @property
    def overage_cents(self) -> Optional[int]:
        """By how much the use is above the budget then."""
    @property
    def replayed(self) -> bool:
        """Whether it was recorded earlier, under the same idempotency key."""
    @property
    def budget_used_cents(self) -> Optional[int]:
        """With this charge; None if it was free."""
    @property
    def budget_remaining_cents(self) -> Optional[int]:
        """None without a budget."""
    @property
    def budget_used_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_remaining_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_used(self) -> Optional[Decimal]:
        """In cents, exactly."""
    @property
    def budget_remaining(self) -> Optional[Decimal]:
        """In cents, exactly; None without a budget."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[True]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class UsageRefusal:
    """A refused charge: false."""

    __match_args__: Final = ("success", "reason")
    success: Literal[False]
    reason: _ChargeRefusal
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[False]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Reservation:
    """An amount that is held."""

    __match_args__: Final = (
        "success",
        "reservation_id",
        "expires_at",
        "budget_used_cents",
        "budget_remaining_cents",
        "budget_reserved_cents",
        "budget_used_microcents",
        "budget_remaining_microcents",
        "replayed",
    )
    success: Literal[True]
    reason: None
    @property
    def reservation_id(self) -> str:
        """Names it to settle, release and extend."""
    @property
    def expires_at(self) -> datetime:
        """When it gives its amount back by itself."""
    @property
    def budget_reserved_cents(self) -> int: ...
    @property
    def replayed(self) -> bool:
        """Whether it was made earlier, under the same idempotency key."""
    @property
    def budget_used_cents(self) -> int: ...
    @property
    def budget_remaining_cents(self) -> Optional[int]:
        """None without a budget."""
    @property
    def budget_used_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_remaining_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_used(self) -> Decimal:
        """In cents, exactly."""
    @property
    def budget_remaining(self) -> Optional[Decimal]:
        """In cents, exactly; None without a budget."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[True]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class ReserveRefusal:
    """A refused reserve: false."""

    __match_args__: Final = ("success", "reason", "limit")
    success: Literal[False]
    reason: _ReserveRefusal
    @property
    def limit(self) -> Optional[Limit]:
        """The budget that has no room, where that is the reason."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[False]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Settlement:
    """A settled reservation."""

    __match_args__: Final = (
        "success",
        "cost_cents",
        "overage_cents",
        "budget_used_cents",
        "budget_remaining_cents",
        "cost_microcents",
        "budget_used_microcents",
        "budget_remaining_microcents",
        "replayed",
    )
    success: Literal[True]
    reason: None
    @property
    def cost_cents(self) -> int: ...
    @property
    def cost_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def cost(self) -> Decimal:
        """In cents, exactly."""
    @property
    def overage_cents(self) -> int:
        """By how much that is more than was held."""
    @property
    def replayed(self) -> bool:
        """Whether it was settled earlier: this is what that did."""
    @property
    def budget_used_cents(self) -> int: ...
    @property
    def budget_remaining_cents(self) -> Optional[int]:
        """None without a budget."""
    @property
    def budget_used_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_remaining_microcents(self) -> Optional[int]:
        """Of an exact client."""
    @property
    def budget_used(self) -> Decimal:
        """In cents, exactly."""
    @property
    def budget_remaining(self) -> Optional[Decimal]:
        """In cents, exactly; None without a budget."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[True]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Released:
    """A reservation that is released, or ended otherwise before."""

    __match_args__: Final = ("success", "released")
    success: Literal[True]
    reason: None
    @property
    def released(self) -> bool:
        """Whether an amount was given back."""
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[True]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Extended:
    """A reservation that lives longer."""

    __match_args__: Final = ("success", "expires_at")
    success: Literal[True]
    reason: None
    @property
    def expires_at(self) -> datetime: ...
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[True]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class FinishRefusal:
    """A reservation that was not settled, released or extended: false."""

    __match_args__: Final = ("success", "reason")
    success: Literal[False]
    reason: _FinishRefusal
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> Literal[False]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Event:
    """An entry of the ledger."""

    __match_args__: Final = (
        "id",
        "at",
        "key_id",
        "account_id",
        "kind",
        "amount_microcents",
        "used_after_microcents",
        "reserved_after_microcents",
        "remaining_after_microcents",
        "idempotency_key",
        "reservation_id",
        "via_key_id",
        "actor",
        "metadata",
    )
    @property
    def id(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def key_id(self) -> Union[int, str]: ...
    @property
    def account_id(self) -> Optional[str]: ...
    @property
    def kind(self) -> str: ...
    @property
    def amount_microcents(self) -> Optional[int]: ...
    @property
    def used_after_microcents(self) -> Optional[int]: ...
    @property
    def reserved_after_microcents(self) -> Optional[int]: ...
    @property
    def remaining_after_microcents(self) -> Optional[int]: ...
    @property
    def idempotency_key(self) -> Optional[str]: ...
    @property
    def reservation_id(self) -> Optional[str]: ...
    @property
    def via_key_id(self) -> Union[int, str, None]:
        """The descendant that drew on this key; None if it was the key itself."""
    @property
    def actor(self) -> Optional[str]:
        """The human who authorised a key that was created."""
    @property
    def metadata(self) -> Optional[dict[str, Any]]: ...
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class UsageOfPeriod:
    """What a key spent in a period."""

    __match_args__: Final = ("from_", "spent_microcents", "charges")
    @property
    def from_(self) -> datetime: ...
    @property
    def spent_microcents(self) -> int: ...
    @property
    def charges(self) -> int: ...
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Discrepancy:
    """A key whose counters are not what the ledger says."""

    __match_args__: Final = (
        "key_id",
        "used_microcents",
        "ledger_microcents",
        "reserved_microcents",
        "held_microcents",
    )
    @property
    def key_id(self) -> Union[int, str]: ...
    @property
    def used_microcents(self) -> int: ...
    @property
    def ledger_microcents(self) -> int: ...
    @property
    def reserved_microcents(self) -> int: ...
    @property
    def held_microcents(self) -> int: ...
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Created:
    """A new key, with its secret."""

    __match_args__: Final = ("key", "id", "scopes", "budget_cents", "budget_period", "expires_at")
    @property
    def key(self) -> str:
        """The secret: hand it to its owner, keep it nowhere."""
    @property
    def id(self) -> Union[int, str]: ...
    @property
    def scopes(self) -> Optional[list[str]]: ...
    @property
    def budget_cents(self) -> Optional[int]: ...
    @property
    def budget_period(self) -> Optional[str]: ...
    @property
    def expires_at(self) -> Optional[datetime]: ...
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict, the secret among them."""
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class ScopeCheck:
    """Whether scopes are ones that keys may have: false if not."""

    __match_args__: Final = ("valid", "invalid")
    @property
    def valid(self) -> bool: ...
    @property
    def invalid(self) -> list[str]: ...
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __bool__(self) -> bool: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Stats:
    """Counters."""

    __match_args__: Final = ("statements", "pending", "retries", "failed_touches")
    @property
    def statements(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def retries(self) -> int: ...
    @property
    def failed_touches(self) -> int: ...
    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict."""
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

@final
class Call(Generic[_T]):
    def cancel(self) -> None: ...

@final
class Mailbox:
    def __new__(cls) -> Mailbox: ...
    def fileno(self) -> int: ...
    def start(self, call: Call[Any]) -> int: ...
    def take(self) -> list[tuple[int, Any, Optional[BaseException]]]: ...

@final
class Guard:
    def __new__(cls, *, scope: Optional[str], budget_headers: bool) -> Guard: ...

@final
class Pass:
    @property
    def grant(self) -> Grant: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...

@final
class Response:
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def fault(self) -> Optional[str]: ...

@final
class Routes:
    def __new__(
        cls,
        *,
        signup_scopes: Optional[Iterable[str]],
        require_email_for_signup: bool,
        signup_rate_limit: Optional[tuple[int, int]],
        signup_account: str,
        signup_max_expires_in: str,
        signup_budget: Optional[tuple[int, Optional[str]]],
        revoke_policy: str,
    ) -> Routes: ...

@final
class Client:
    def __new__(
        cls,
        dsn: str,
        *,
        pool_size: int,
        table_name: str,
        key_prefix: str,
        valid_scopes: Optional[Iterable[str]],
        accepted_periods: str,
        align: str,
        ledger: bool,
        rounding: str,
        timeout: float,
        max_waiting: int,
        touch_interval_seconds: int,
        pooler: bool,
    ) -> Client: ...
    def create(
        self,
        account_id: Optional[_Id],
        user_id: Optional[str],
        scopes: Optional[Iterable[str]],
        budget_cents: Optional[int],
        budget_period: Optional[str],
        expires_in: Optional[str],
        delegated_by: Optional[str],
        name: Optional[str],
        parent: Any,
    ) -> Call[Created]: ...
    def ensure_subject(
        self,
        subject: str,
        account_id: Optional[_Id],
        user_id: Optional[str],
        scopes: Optional[Iterable[str]],
        budget_cents: Optional[int],
        budget_period: Optional[str],
        expires_in: Optional[str],
        delegated_by: Optional[str],
        name: Optional[str],
        parent: Any,
    ) -> Call[None]: ...
    def validate(self, key: str) -> Call[Union[Grant, Denial]]: ...
    def validate_by_subject(self, subject: str) -> Call[Union[Grant, Denial]]: ...
    def track_usage(
        self,
        key: str,
        cost_cents: Optional[_Cents],
        cost_microcents: Optional[int],
        cost_usd: _Usd,
        idempotency_key: Optional[str],
        overrun: str,
        metadata: Optional[dict[str, Any]],
    ) -> Call[Union[Usage, UsageRefusal]]: ...
    def track_usage_by_subject(
        self,
        subject: str,
        cost_cents: Optional[_Cents],
        cost_microcents: Optional[int],
        cost_usd: _Usd,
        idempotency_key: Optional[str],
        overrun: str,
        metadata: Optional[dict[str, Any]],
    ) -> Call[Union[Usage, UsageRefusal]]: ...
    def reserve(
        self,
        key: str,
        cost_cents: Optional[_Cents],
        cost_microcents: Optional[int],
        cost_usd: _Usd,
        ttl: str,
        idempotency_key: Optional[str],
        metadata: Optional[dict[str, Any]],
    ) -> Call[Union[Reservation, ReserveRefusal]]: ...
    def reserve_by_subject(
        self,
        subject: str,
        cost_cents: Optional[_Cents],
        cost_microcents: Optional[int],
        cost_usd: _Usd,
        ttl: str,
        idempotency_key: Optional[str],
        metadata: Optional[dict[str, Any]],
    ) -> Call[Union[Reservation, ReserveRefusal]]: ...
    def settle(
        self,
        reservation_id: str,
        cost_cents: Optional[_Cents],
        cost_microcents: Optional[int],
        cost_usd: _Usd,
    ) -> Call[Union[Settlement, FinishRefusal]]: ...
    def release(self, reservation_id: str) -> Call[Union[Released, FinishRefusal]]: ...
    def extend(self, reservation_id: str, ttl: str) -> Call[Union[Extended, FinishRefusal]]: ...
    def sweep_reservations(self) -> Call[int]: ...
    def revoke_all(self, by: str, value: _Id) -> Call[int]: ...
    def events(
        self,
        key_id: Optional[_Id],
        account_id: Optional[_Id],
        kind: Optional[str],
        before: Optional[int],
        limit: int,
    ) -> Call[list[Event]]: ...
    def usage(
        self, key_id: _Id, from_: Optional[datetime], to: Optional[datetime], by: str
    ) -> Call[list[UsageOfPeriod]]: ...
    def verify_ledger(self, key_id: Optional[_Id]) -> Call[list[Discrepancy]]: ...
    def prune_events(self, older_than_seconds: int) -> Call[int]: ...
    def revoke(self, key_id: _Id) -> Call[bool]: ...
    def revoke_of_account(self, key_id: _Id, account_id: Optional[_Id]) -> Call[bool]: ...
    def migrate(self) -> Call[None]: ...
    def close(self) -> Optional[Call[None]]: ...
    def wait(self, call: Call[_T]) -> _T: ...
    def validate_scopes(self, scopes: Iterable[str]) -> ScopeCheck: ...
    def stats(self) -> Stats: ...
    def admit(
        self, guard: Guard, authorization: Optional[str], reserve_cents: Optional[_Cents], ttl: str
    ) -> Call[Union[Pass, Response]]: ...
    def serve(
        self,
        routes: Routes,
        method: str,
        path: str,
        authorization: Optional[str],
        body: bytes,
        address: Optional[str],
    ) -> Optional[Call[Response]]: ...

def error_codes() -> list[str]: ...
def bad_input_codes() -> list[str]: ...
def denial_reasons() -> list[str]: ...
def charge_refusals() -> list[str]: ...
def reserve_refusals() -> list[str]: ...
def finish_refusals() -> list[str]: ...
def duration_seconds(duration: Optional[str], /) -> Optional[int]: ...
def has_scope(scopes: Optional[Iterable[str]], scope: str, /) -> bool:
    """Whether a key with these scopes may do `scope`; `None` is everything."""

def presented_key(authorization: Optional[str], /) -> Union[str, Response]: ...
def after_fork_in_child() -> None: ...
