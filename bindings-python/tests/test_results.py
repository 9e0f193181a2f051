"""Results, errors and options, where a shared case cannot say it."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, get_args, get_type_hints
from uuid import UUID, uuid4

import pytest

import pyagentkey
from pyagentkey import (
    AgentKey,
    AgentKeyError,
    AsyncAgentKey,
    ClosedError,
    Created,
    DatabaseError,
    Denial,
    Grant,
    InvalidInputError,
    MigrationRequiredError,
    Reservation,
    ReservationRefusal,
    ReserveRefusal,
    Usage,
    UsageRefusal,
    _errors,
    _native,
)

from .support import Database, run


def test_results_are_typed_frozen_and_equal_by_value(db: Database) -> None:
    with AgentKey(db.url) as ak:
        created = ak.create("acct", scopes=["read"], budget_cents=10, budget_period="day", expires_in="7d")
        one, other = ak.validate(created.key), ak.validate(created.key)
        assert isinstance(created, Created)
        assert isinstance(one, Grant)
        assert one == other and one is not other
        assert one and one.valid is True and one.reason is None
        assert one.has_scope("read") and not one.has_scope("write")
        assert ak.has_scope(one, "read") and not ak.has_scope(one, "write")
        assert one.expires_at is not None and one.expires_at.tzinfo is timezone.utc
        assert one.budget_reset_at is not None
        assert one.expires_at - one.budget_reset_at == timedelta(days=6)
        assert one.to_dict()["budget_remaining_cents"] == 10
        with pytest.raises(AttributeError):
            one.name = "other"  # type: ignore[misc]
        with pytest.raises(TypeError):
            hash(one)

        usage = ak.track_usage(created.key, 10)
        assert isinstance(usage, Usage) and usage
        assert usage == Usage(10, 0, budget_used_microcents=10_000_000, budget_remaining_microcents=0)
        assert usage.to_dict()["budget_remaining_microcents"] == 0
        refusal = ak.track_usage(created.key, 1)
        assert isinstance(refusal, UsageRefusal) and not refusal
        assert refusal.to_dict() == {"success": False, "reason": "budget_exceeded"}
        assert ak.track_usage(created.key, 0).to_dict() == {"success": True}

        denial = ak.validate(created.key)
        assert isinstance(denial, Denial) and not denial and not ak.has_scope(denial, "read")
        assert denial.limit is not None and denial.limit.used_cents == 10
        assert denial.to_dict()["limit"]["key_id"] == created.id
        assert ak.validate("ak_x").to_dict() == {"valid": False, "reason": "invalid"}
        check = ak.validate_scopes(["read"])
        assert check and check.to_dict() == {"valid": True}


def test_no_secret_is_shown(db: Database) -> None:
    url = db.url.replace("postgres@", "postgres:hunter2@")
    with AgentKey(url) as ak:
        created = ak.create("acct", budget_cents=5)
        shown = [repr(created), repr(ak), repr(ak.validate(created.key)), repr(ak.track_usage(created.key, 9))]
        with pytest.raises(AgentKeyError) as error:
            ak.create("acct", name="a\0b")
        shown.append(repr(error.value))
    secret = created.key.removeprefix("ak_") if hasattr(str, "removeprefix") else created.key[3:]
    for text in shown:
        assert secret not in text and "hunter2" not in text
    assert "<secret>" in repr(created)


def test_every_error_code_has_a_class() -> None:
    assert set(_native.error_codes()) == set(_errors.CLASSES)
    for code, cls in _errors.CLASSES.items():
        error = _errors.error_of(code, "message", "12345", True, True)
        assert type(error) is cls and isinstance(error, AgentKeyError)
        for one in (error, pickle.loads(pickle.dumps(error))):
            facts = (one.code, str(one), one.sqlstate, one.may_have_been_recorded, one.transient)
            assert (type(one), *facts) == (cls, code, "message", "12345", True, True)
    assert issubclass(InvalidInputError, ValueError)
    assert issubclass(pyagentkey.CallTimeoutError, TimeoutError)


@pytest.mark.parametrize(
    ("result", "reasons"),
    [
        (Denial, _native.denial_reasons),
        (UsageRefusal, _native.charge_refusals),
        (ReserveRefusal, _native.reserve_refusals),
        (ReservationRefusal, _native.reservation_refusals),
    ],
)
def test_reasons_are_those_of_the_core(result: Any, reasons: Any) -> None:
    assert list(get_args(get_type_hints(result)["reason"])) == reasons()


def test_what_the_native_module_makes_is_what_json_says(db: Database) -> None:
    """Look-ups and charges do not travel as JSON. Their classes are the same all the same."""
    roundings: list[Literal["up", "exact"]] = ["up", "exact"]
    for rounding in roundings:
        with AgentKey(db.url, rounding=rounding) as ak:
            ak.ensure_subject(
                f"s-{rounding}", user_id="u", scopes=["a"], budget_cents=9, budget_period="day", expires_in="1d",
                delegated_by="h", name="n",
            )  # fmt: skip
            held = ak.reserve_by_subject(f"s-{rounding}", 2)
            assert isinstance(held, Reservation)
            assert ak.track_usage_by_subject(f"s-{rounding}", cost_microcents=3_500_000)
            fast = ak.validate_by_subject(f"s-{rounding}")
            again = ak.reserve_by_subject(f"s-{rounding}", 1)
            assert isinstance(again, Reservation) and again.grant == fast
            assert again.grant.budget_used == Decimal("3.5")


def test_the_native_module_sets_all_that_the_class_would(db: Database) -> None:
    with AgentKey(db.url) as ak:
        key = ak.create("acct", budget_cents=10).key
        for made in (ak.validate(key), ak.track_usage(key, 1)):
            assert isinstance(made, (Grant, Usage))
            members = {one.name: one.default for one in dataclasses.fields(made) if one.init}
            assert vars(made).keys() <= members.keys()
            assert {members[name] for name in members.keys() - vars(made).keys()} <= {None}


def test_results_can_be_made_compared_and_taken_apart() -> None:
    grant = Grant(7, "acct", scopes=["read"])
    assert grant == Grant(id=7, account_id="acct", scopes=["read"]) != Grant(8, "acct", scopes=["read"])
    assert grant.has_scope("read") and grant.to_dict()["valid"] is True
    assert Denial("expired") == Denial("expired") and not Denial("expired")
    assert dataclasses.replace(grant, name="other").name == "other"
    assert Grant.__doc__ and Grant.has_scope.__doc__
    held = Reservation("r", datetime.now(timezone.utc), grant)
    assert grant.holding(held).reservation is held and grant.reservation is None
    assert grant.holding(held) == grant


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"table_name": "a;b"}, InvalidInputError),
        ({"key_prefix": "ä"}, InvalidInputError),
        ({"pool_size": 0}, ValueError),
        ({"pool_size": "1"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"max_waiting": -1}, ValueError),
        ({"touch_interval_seconds": -1}, ValueError),
        ({"touch_interval_seconds": 10**30}, (ValueError, OverflowError)),
        ({"valid_scopes": "read"}, TypeError),
        ({"valid_scopes": [1]}, TypeError),
        ({"align": "moon"}, ValueError),
        ({"accepted_periods": None}, TypeError),
        ({"pooler": "yes"}, TypeError),
        ({"close_timeout": -1}, ValueError),
        ({"close_timeout": float("nan")}, ValueError),
        ({"close_timeout": "10"}, TypeError),
        ({"on_error": "log"}, TypeError),
        ({"password": "secret"}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
@pytest.mark.parametrize("make", [AgentKey, AsyncAgentKey])
def test_bad_options_are_refused_at_once(make: Any, options: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        make("postgresql://", **options)


BAD_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("validate", (None,), {}, TypeError),
    ("validate", (b"ak_x",), {}, TypeError),
    ("validate", (1,), {}, TypeError),
    ("validate", (), {}, TypeError),
    ("validate_by_subject", (None,), {}, TypeError),
    ("track_usage", ("ak_x", None), {}, TypeError),
    ("track_usage", ("ak_x", "1"), {}, TypeError),
    ("track_usage", ("ak_x", True), {}, TypeError),
    ("track_usage", ("ak_x", 1j), {}, TypeError),
    ("track_usage", (None, 1), {}, TypeError),
    ("create", (), {}, TypeError),
    ("create", (1.5,), {}, TypeError),
    ("create", (True,), {}, TypeError),
    ("create", ("a",), {"scopes": "read"}, TypeError),
    ("create", ("a",), {"scopes": [None]}, TypeError),
    ("create", ("a",), {"scopes": 1}, TypeError),
    ("create", ("a",), {"budget_cents": 1.0}, TypeError),
    ("create", ("a",), {"budget_cents": "1"}, TypeError),
    ("create", ("a",), {"budget_cents": False}, TypeError),
    ("create", ("a",), {"budget_cents": -1}, InvalidInputError),
    ("create", ("a",), {"budget_cents": 10**30}, InvalidInputError),
    ("create", ("a",), {"budget_cents": -(10**30)}, InvalidInputError),
    ("create", ("a",), {"budget_period": "fortnight"}, InvalidInputError),
    ("create", ("a",), {"expires_in": "soon"}, InvalidInputError),
    ("create", ("a",), {"expires_in": 5}, TypeError),
    ("create", ("a",), {"name": "a\0"}, InvalidInputError),
    ("create", ("a\0",), {}, InvalidInputError),
    ("create", ("\ud800",), {}, ValueError),
    ("create", ("a",), {"user_id": 5}, TypeError),
    ("create", ("a",), {"unknown": 5}, TypeError),
    ("ensure_subject", ("",), {}, InvalidInputError),
    ("ensure_subject", (None,), {}, TypeError),
    ("revoke", (None,), {}, TypeError),
    ("revoke", (1.0,), {}, TypeError),
    ("revoke", (1, 1.5), {}, TypeError),
    ("validate_scopes", ("read",), {}, TypeError),
    ("validate_scopes", (None,), {}, TypeError),
]


@pytest.mark.parametrize(("method", "arguments", "options", "error"), BAD_CALLS)
def test_bad_input_is_refused_and_nothing_is_written(
    db: Database, method: str, arguments: tuple[Any, ...], options: dict[str, Any], error: Any
) -> None:
    async def main() -> None:
        rows = "SELECT count(*) FROM sdk_api_keys"
        before = await db.text(rows)
        async with AsyncAgentKey(db.url, valid_scopes=["read"], pool_size=1) as ak:
            with pytest.raises(error):
                result = getattr(ak, method)(*arguments, **options)
                await result
        with AgentKey(db.url, valid_scopes=["read"], pool_size=1) as blocking, pytest.raises(error):
            getattr(blocking, method)(*arguments, **options)
        assert await db.text(rows) == before

    run(main())


def test_odd_input_that_is_no_error(db: Database) -> None:
    with AgentKey(db.url) as ak:
        for key in ("", "\ud800", "ak_\0", "x" * 100_000, "é"):
            assert ak.validate(key).reason == "invalid"
            assert ak.track_usage(key, 1).reason == "invalid_key"
        key = ak.create("acct", budget_cents=5).key
        assert ak.track_usage(key, 10**30).reason == "budget_exceeded"
        assert ak.track_usage(key, -(10**30)).to_dict() == {"success": True}
        for cost in (float("nan"), float("inf"), float("-inf")):
            assert ak.track_usage(key, cost).reason == "invalid_cost"
        assert ak.track_usage(key, 1.5).to_dict()["budget_used_cents"] == 2
        assert ak.create(7, name="é🔑").id
        assert ak.create(uuid4()).id
        for unknown in ("52abc", UUID(int=0), 10**30, -1, "", "\0"):
            assert ak.revoke(unknown) is False


def test_a_closed_client_says_so(db: Database) -> None:
    ak = AgentKey(db.url)
    ak.validate("ak_x")
    ak.close()
    ak.close()
    with pytest.raises(ClosedError):
        ak.validate("ak_x")

    async def main() -> None:
        never_used = AsyncAgentKey(db.url)
        await never_used.close()
        with pytest.raises(ClosedError):
            await never_used.validate("ak_x")

    run(main())


def test_faults_are_errors_with_a_code(empty_db: Database) -> None:
    with AgentKey(empty_db.url) as ak, pytest.raises(MigrationRequiredError) as missing:
        ak.create("acct")
    assert missing.value.code == "migration_required"
    with AgentKey(empty_db.url.replace(empty_db.name, "nowhere")) as ak, pytest.raises(DatabaseError) as error:
        ak.validate("ak_x")
    assert (error.value.code, error.value.sqlstate) == ("database", "3D000")
