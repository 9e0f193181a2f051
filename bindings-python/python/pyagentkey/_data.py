"""What results are made of: dataclasses that JSON is read into, and that are true or false."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timezone
from decimal import Decimal
from functools import cache
from typing import Any, Callable, Final, Literal, NoReturn, Optional, TypeVar

from ._errors import RefusedError

R = TypeVar("R", bound="Result")
Y = TypeVar("Y", bound="Yes")

Reader = Callable[[Any], Any]


def _time(text: Optional[str]) -> Optional[datetime]:
    if text is None:
        return None
    try:
        # Python 3.9 knows no Z.
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)
    except ValueError:
        # Later than datetime can tell.
        return datetime.max.replace(tzinfo=timezone.utc)


# What is known of members: which a result may lack, and how those are read that JSON has no type for.
OPTIONAL: Final[Mapping[str, Any]] = {"optional": True}
TIME: Final[Mapping[str, Any]] = {"read": _time}


class Result:
    """What all results share."""

    def to_dict(self) -> dict[str, Any]:
        """The members as a new dict. What a result lacks is not in it, as not in the JSON of the other languages."""
        members = {}
        cls: Any = type(self)
        for name, external, is_optional, _ in _members(cls):
            value = getattr(self, name)
            if not is_optional or not (value is None or value is False or value == []):
                members[external] = _plain(value)
        return members


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.to_dict() if isinstance(value, Result) else value


@cache
def _members(cls: Any) -> list[tuple[str, str, bool, Optional[Reader]]]:
    """Of each member: its name, its name outside, whether a result may lack it, how it is read. Constants first."""
    return [
        (one.name, one.name.rstrip("_"), one.metadata.get("optional", False), one.metadata.get("read"))
        for one in sorted(fields(cls), key=lambda one: one.init)
    ]


def camel(name: str) -> str:
    """A name as JSON has it."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


@cache
def _arguments(cls: Any) -> list[tuple[str, str, Optional[Reader]]]:
    arguments = {one.name for one in fields(cls) if one.init}
    return [(name, camel(external), read) for name, external, _, read in _members(cls) if name in arguments]


def read(cls: type[R], data: Mapping[str, Any]) -> R:
    """A result as its JSON tells it."""
    members = {}
    hashable: Any = cls
    for name, key, reader in _arguments(hashable):
        if key in data:
            members[name] = data[key] if reader is None else reader(data[key])
    return cls(**members)


class Money(Result):
    """A budget, as far as a result tells of it."""

    @property
    def budget_used(self) -> Optional[Decimal]:
        """In cents, exactly."""
        return self._cents("budget_used")

    @property
    def budget_remaining(self) -> Optional[Decimal]:
        """In cents, exactly; ``None`` without a budget."""
        return self._cents("budget_remaining")

    def _cents(self, name: str) -> Optional[Decimal]:
        """With the fraction, where it is told."""
        microcents, cents = getattr(self, f"{name}_microcents"), getattr(self, f"{name}_cents")
        if microcents is None:
            return None if cents is None else Decimal(cents)
        return (Decimal(microcents) / 1_000_000).normalize() + 0


class Yes:
    """A result of a call that did what was asked."""

    def __bool__(self) -> Literal[True]:
        return True

    @property
    def reason(self) -> None:
        """Refusals have one."""
        return None

    def or_raise(self: Y) -> Y:
        """The result itself. A refusal raises a :class:`RefusedError`."""
        return self


class No:
    """A refusal."""

    def __bool__(self) -> Literal[False]:
        return False

    def or_raise(self) -> NoReturn:
        """Raises the refusal, as a :class:`RefusedError`."""
        raise RefusedError(self)
