"""Scoped, budgeted, expiring API keys for AI agents, on your own Postgres.

>>> from pyagentkey import AsyncAgentKey
>>> async def example(dsn: str) -> None:
...     async with AsyncAgentKey(dsn) as ak:
...         created = await ak.create("acct_1", scopes=["search"], budget_cents=500, budget_period="day")
...         grant = await ak.validate(created.key)
...         if grant and grant.has_scope("search"):
...             await ak.track_usage(created.key, 12)
"""

from ._arguments import KeyLimit, Subject
from ._async import AsyncAgentKey
from ._base import (
    ExtendResult,
    IncreaseResult,
    ReleaseResult,
    ReserveResult,
    RotateResult,
    SettleResult,
    TrackUsageResult,
    ValidateResult,
    expiry_from_duration,
)
from ._errors import (
    AgentKeyError,
    CallTimeoutError,
    ClosedError,
    DatabaseError,
    InvalidInputError,
    MigrationRequiredError,
    OverloadedError,
    RefusedError,
)
from ._native import __version__, has_scope
from ._results import (
    Created,
    Denial,
    Discrepancy,
    Event,
    ExplainedLimit,
    Explanation,
    Extended,
    Grant,
    Hold,
    Holds,
    Increase,
    IncreaseRecorded,
    IncreaseRefusal,
    KeyRecord,
    Limit,
    LimitState,
    OpenDelivery,
    Released,
    Reservation,
    ReservationRefusal,
    ReserveRefusal,
    Rotated,
    RotateRefusal,
    ScopeCheck,
    Settlement,
    Stats,
    Usage,
    UsageOfPeriod,
    UsageRefusal,
)
from ._sync import AgentKey

__all__ = [
    "AgentKey",
    "AgentKeyError",
    "AsyncAgentKey",
    "CallTimeoutError",
    "ClosedError",
    "Created",
    "DatabaseError",
    "Denial",
    "Discrepancy",
    "Event",
    "ExplainedLimit",
    "Explanation",
    "ExtendResult",
    "Extended",
    "Grant",
    "Hold",
    "Holds",
    "Increase",
    "IncreaseRecorded",
    "IncreaseRefusal",
    "IncreaseResult",
    "InvalidInputError",
    "KeyLimit",
    "KeyRecord",
    "Limit",
    "LimitState",
    "MigrationRequiredError",
    "OpenDelivery",
    "OverloadedError",
    "RefusedError",
    "ReleaseResult",
    "Released",
    "Reservation",
    "ReservationRefusal",
    "ReserveRefusal",
    "ReserveResult",
    "RotateRefusal",
    "RotateResult",
    "Rotated",
    "ScopeCheck",
    "SettleResult",
    "Settlement",
    "Stats",
    "Subject",
    "TrackUsageResult",
    "Usage",
    "UsageOfPeriod",
    "UsageRefusal",
    "ValidateResult",
    "__version__",
    "expiry_from_duration",
    "has_scope",
]
