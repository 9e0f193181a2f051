"""The shared cases of the self-serve routes (tests/cases/routes), over real HTTP, through FastAPI and plain ASGI. Every
answer must be one that the OpenAPI description has."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any, Callable

import httpx
import pytest

from pyagentkey import AgentKey, AsyncAgentKey

from .apps import asgi_app, fastapi_app
from .openapi import check_answer, description_of
from .server import serving
from .support import ROOT, Database

Case = dict[str, Any]
Names = dict[str, dict[str, str]]
Make = Callable[..., Any]

OPTIONS = {"manage": "manage", "signup": "signup", "signupScopes": "signup_scopes"}
OPTIONS |= {"signupRateLimit": "signup_rate_limit"}
KEYS = {"scopes": "scopes", "name": "name", "budgetCents": "budget_cents", "budgetPeriod": "budget_period"}
KEYS |= {"expiresIn": "expires_in", "metadata": "metadata"}
WRONG_ON_PURPOSE = pytest.mark.xfail(raises=AssertionError, strict=True, reason="this case is wrong on purpose")


def cases() -> Iterator[Case]:
    for path in sorted((ROOT / "tests" / "cases" / "routes").glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        assert file["cases"], path
        for case in file["cases"]:
            yield {"options": file.get("options", {}), **case}


EVERY = [
    pytest.param(make, case, id=f"{name}: {case['name']}", marks=[WRONG_ON_PURPOSE] * ("mustFail" in case))
    for name, make in (("fastapi", fastapi_app), ("asgi", asgi_app))
    for case in cases()
]


@pytest.fixture(scope="module")
def ak(db: Database) -> Iterator[AgentKey]:
    with AgentKey(db.url) as client:
        client.migrate()
        yield client


def fill(names: Names, text: str) -> str:
    return re.sub(r"\{(\w+)\.(id|key)\}", lambda found: names[found[1]][found[2]], text)


def compare(names: Names, expected: Any, got: Any, at: str = "") -> None:
    """Objects may have more members than expected."""
    if isinstance(expected, dict) and "~" in expected:
        assert re.search(expected["~"], got), at
    elif isinstance(expected, dict):
        assert expected.keys() <= got.keys(), at
        for name, member in expected.items():
            compare(names, member, got[name], f"{at}.{name}")
    elif isinstance(expected, list):
        assert len(expected) == len(got), (at, got)
        for number, (one, other) in enumerate(zip(expected, got)):
            compare(names, one, other, f"{at}[{number}]")
    elif isinstance(expected, str) and expected.startswith("{"):
        assert fill(names, expected) == str(got), at
    else:
        assert expected == got, at


def take(http: httpx.Client, step: dict[str, Any], names: Names, description: dict[str, Any]) -> None:
    assert step.keys() <= {"as", "send", "body", "status", "answer", "lacks", "keep"}
    method, path = step["send"].split(" ")
    headers = {"Authorization": f"Bearer {names[step['as']]['key']}"} if "as" in step else {}
    content = json.dumps(step["body"]) if "body" in step else None
    response = http.request(method, fill(names, path), headers=headers, content=content)
    status = step.get("status", 200)
    assert response.status_code in (status if isinstance(status, list) else [status]), (step, response.text)
    check_answer(description, method, path, response)
    if "answer" in step:
        compare(names, step["answer"], response.json())
    for text in step.get("lacks", ()):
        assert fill(names, text) not in response.text
    if "keep" in step:
        names[step["keep"]] = {"id": str(response.json()["id"]), "key": response.json()["key"]}


@pytest.mark.parametrize(("make", "case"), EVERY)
def test_case(db: Database, ak: AgentKey, make: Make, case: Case) -> None:
    assert case.keys() <= {"name", "mustFail", "options", "keys", "sql", "hold", "steps"}
    names: Names = {}
    for spec in case.get("keys", ()):
        options = {KEYS[name]: value for name, value in spec.items() if name not in ("as", "accountId", "parent")}
        if "parent" in spec:
            options["parent"] = names[spec["parent"]]["id"]
        made = ak.create(spec["accountId"], **options)
        names[spec["as"]] = {"id": str(made.id), "key": made.key}
    for sql in case.get("sql", ()):
        asyncio.run(db.run(fill(names, sql)))
    for hold in case.get("hold", ()):
        assert ak.reserve(names[hold["as"]]["key"], hold["cents"])
    behind = AsyncAgentKey(db.url, pool_size=2)
    options = {OPTIONS[name]: value for name, value in case["options"].items()}
    try:
        with serving(make(behind, options=options)) as http:
            for step in case["steps"]:
                take(http, step, names, description_of(options))
    finally:
        asyncio.run(behind.close())
