"""Expectations of the shared cases: references to kept values, matchers, and the comparison."""

from __future__ import annotations

import json
import re
from typing import Any, Optional

Kept = dict[str, Any]


class Problem(Exception):
    """A failure in words."""


def members(fields: Any, required: list[str], optional: list[str]) -> dict[str, Any]:
    """Takes the named members; any other is a mistake in the case."""
    if not isinstance(fields, dict):
        raise Problem(f"not an object: {fields!r}")
    for name in fields:
        if name not in required and name not in optional:
            raise Problem(f"unknown member {name!r}")
    for name in required:
        if name not in fields:
            raise Problem(f"lacks {name!r}")
    return fields


def is_matcher(value: Any) -> bool:
    return isinstance(value, dict) and any(name.startswith("$") for name in value)


def resolve(value: Any, kept: Kept) -> Any:
    """Puts kept values where `value` refers to them."""
    if isinstance(value, str) and value.startswith("$"):
        return value[1:] if value.startswith("$$") else look_up(value[1:], kept)
    if isinstance(value, list):
        return [resolve(item, kept) for item in value]
    if isinstance(value, dict) and not is_matcher(value):
        return {name: resolve(member, kept) for name, member in value.items()}
    return value


def look_up(path: str, kept: Kept) -> Any:
    found: Any = kept
    for member in path.split("."):
        if not isinstance(found, dict) or member not in found:
            raise Problem(f"nothing was kept as ${path}")
        found = found[member]
    return found


def fill(sql: str, table: str, kept: Kept, value: Optional[list[Any]] = None) -> str:
    """Replaces the marks of SQL."""
    filled = sql.replace("{table}", table)
    if value is not None:
        filled = filled.replace("{value}", literal(value[0]))
    return re.sub(r"\{\$([^}]*)\}", lambda mark: literal(look_up(mark[1], kept)), filled)


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    text = value if isinstance(value, str) else json.dumps(value)
    return "'" + text.replace("'", "''") + "'"


class Comparison:
    """What differs, and the conditions that the database has to check: where, the SQL, the actual value."""

    def __init__(self, expected: Any, actual: Any, whole: bool) -> None:
        self.differences: list[str] = []
        self.conditions: list[tuple[str, str, Any]] = []
        self._whole = whole
        self._compare("", expected, actual)

    def differ(self, at: str, expected: str, actual: Any) -> None:
        self.differences.append(f"  {at.lstrip('.') or 'the result'}: expected {expected}, got {actual!r}")

    def _compare(self, at: str, expected: Any, actual: Any) -> None:
        if is_matcher(expected):
            self._match(at, expected, actual)
        elif isinstance(expected, dict) and isinstance(actual, dict):
            for name, member in expected.items():
                if name in actual:
                    self._compare(f"{at}.{name}", member, actual[name])
                else:
                    self.differ(f"{at}.{name}", repr(member), "nothing")
            for name in actual:
                if self._whole and name not in expected:
                    self.differ(f"{at}.{name}", "nothing", actual[name])
        elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
            for n, (one, other) in enumerate(zip(expected, actual)):
                self._compare(f"{at}[{n}]", one, other)
        elif type(expected) is not type(actual) or expected != actual:
            self.differ(at, repr(expected), actual)

    def _match(self, at: str, matcher: dict[str, Any], actual: Any) -> None:
        if matcher == {"$any": True}:
            if actual is None:
                self.differ(at, "anything", actual)
        elif list(matcher) == ["$sql"] and isinstance(matcher["$sql"], str):
            self.conditions.append((at, matcher["$sql"], actual))
        else:
            self.differences.append(f"  {at or 'the result'}: unknown matcher {matcher!r}")
