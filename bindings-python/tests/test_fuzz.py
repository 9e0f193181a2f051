"""Requests that schemathesis makes up from the OpenAPI description, at an app that runs: none is answered with a 500
or in a way that the description does not have. ``make fuzz-http`` makes up many; here there are a few."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from pyagentkey import AgentKey, AsyncAgentKey

from .apps import fastapi_app
from .server import bearer, serving
from .support import Database

schemathesis = pytest.importorskip("schemathesis", reason="needs Python 3.10")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = int(os.environ.get("AGENTKEY_FUZZ_EXAMPLES", "15"))
IS_LONG = "AGENTKEY_FUZZ_EXAMPLES" in os.environ
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def ak(db: Database) -> Iterator[AgentKey]:
    with AgentKey(db.url) as client:
        client.migrate()
        yield client


KINDS: list[dict[str, Any]] = [
    {},
    {"scopes": ["read"], "budget_cents": 100, "budget_period": "day", "expires_in": "1d"},
    {"scopes": ["admin"], "budget_cents": 0},
]


def test_what_is_made_up_is_answered_as_described(db: Database, ak: AgentKey) -> None:
    statuses: set[tuple[str, str, int]] = set()
    with serving(fastapi_app(AsyncAgentKey(db.url), options={"manage": True, "signup_scopes": ["read"]})) as http:
        schema = schemathesis.openapi.from_url(str(http.base_url.join("/openapi.json")))
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) == 13
        for operation in operations:
            for mode in MODES:

                @settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    database=None,
                    derandomize=not IS_LONG,
                    suppress_health_check=[
                        HealthCheck.too_slow,
                        HealthCheck.filter_too_much,
                        HealthCheck.data_too_large,
                    ],
                )
                @given(data=st.data(), case=operation.as_strategy(generation_mode=mode), kind=st.sampled_from(KINDS))
                def answered(data: Any, case: Any, kind: dict[str, Any]) -> None:
                    # What was made up before may have revoked everything.
                    key = ak.create("a", **kind)
                    child = ak.create("a", parent=key.id, expires_in="1h", scopes=[])
                    if "id" in (case.path_parameters or {}) and data.draw(st.integers(0, 3)):
                        case.path_parameters["id"] = str(data.draw(st.sampled_from([child.id, child.id, key.id, 1])))
                    response = case.call(headers=bearer(key.key))
                    # An id with a slash in it leads past the routes: that is FastAPI's answer.
                    if response.status_code in (404, 405) and "detail" in response.json():
                        return
                    case.validate_response(response, checks=CHECKS)
                    statuses.add((case.method.lower(), case.operation.path, response.status_code))

                answered()
    # It came far enough to do each of them.
    done = {(method, path) for method, path, status in statuses if status in (200, 201)}
    assert len(done) >= 8, sorted(statuses)
