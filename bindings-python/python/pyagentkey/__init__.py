"""Scoped, budgeted, expiring API keys for AI agents, on your own Postgres.

>>> from pyagentkey import AsyncAgentKey
>>> async def example(dsn: str) -> None:
...     async with AsyncAgentKey(dsn) as ak:
...         created = await ak.create("acct_1", scopes=["search"], budget_cents=500, budget_period="day")
...         grant = await ak.validate(created.key)
...         if grant and grant.has_scope("search"):
...             await ak.track_usage(created.key, 12)
"""

from ._async import AsyncAgentKey
from ._base import (
    ExtendResult,
    ReleaseResult,
    ReserveResult,
    SettleResult,
    Subject,
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
)
from ._native import (
    Created,
    Denial,
    Discrepancy,
    Event,
    Extended,
    FinishRefusal,
    Grant,
    Limit,
    Released,
    Reservation,
    ReserveRefusal,
    ScopeCheck,
    Settlement,
    Stats,
    Usage,
    UsageOfPeriod,
    UsageRefusal,
    __version__,
    has_scope,
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
    "ExtendResult",
    "Extended",
    "FinishRefusal",
    "Grant",
    "InvalidInputError",
    "Limit",
    "MigrationRequiredError",
    "OverloadedError",
    "ReleaseResult",
    "Released",
    "Reservation",
    "ReserveRefusal",
    "ReserveResult",
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
