"""Arguments as JSON for the core: strict about types, so that a slip is an error and not another meaning. What values
may be is the core's to decide."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, Literal, Optional, Protocol, TypedDict, Union, runtime_checkable
from uuid import UUID

from ._data import camel

Id = Union[str, int, UUID]
Cents = Union[int, float, Decimal]
Usd = Union[str, int, float, Decimal]

_MOST = 2**63 - 1
# Whole cents below this are the same as a float.
MAX_PLAIN = 2**53


@dataclass(frozen=True)
class Subject:
    """The external subject of a row: a parent that has no key."""

    name: str


class _Cents(TypedDict):
    cents: int
    """What may be spent."""


class KeyLimit(_Cents, total=False):
    """What a key may spend in a period, beside its budget."""

    period: Optional[str]
    """How often it starts afresh: ``5m``, ``36h``, ``7d``, or a named period. None given is once for life."""
    when_exceeded: Literal["refuse", "disable"]
    """What a charge does that would pass it. ``disable``: it is refused, and the key switched off until somebody
    enables it."""


@runtime_checkable
class SqlAlchemyUrl(Protocol):
    """``sqlalchemy.URL``, which hides its password when it is printed."""

    def render_as_string(self, hide_password: bool = True) -> str: ...


@runtime_checkable
class PydanticDsn(Protocol):
    """``pydantic.PostgresDsn``."""

    def unicode_string(self) -> str: ...


Dsn = Union[str, SqlAlchemyUrl, PydanticDsn]


def dsn_text(dsn: Dsn) -> str:
    if isinstance(dsn, str):
        return dsn
    if isinstance(dsn, SqlAlchemyUrl):
        return dsn.render_as_string(hide_password=False)
    if isinstance(dsn, PydanticDsn):
        return dsn.unicode_string()
    raise _wrong("dsn", "str, a URL of SQLAlchemy or a PostgresDsn of pydantic", dsn)


class Unset:
    """An argument that was not given, where ``None`` means something."""

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final = Unset()


def request(op: str, **members: Any) -> str:
    """A request to the core: ``op`` is the method that the npm package names so."""
    return json.dumps(
        {"op": op, **{camel(name.rstrip("_")): value for name, value in members.items()}}, allow_nan=False
    )


def key_text(key: str) -> str:
    """A raw key. A text that is no Unicode (a lone surrogate) is nobody's key."""
    return text("key", key).encode("utf-8", "replace").decode()


def text(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "str", value)
    return value


def optional_text(name: str, value: Optional[str]) -> Optional[str]:
    return None if value is None else text(name, value)


def texts(name: str, value: Optional[Iterable[str]]) -> Optional[list[str]]:
    """Texts, but not the letters of a text."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise _wrong(name, "a sequence of str", value)
    return [text(f"each of {name}", item) for item in value]


def whole(name: str, value: Optional[int]) -> Optional[int]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "int", value)
    # One beyond 64 bits is refused with the message that the nearest one gets.
    return max(-_MOST, min(value, _MOST))


def count(name: str, value: int, least: int, most: int) -> int:
    number = whole(name, value)
    if number is None or not least <= number <= most:
        raise ValueError(f"{name} must be between {least} and {most}")
    return number


def seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, "a number of seconds", value)
    if not 0 <= value <= 86_400:
        raise ValueError(f"{name} must be between 0 and 86400 seconds")
    return value


def id_text(name: str, value: Id) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        raise _wrong(name, "str, int or UUID", value)
    return str(value)


def named(name: str, whose: Id) -> dict[str, str]:
    """The member that names a key: its raw key, its subject or its id."""
    if name == "key_id":
        return {name: id_text(name, whose)}
    if not isinstance(whose, str):
        raise _wrong(name, "str", whose)
    return {name: key_text(whose) if name == "key" else whose}


def grace(value: Union[str, int, timedelta]) -> Union[str, int]:
    """How long a secret that is replaced still counts."""
    return _lasting("grace", value)


def _lasting(name: str, value: Union[str, int, timedelta]) -> Union[str, int]:
    """How long something lasts."""
    if isinstance(value, timedelta):
        value = math.ceil(value.total_seconds())
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise _wrong(name, "str, int or timedelta", value)
    if isinstance(value, int) and not 0 <= value < _MOST:
        raise ValueError(f"{name} must not be negative, nor beyond all bounds")
    return value


def increase(
    cents: int, for_: Union[str, int, timedelta], reason: Optional[str], idempotency_key: Optional[str]
) -> dict[str, Any]:
    """What a key asks for."""
    return filter_of(
        cents=whole("cents", cents),
        for_=_lasting("for_", for_),
        reason=optional_text("reason", reason),
        idempotency_key=optional_text("idempotency_key", idempotency_key),
    )


def decision(
    approve: bool,
    by: str,
    cents: Optional[int],
    expires_in: Union[str, int, timedelta, None],
    decider: Optional[Id],
) -> dict[str, Any]:
    """Whether a budget is raised."""
    if not isinstance(approve, bool):
        raise _wrong("approve", "bool", approve)
    return filter_of(
        approve=approve,
        by=text("by", by),
        cents=None if cents is None else whole("cents", cents),
        expires_in=None if expires_in is None else _lasting("expires_in", expires_in),
        decider=optional_id("decider", decider),
    )


def optional_id(name: str, value: Optional[Id]) -> Optional[str]:
    return None if value is None else id_text(name, value)


def plain_cents(value: Cents) -> float:
    """A cost in cents, which the core reads by its shortest decimal form. One beyond all bounds is more than any
    budget."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise _wrong("cost_cents", "int, float or Decimal", value)
    if isinstance(value, float) or (isinstance(value, Decimal) and not value.is_finite()):
        return float(value)
    if not -_MOST < value < _MOST:
        return math.copysign(_MOST, value)
    cents = float(value)
    if isinstance(value, Decimal) and Decimal(repr(cents)) != value:
        raise ValueError("cost_cents has more digits than a float holds: give cost_microcents or cost_usd")
    return cents


def cost(cost_cents: Optional[Cents], cost_microcents: Optional[int], cost_usd: Optional[Usd]) -> dict[str, Any]:
    """A cost in the one form in which it is given."""
    if [cost_cents, cost_microcents, cost_usd].count(None) != 2:
        raise TypeError(
            'give the cost in one form: cost_cents=12, cost_microcents=12_000_000 or cost_usd="0.12" '
            "(a str, Decimal, int or float)"
        )
    if cost_microcents is not None:
        return {"cost_microcents": whole("cost_microcents", cost_microcents)}
    if cost_cents is not None:
        cents = plain_cents(cost_cents)
        # JSON has no number for these.
        odd = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        return {"cost_cents": odd.get(str(cents), cents)}
    return {"cost_usd": _usd(cost_usd)}


def optional_cost(
    cost_cents: Optional[Cents], cost_microcents: Optional[int], cost_usd: Optional[Usd]
) -> dict[str, Any]:
    """The same where no cost need be given."""
    if cost_cents is None and cost_microcents is None and cost_usd is None:
        return {}
    return cost(cost_cents, cost_microcents, cost_usd)


def _usd(value: Optional[Usd]) -> str:
    """Exactly as it is written; a float by its shortest decimal form."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise _wrong("cost_usd", "str, Decimal, int or float", value)
    return value if isinstance(value, str) else str(value)


def metadata(value: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    if value is not None and not isinstance(value, dict):
        raise _wrong("metadata", "dict", value)
    return value


def flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "bool", value)
    return value


def share(name: str, value: Optional[float]) -> Optional[float]:
    """A part of a whole."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, "float", value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number")
    return value


def account_of(account_id: Union[Id, Unset, None], parent: object) -> Optional[Id]:
    """The account of a new key: only a child's may be left open."""
    if not isinstance(account_id, Unset):
        return account_id
    if parent is None:
        raise TypeError("create() needs account_id or parent")
    return None


def new_key(  # noqa: PLR0917
    account_id: Optional[Id],
    user_id: Optional[str],
    scopes: Optional[Iterable[str]],
    budget_cents: Optional[int],
    budget_period: Optional[str],
    limits: Optional[Iterable[KeyLimit]],
    expires_in: Optional[str],
    delegated_by: Optional[str],
    name: Optional[str],
    kept: Optional[dict[str, Any]],
    parent: Union[Id, Subject, None],
) -> dict[str, Any]:
    """A key to create."""
    return {
        "accountId": optional_id("account_id", account_id),
        "userId": optional_text("user_id", user_id),
        "scopes": texts("scopes", scopes),
        "budgetCents": whole("budget_cents", budget_cents),
        "budgetPeriod": optional_text("budget_period", budget_period),
        "limits": None if limits is None else key_limits(limits),
        "expiresIn": optional_text("expires_in", expires_in),
        "delegatedBy": optional_text("delegated_by", delegated_by),
        "name": optional_text("name", name),
        "metadata": metadata(kept),
        "parent": _parent(parent),
    }


def _parent(parent: Union[Id, Subject, None]) -> Any:
    """Whether a text is an id or a raw key is the core's to decide."""
    if isinstance(parent, Subject):
        return {"subject": text("parent", parent.name)}
    if isinstance(parent, str) or parent is None:
        return parent
    return {"id": id_text("parent", parent)}


def key_limits(limits: Iterable[KeyLimit]) -> list[dict[str, Any]]:
    """Limits as the core reads them: it refuses members that it does not know."""
    if isinstance(limits, (str, Mapping)):
        raise TypeError("limits must be a list of dicts")
    listed = list(limits)
    if not all(isinstance(limit, Mapping) for limit in listed):
        raise TypeError("limits must be a list of dicts")
    return [{camel(name): value for name, value in limit.items()} for limit in listed]


def changes(  # noqa: PLR0917
    name: Union[str, Unset],
    scopes: Union[Iterable[str], Unset, None],
    budget_cents: Union[int, Unset, None],
    budget_period: Union[str, Unset, None],
    limits: Union[Iterable[KeyLimit], Unset],
    expires_in: Union[str, Unset, None],
    kept: Union[dict[str, Any], Unset, None],
) -> dict[str, Any]:
    """What is changed of a key: what is given, also as ``None``."""
    given: dict[str, Any] = {}
    if not isinstance(name, Unset):
        given["name"] = text("name", name)
    if not isinstance(scopes, Unset):
        given["scopes"] = texts("scopes", scopes)
    if not isinstance(budget_cents, Unset):
        given["budgetCents"] = whole("budget_cents", budget_cents)
    if not isinstance(budget_period, Unset):
        given["budgetPeriod"] = optional_text("budget_period", budget_period)
    if not isinstance(limits, Unset):
        given["limits"] = key_limits(limits)
    if not isinstance(expires_in, Unset):
        given["expiresIn"] = optional_text("expires_in", expires_in)
    if not isinstance(kept, Unset):
        given["metadata"] = metadata(kept)
    return given


def only_one(**values: Optional[Id]) -> dict[str, str]:
    """The only argument that was given, as a filter."""
    given = {camel(name): id_text(name, value) for name, value in values.items() if value is not None}
    if len(given) != 1:
        raise TypeError(f"give one of {', '.join(values)}")
    return given


def filter_of(**members: Any) -> dict[str, Any]:
    return {camel(name.rstrip("_")): value for name, value in members.items() if value is not None}


def time_text(name: str, value: Optional[datetime]) -> Optional[str]:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise _wrong(name, "datetime", value)
    if value.tzinfo is None:
        raise ValueError(f"{name} must have a time zone")
    return value.astimezone(timezone.utc).isoformat()


def seconds_of(age: timedelta) -> int:
    if not isinstance(age, timedelta):
        raise _wrong("older_than", "timedelta", age)
    seconds = int(age.total_seconds())
    if seconds < 0:
        raise ValueError("older_than must not be negative")
    return seconds


def snake_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Members of JSON as keyword arguments."""
    return {"".join("_" + c.lower() if c.isupper() else c for c in name): value for name, value in arguments.items()}


def _wrong(name: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{name} must be {expected}, not {type(value).__name__}")
