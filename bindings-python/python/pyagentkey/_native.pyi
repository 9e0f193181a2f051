from typing import Any, Final, Generic, Literal, Optional, TypeVar, Union, final

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

__all__ = [
    "Call",
    "Client",
    "Exchange",
    "Guard",
    "Mailbox",
    "Response",
    "Routes",
    "Step",
    "__version__",
    "bad_input_codes",
    "charge_refusals",
    "denial_reasons",
    "duration_seconds",
    "error_codes",
    "has_scope",
    "presented_key",
    "reservation_refusals",
    "reserve_refusals",
]

__version__: Final[str]

@final
class Call(Generic[_T_co]):
    """A call that waits to be started, or runs."""

    def cancel(self) -> None:
        """Nobody waits for it any more: what is not sent yet never will be."""

@final
class Mailbox:
    """Replies for one event loop, which watches `fileno()` and calls `take()`."""

    def __new__(cls) -> Mailbox: ...
    def fileno(self) -> int:
        """Becomes readable when there are replies."""
    def start(self, call: Call[Any]) -> int:
        """Starts a call. Answers the token that its reply will have."""
    def take(self) -> list[tuple[int, Any, Optional[BaseException]]]:
        """All replies that came."""

@final
class Client:
    """Options, checked, and the client that is made of them when the first call needs it, in each process."""

    def __new__(cls, dsn: str, options: dict[str, Any]) -> Client: ...
    def submit(self, request: str) -> Call[Any]:
        """Any request, as JSON."""
    def validate(self, key: str) -> Call[Any]:
        """Looks a raw key up."""
    def charge(self, key: str, cents: float) -> Call[Any]:
        """Charges a raw key."""
    def carry(self, exchange: Exchange) -> Call[None]:
        """Makes the call that an exchange asks for; the exchange goes on by itself when it is answered."""
    def close(self, seconds: float) -> Optional[Call[None]]:
        """`None` where there is nothing to close. Later calls are refused."""
    def wait(self, call: Call[_T]) -> _T:
        """Runs a call and waits for its result."""
    def invalid_scopes(self, scopes: list[str]) -> list[str]:
        """Those of `scopes` that new keys may not have."""
    def stats(self) -> dict[str, int]:
        """Counters of this process, by name."""

@final
class Guard:
    """What a handler requires of a caller, and what its requests cost."""

    def __new__(
        cls,
        *,
        scope: Optional[str],
        holds: bool,
        prices: bool,
        ttl: str,
        bill_errors: bool,
        budget_headers: bool,
    ) -> Guard: ...
    def begin(self, authorization: Optional[str], is_double: bool) -> Exchange:
        """Begins a request. `is_double`: the client is an application's own double."""

@final
class Exchange:
    """A request on its way."""

    def step(self) -> Step:
        """What to do now."""
    def call(self) -> Optional[str]:
        """The call that is to be made, as a method and its arguments in JSON, for a double."""
    def told(self, json: str) -> None:
        """Goes on with what a double's method answered, as JSON."""
    def failed(self, code: Optional[str], message: str) -> None:
        """Goes on with why a call failed."""
    def estimated(self, json: Optional[str]) -> None:
        """Goes on with what the request may cost at most, as JSON."""
    def ended(self, *, ran: bool, status: Optional[int], threw: bool, completed: bool) -> None:
        """Goes on with how the request ended."""
    def priced(self, json: Optional[str]) -> None:
        """Goes on with what the application says that the request did cost, as JSON."""
    def price_failed(self, why: str) -> None:
        """Goes on with why the application could not say it."""

@final
class Step:
    """What a door does next."""

    @property
    def kind(self) -> Literal["estimate", "call", "respond", "pass", "price", "done", "verify"]: ...
    @property
    def response(self) -> Optional[Response]: ...
    @property
    def grant(self) -> Any: ...
    @property
    def reservation(self) -> Optional[str]: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def message(self) -> Optional[str]: ...

@final
class Response:
    """A response to send as it is."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def fault(self) -> Optional[str]:
        """What failed on this side, for the log."""

@final
class Routes:
    """The self-serve routes."""

    def __new__(
        cls,
        *,
        signup_scopes: Optional[list[str]],
        require_email_for_signup: bool,
        signup_rate_limit: Optional[tuple[int, int]],
        signup_account: str,
        signup_max_expires_in: str,
        signup_budget: Optional[tuple[int, Optional[str]]],
        revoke_policy: str,
    ) -> Routes: ...
    def visit(
        self,
        method: str,
        path: str,
        authorization: Optional[str],
        body: bytes,
        address: Optional[str],
        is_double: bool,
    ) -> Optional[Exchange]:
        """Begins to serve a request; `None` if the routes have no such path."""

def bad_input_codes() -> list[str]:
    """The codes of errors that are the input's fault."""

def charge_refusals() -> list[str]:
    """Why charges are refused."""

def denial_reasons() -> list[str]:
    """Why keys are refused, in the order in which the reasons are checked."""

def duration_seconds(duration: Optional[str], /) -> Optional[int]:
    """Seconds that a duration lasts; `None` if it is none."""

def error_codes() -> list[str]:
    """Every error code of the core."""

def has_scope(scopes: Optional[list[str]], scope: str, /) -> bool:
    """Whether a key with these scopes may do `scope`; `None` is everything."""

def presented_key(authorization: Optional[str], /) -> Union[str, Response]:
    """The key of an `Authorization` header, or the `Response` to a request without one."""

def reservation_refusals() -> list[str]:
    """Why reservations are not settled, released or extended."""

def reserve_refusals() -> list[str]:
    """Why nothing is reserved."""
