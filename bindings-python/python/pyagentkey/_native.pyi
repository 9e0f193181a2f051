# Generated from src/ by scripts/generate_stubs.sh: change the Rust.
"""
The native module.
"""

from typing import Any, Final, SupportsFloat, SupportsIndex, final

from _typeshed import Incomplete, SupportsGetItem
from typing_extensions import disjoint_base

__all__ = [
    "MOST_BODY_BYTES",
    "Answered",
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
    "command_line",
    "denial_reasons",
    "duration_seconds",
    "error_codes",
    "has_scope",
    "presented_key",
    "reservation_refusals",
    "reserve_refusals",
]

MOST_BODY_BYTES: Final[int]
__version__: Final[str]

@final
class Answered:
    """
    What became of a call, for who watches it.
    """
    @property
    def key_id(self, /) -> str | None:
        """
        The key, where the answer tells it.
        """
    @property
    def refusal(self, /) -> str | None:
        """
        Why it was refused, if it was.
        """

@disjoint_base
class Call:
    """
    A call that waits to be started, or runs.

    Python awaits it, not Rust: a thread that the ending interpreter stops in the middle of Python code must have no
    Rust below it, or the process aborts.
    """
    @property
    def __name__(self, /) -> str:
        """
        As of a coroutine: the method that was called.
        """
    def __new__(cls, /, client: Client, key: Any, cents: SupportsFloat | SupportsIndex | None = None) -> Call:
        """
        A look-up of a raw key, or a charge of one in cents, as an application's own call of a method. Nothing is done,
        or found wrong, before it is started.
        """
    @property
    def __qualname__(self, /) -> str: ...
    @property
    def driver(self, /) -> Any | None:
        """
        What it is driven with, if it is.
        """
    @driver.setter
    def driver(self, /, driver: Any) -> None: ...
    def taken(self, /) -> Call:
        """
        The same work in an object of its own. Nothing is left here.
        """

@final
class Client:
    """
    A client's options, checked.
    """
    def __new__(cls, /, dsn: str, options: Incomplete, password: Any | None) -> Client: ...
    def carry(self, /, exchange: Exchange) -> Call:
        """
        Makes the call that an exchange asks for; the exchange goes on by itself when it is answered.
        """
    def close(self, /, seconds: SupportsFloat | SupportsIndex) -> Call | None:
        """
        Later calls are refused; those under way are waited for so long. `None` where there is nothing to close.
        """
    def invalid_scopes(self, /, scopes: SupportsGetItem[int, str]) -> list[str]:
        """
        Those of `scopes` that new keys may not have.
        """
    def reports(self, /) -> list[str]:
        """
        Faults of this process that no caller was told of.
        """
    def stats(self, /) -> str:
        """
        Counters of this process, as JSON.
        """
    def submit(self, /, request: str) -> Call:
        """
        Any request, as JSON.
        """
    def wait(self, /, call: Call) -> Any:
        """
        Runs a call and waits for its result.
        """

@final
class Exchange:
    """
    A request on its way. Clones of it in Rust are the same request.
    """
    @property
    def answer(self, /) -> Answered | None:
        """
        What our own client answered last.
        """
    def call(self, /) -> str | None:
        """
        The call that is to be made, as a method and its arguments in JSON, for a double.
        """
    def charge(self, /, json: str | None) -> None:
        """
        The handler says what the request costs, as JSON.
        """
    def ended(
        self, /, *, began: bool, routed: str | None, status: SupportsIndex | None, threw: bool, completed: bool
    ) -> None:
        """
        Goes on with how the request ended.
        """
    def estimated(self, /, json: str | None) -> None:
        """
        Goes on with what the request may cost at most, as JSON.
        """
    def failed(self, /, code: str | None, message: str) -> None:
        """
        Goes on with why a call failed.
        """
    @property
    def operation(self, /) -> str | None:
        """
        What the call that is to be made asks of our own client, by the name that counters have.
        """
    def price_failed(self, /, why: str) -> None:
        """
        Goes on with why the application could not say it.
        """
    def priced(self, /, json: str | None) -> None:
        """
        Goes on with what the application says that the request did cost, as JSON.
        """
    def step(self, /) -> Step:
        """
        What to do now.
        """
    def told(self, /, json: str) -> None:
        """
        Goes on with what a double's method answered, as JSON.
        """

@final
class Guard:
    """
    What a handler requires of a caller, and what its requests cost.
    """
    def __new__(
        cls,
        /,
        *,
        scopes: SupportsGetItem[int, str],
        holds: bool,
        prices: bool,
        ttl: str,
        if_expired: str,
        bill_errors: bool,
        budget_headers: bool,
        exceeded_status: SupportsIndex,
        api_key_header: str | None,
    ) -> Guard: ...
    @property
    def api_key_header(self, /) -> str | None:
        """
        The name of the header that may hold the key, in lower case.
        """
    def begin(self, /, authorization: str | None, api_key: str | None, is_double: bool) -> Exchange:
        """
        Begins a request. `is_double`: the client is an application's own double.
        """

@final
class Mailbox:
    """
    Replies for one event loop, which watches `fileno()` and calls `take()`.

    Futures are Python's business: a thread that the ending interpreter stops in the middle of Python code must have no
    Rust below it, or the process aborts.
    """
    def __len__(self, /) -> int:
        """
        How many calls wait for their reply.
        """
    def __new__(cls, /) -> Mailbox: ...
    def cancel(self, /, call: Call) -> None:
        """
        Nobody waits for a call any more that was started here: what is not sent yet never will be.
        """
    def fileno(self, /) -> int:
        """
        Becomes readable when there are replies.
        """
    def start(self, /, call: Call, future: Any) -> bool:
        """
        Starts a call, whose reply is for this future. Not in a child of the process that made this, for the two would
        share the pipe: then it does nothing, and answers no.
        """
    def take(self, /) -> list[tuple[Any, Any | None, BaseException | None]]:
        """
        All replies that came.
        """

@final
class Response:
    """
    A response to send as it is.
    """
    @property
    def body(self, /) -> bytes: ...
    @property
    def fault(self, /) -> str | None:
        """
        What failed on this side, for the log.
        """
    @property
    def headers(self, /) -> list[tuple[str, str]]: ...
    @property
    def status(self, /) -> int: ...

@final
class Routes:
    """
    The self-serve routes.
    """
    def __new__(
        cls,
        /,
        *,
        signup: bool | None,
        signup_scopes: SupportsGetItem[int, str] | None,
        require_email_for_signup: bool,
        signup_rate_limit: tuple[SupportsIndex, SupportsIndex] | None,
        signup_account: str,
        signup_max_expires_in: str,
        signup_budget: tuple[SupportsIndex, str | None] | None,
        revoke_policy: str,
        manage: bool,
        api_key_header: str | None,
    ) -> Routes: ...
    @property
    def api_key_header(self, /) -> str | None:
        """
        The name of the header that may hold the key, in lower case.
        """
    def openapi(self, /) -> str:
        """
        The OpenAPI description of the routes that are served.
        """
    @property
    def opens_signup_unasked(self, /) -> bool:
        """
        Whether signup is open and nobody said that this is meant.
        """
    def visit(
        self,
        /,
        method: str,
        path: str,
        authorization: str | None,
        api_key: str | None,
        body: bytes,
        address: str | None,
        is_double: bool,
    ) -> Exchange:
        """
        Begins to serve a request. The path has the query with it.
        """

@final
class Step:
    """
    What a door does next.
    """
    @property
    def grant(self, /) -> Any | None:
        """
        Of a caller who may pass: the key.
        """
    @property
    def headers(self, /) -> list[tuple[str, str]]:
        """
        For the handler's response.
        """
    @property
    def kind(self, /) -> str:
        """
        `estimate`, `call`, `respond`, `pass`, `price` or `done`.
        """
    @property
    def message(self, /) -> str | None:
        """
        For the log.
        """
    @property
    def reservation(self, /) -> str | None:
        """
        What is held for the request, as JSON.
        """
    @property
    def response(self, /) -> Response | None:
        """
        To send.
        """

def bad_input_codes() -> list[str]:
    """
    The codes of errors that are the input's fault.
    """

def charge_refusals() -> list[str]:
    """
    Why charges are refused.
    """

def command_line(arguments: SupportsGetItem[int, str]) -> int:
    """
    Runs the command line with these arguments, without the program's name. Answers the process's exit code.
    """

def denial_reasons() -> list[str]:
    """
    Why keys are refused, in the order in which the reasons are checked.
    """

def duration_seconds(duration: str | None, /) -> int | None:
    """
    Seconds that a duration lasts; `None` if it is none.
    """

def error_codes() -> list[str]:
    """
    Every error code of the core.
    """

def has_scope(scopes: SupportsGetItem[int, str] | None, scope: str, wildcards: bool = False, /) -> bool:
    """
    Whether a key with these scopes may do `scope`; `None` is everything. With `wildcards`, `files:*` is whatever begins
    with `files:`.
    """

def presented_key(authorization: str | None, api_key: str | None, /) -> str | Response:
    """
    The key of an `Authorization` header, or of one that may hold a key, or the `Response` to a request without one.
    """

def reservation_refusals() -> list[str]:
    """
    Why reservations are not settled, released or extended.
    """

def reserve_refusals() -> list[str]:
    """
    Why nothing is reserved.
    """
