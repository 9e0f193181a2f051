"""Faults. Refusals (an exceeded budget, a revoked key) are values, raised only by ``or_raise()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from . import _native

if TYPE_CHECKING:
    from ._results import Limit


class AgentKeyError(Exception):
    """What went wrong. ``code`` is a stable string for programs, the same in every language."""

    def __init__(
        self,
        code: str,
        message: str,
        sqlstate: Optional[str] = None,
        may_have_been_recorded: bool = False,
        transient: bool = False,
    ) -> None:
        super().__init__(code, message, sqlstate, may_have_been_recorded, transient)
        self.code = code
        self.message = message
        self.sqlstate = sqlstate
        """Postgres's own code, where the database sent one."""
        self.may_have_been_recorded = may_have_been_recorded
        """Whether the call may have been recorded although it failed. If so, a charge that is repeated without an
        idempotency key may be recorded twice."""
        self.transient = transient
        """Whether the same call may succeed a little later: a lost connection, a restart, too many calls."""

    def __str__(self) -> str:
        return self.message


class RefusedError(Exception):
    """A refusal, raised by its ``or_raise()``. It is no fault: the call was made, and the answer is no."""

    def __init__(self, refusal: Any) -> None:
        super().__init__(refusal)
        self.refusal = refusal
        """What the call answered: a :class:`Denial`, a :class:`UsageRefusal`, a :class:`ReserveRefusal` or a
        :class:`ReservationRefusal`."""

    @property
    def reason(self) -> str:
        """Why."""
        reason: str = self.refusal.reason
        return reason

    @property
    def limit(self) -> Optional[Limit]:
        """The budget that stands in the way, where that is the reason and known."""
        return getattr(self.refusal, "limit", None)

    def __str__(self) -> str:
        return self.reason


class InvalidInputError(AgentKeyError, ValueError):
    """An argument is no good, and nothing was written; the message names it."""


class MigrationRequiredError(AgentKeyError):
    """The table lacks what this call needs: call ``migrate()``."""


class OverloadedError(AgentKeyError):
    """Too many calls wait; nothing was sent."""


class CallTimeoutError(AgentKeyError, TimeoutError):
    """No answer in time. ``may_have_been_recorded`` tells whether the call was sent."""


class ClosedError(AgentKeyError):
    """The client was closed."""


class DatabaseError(AgentKeyError):
    """The database, or the way to it, failed."""


CLASSES: dict[str, type[AgentKeyError]] = {
    **{code: InvalidInputError for code in _native.bad_input_codes()},
    "migration_required": MigrationRequiredError,
    "overloaded": OverloadedError,
    "timeout": CallTimeoutError,
    "closed": ClosedError,
    "database": DatabaseError,
    "unexpected_response": DatabaseError,
}


def error_of(
    code: str, message: str, sqlstate: Optional[str], may_have_been_recorded: bool, transient: bool
) -> AgentKeyError:
    """The exception for an error of the native module."""
    cls = CLASSES.get(code, AgentKeyError)
    return cls(code, message, sqlstate, may_have_been_recorded, transient)
