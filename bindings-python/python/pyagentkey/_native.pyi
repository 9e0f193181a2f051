from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Generic, Literal, Optional, TypeVar, Union, final
from uuid import UUID

_T = TypeVar("_T")
_Id = Union[str, int, UUID]
_DenialReason = Literal["invalid", "revoked", "disabled", "expired", "budget_exceeded"]
_ChargeRefusal = Literal["invalid_cost", "invalid_key", "budget_exceeded"]

__all__ = [
    "Call",
    "Client",
    "Created",
    "Denial",
    "Grant",
    "Guard",
    "Limit",
    "Mailbox",
    "Pass",
    "Response",
    "Routes",
    "ScopeCheck",
    "Stats",
    "Usage",
    "UsageRefusal",
    "__version__",
    "after_fork_in_child",
    "bad_input_codes",
    "charge_refusals",
    "denial_reasons",
    "duration_seconds",
    "error_codes",
    "has_scope",
    "presented_key",
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
    def budget_reserved_cents(self) -> int: ...
    @property
    def budget_remaining_cents(self) -> Optional[int]: ...
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
    """A charge that is recorded, or was free."""

    __match_args__: Final = ("success", "budget_used_cents", "budget_remaining_cents")
    success: Literal[True]
    reason: None
    @property
    def budget_used_cents(self) -> Optional[int]:
        """With this charge; None if it was free."""
    @property
    def budget_remaining_cents(self) -> Optional[int]:
        """None without a budget."""
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
    ) -> Call[None]: ...
    def validate(self, key: str) -> Call[Union[Grant, Denial]]: ...
    def validate_by_subject(self, subject: str) -> Call[Union[Grant, Denial]]: ...
    def track_usage(self, key: str, cost_cents: Union[int, float]) -> Call[Union[Usage, UsageRefusal]]: ...
    def track_usage_by_subject(
        self, subject: str, cost_cents: Union[int, float]
    ) -> Call[Union[Usage, UsageRefusal]]: ...
    def revoke(self, key_id: _Id) -> Call[bool]: ...
    def revoke_of_account(self, key_id: _Id, account_id: Optional[_Id]) -> Call[bool]: ...
    def migrate(self) -> Call[None]: ...
    def close(self) -> Optional[Call[None]]: ...
    def wait(self, call: Call[_T]) -> _T: ...
    def validate_scopes(self, scopes: Iterable[str]) -> ScopeCheck: ...
    def stats(self) -> Stats: ...
    def admit(self, guard: Guard, authorization: Optional[str]) -> Call[Union[Pass, Response]]: ...
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
def duration_seconds(duration: Optional[str], /) -> Optional[int]: ...
def has_scope(scopes: Optional[Iterable[str]], scope: str, /) -> bool:
    """Whether a key with these scopes may do `scope`; `None` is everything."""

def presented_key(authorization: Optional[str], /) -> Union[str, Response]: ...
def after_fork_in_child() -> None: ...
