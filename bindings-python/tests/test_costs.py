"""Costs in every form, exactly; and what is no cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pyagentkey import AgentKey, AsyncAgentKey, InvalidInputError, Reservation, Settlement, Subject

from .support import Database, run


@pytest.mark.parametrize(
    ("cost", "microcents"),
    [
        ({"cost_usd": "0.000024"}, 2400),
        ({"cost_usd": "2.4e-05"}, 2400),
        ({"cost_usd": 2.4e-05}, 2400),
        ({"cost_usd": Decimal("2.4E-5")}, 2400),
        ({"cost_usd": Decimal("0.00002400")}, 2400),
        ({"cost_usd": 4.5e-7}, 45),
        ({"cost_usd": "4.5E-7"}, 45),
        ({"cost_usd": 1e-30}, 1),
        ({"cost_usd": "1e-999999999"}, 1),
        ({"cost_usd": 0.1}, 10_000_000),
        ({"cost_usd": 3}, 300_000_000),
        ({"cost_usd": "1e1"}, 1_000_000_000),
        ({"cost_usd": Decimal("1E+1")}, 1_000_000_000),
        # Floats would say otherwise.
        ({"cost_usd": Decimal("12345678.90123457")}, 1_234_567_890_123_457),
        ({"cost_cents": Decimal("0.042")}, 42_000),
        ({"cost_cents": 4.2e-2}, 42_000),
        ({"cost_microcents": 7}, 7),
    ],
)
def test_costs_are_exact(db: Database, cost: dict[str, Any], microcents: int) -> None:
    with AgentKey(db.url, rounding="exact") as ak:
        key = ak.create("acct").key
        assert ak.track_usage(key, **cost).or_raise().budget_used_microcents == microcents
        held = ak.reserve(key, **cost).or_raise()
        assert ak.settle(held.reservation_id, **cost).or_raise().cost_microcents == microcents


def test_a_decimal_of_cents_is_rounded_up_as_a_float_is(db: Database) -> None:
    with AgentKey(db.url) as ak:
        key = ak.create("acct").key
        assert ak.track_usage(key, Decimal("1.5")).or_raise().budget_used_cents == 2
        assert ak.track_usage(key, 1.5).or_raise().budget_used_cents == 4
        for odd in (Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), float("nan")):
            assert ak.track_usage(key, odd).reason == "invalid_cost"
        for much in (Decimal(10) ** 30, Decimal("1e999999")):
            assert ak.track_usage(key, much).reason == "budget_exceeded"
        for much_usd in (Decimal("1e999999999"), "1e999999999", 1e300):
            assert ak.track_usage(key, cost_usd=much_usd).reason == "budget_exceeded"


FORMS = "cost_cents=12, cost_microcents=12_000_000 or cost_usd="


@pytest.mark.parametrize(
    ("cost", "says"),
    [
        ({}, FORMS),
        ({"cost_cents": 1, "cost_usd": "1"}, FORMS),
        ({"cost_cents": 1, "cost_microcents": 1}, FORMS),
        ({"cost_cents": "1"}, "cost_cents must be int, float or Decimal, not str"),
        ({"cost_cents": True}, "cost_cents must be"),
        ({"cost_microcents": 1.5}, "cost_microcents must be int, not float"),
        ({"cost_usd": True}, "cost_usd must be str, Decimal, int or float, not bool"),
        ({"cost_usd": b"1"}, "cost_usd must be str, Decimal, int or float, not bytes"),
        ({"cost_usd": {"usd": 1}}, "cost_usd must be"),
    ],
)
def test_what_is_no_cost_is_refused_and_says_what_is_one(db: Database, cost: dict[str, Any], says: str) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url) as ak:
            for call in (ak.track_usage, ak.track_usage_by_subject, ak.reserve, ak.settle, ak.refund):
                with pytest.raises(TypeError) as error:
                    await call("1", **cost)
                assert says in str(error.value)

    run(main())
    with AgentKey(db.url) as ak, pytest.raises(TypeError):
        ak.track_usage("1", **cost)


@pytest.mark.parametrize(
    "usd", ["", "x", "1,5", "1e3.5", "$1", " 1", "NaN", float("nan"), float("inf"), Decimal("NaN")]
)
def test_dollars_that_cannot_be_read_are_refused(db: Database, usd: Any) -> None:
    with AgentKey(db.url) as ak:
        created = ak.create("acct")
        calls: Any = (
            (ak.track_usage, created.key),
            (ak.reserve, created.key),
            (ak.settle, "r"),
            (ak.refund, created.id),
        )
        for call, first in calls:
            with pytest.raises(InvalidInputError, match="such as") as error:
                call(first, cost_usd=usd)
            assert error.value.code == "invalid_cost"


def test_a_decimal_that_no_float_tells_is_refused(db: Database) -> None:
    with AgentKey(db.url) as ak, pytest.raises(ValueError, match="give cost_microcents or cost_usd"):
        ak.track_usage("ak_x", Decimal("123456789012.123456789"))


def test_settlements_are_exact(db: Database) -> None:
    with AgentKey(db.url) as ak:
        ak.ensure_subject("team", budget_cents=100)
        created = ak.create(parent=Subject("team"))
    with AgentKey(db.url, rounding="exact") as exact:
        held = exact.reserve(created.key, cost_usd=Decimal("0.011"), ttl="30s")
        assert isinstance(held, Reservation) and held.budget_reserved_cents == 2
        settled = exact.settle(held.reservation_id, cost_usd="0.00001")
        assert isinstance(settled, Settlement)
        assert (settled.cost, settled.budget_used, settled.cost_microcents) == (
            Decimal("0.001"),
            Decimal("0.001"),
            1000,
        )
        assert eval(repr(settled.to_dict())) == settled.to_dict()
        with pytest.raises(TypeError):
            exact.revoke_all()
        with pytest.raises(ValueError):
            exact.track_usage(created.key, 1, overrun="perhaps")  # type: ignore[arg-type]
        assert not exact.settle("nonsense", 1)
        assert exact.revoke_all(delegated_by="nobody") == 0
