"""The HTTP policy, through FastAPI and through ASGI alone, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from pyagentkey import AgentKey, AsyncAgentKey
from pyagentkey.asgi import KeyRoutes
from pyagentkey.fastapi import create_router, require_key

from .apps import Key, asgi_app, fastapi_app
from .server import bearer, seen, serving
from .support import Database

Make = Callable[..., Any]
DAY = 86_400


both = pytest.mark.parametrize("make", [fastapi_app, asgi_app])


@pytest.fixture(scope="module")
def ak(db: Database) -> Iterator[AgentKey]:
    """What the tests themselves ask."""
    with AgentKey(db.url) as client:
        yield client


@both
def test_no_key(make: Make, db: Database) -> None:
    with serving(make(AsyncAgentKey(db.url))) as http:
        for authorization in (None, "", "Bearer", "Basic abc", "Bearerabc"):
            response = http.get("/", headers={} if authorization is None else {"Authorization": authorization})
            assert seen(response) == (401, {"error": "Missing API key"})
            assert response.headers["www-authenticate"] == 'Bearer realm="agentkey"'


@both
def test_a_key_that_is_invalid_revoked_or_expired(make: Make, db: Database, ak: AgentKey) -> None:
    revoked = ak.create("a")
    assert ak.revoke(revoked.id)
    expired = ak.create("a", expires_in="0h")
    with serving(make(AsyncAgentKey(db.url))) as http:
        for key, error in (("ak_none", "invalid"), (revoked.key, "revoked"), (expired.key, "expired")):
            response = http.get("/", headers=bearer(key))
            assert seen(response) == (401, {"error": error})
            assert 'error="invalid_token"' in response.headers["www-authenticate"]


@both
def test_a_budget_that_is_used_up(make: Make, db: Database, ak: AgentKey) -> None:
    key = ak.create("a", budget_cents=1, budget_period="day").key
    assert ak.track_usage(key, 1)
    with serving(make(AsyncAgentKey(db.url))) as http:
        response = http.get("/", headers=bearer(key))
        assert seen(response) == (429, {"error": "budget_exceeded"})
        assert DAY - 600 < int(response.headers["retry-after"]) <= DAY
        # It may still look at itself, and end itself.
        me = http.get("/sdk-keys/me", headers=bearer(key))
        assert (me.status_code, me.json()["budgetRemainingCents"]) == (200, 0)
        assert seen(http.delete(f"/sdk-keys/{me.json()['id']}", headers=bearer(key))) == (200, {"revoked": True})
        assert seen(http.get("/", headers=bearer(key))) == (401, {"error": "revoked"})


@both
def test_the_scope(make: Make, db: Database, ak: AgentKey) -> None:
    with serving(make(AsyncAgentKey(db.url), scope="write")) as http:
        answers = [
            http.get("/", headers=bearer(ak.create("a", scopes=scopes).key))
            for scopes in (["read"], [], ["write"], ["admin"], None)
        ]
    assert [answer.status_code for answer in answers] == [403, 403, 200, 200, 200]
    refusal = {"error": "insufficient_scope", "required": "write", "available": ["read"]}
    assert seen(answers[0]) == (403, refusal)
    assert 'scope="write"' in answers[0].headers["www-authenticate"]


@both
def test_a_live_key_passes_however_bearer_is_written(make: Make, db: Database, ak: AgentKey) -> None:
    created = ak.create("a", name="n", budget_cents=5, budget_period="day")
    with serving(make(AsyncAgentKey(db.url), budget_headers=True)) as http:
        for scheme in ("Bearer", "bearer", "BEARER  "):
            response = http.get("/", headers={"Authorization": f"{scheme} {created.key}"})
            assert seen(response) == (200, {"id": created.id, "name": "n", "key": created.key})
            assert response.headers["ratelimit-policy"] == f'"budget";q=5;w={DAY}'


@both
def test_a_fault_is_a_500_that_is_logged_without_the_key(
    make: Make, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(make(AsyncAgentKey(db.url.replace(db.name, "nowhere")))) as http:
        for path in ("/", "/sdk-keys/me"):
            for _ in range(2):
                assert seen(http.get(path, headers=bearer("ak_planted")))[0] == 500
        assert seen(http.get("/", headers=bearer("ak_planted"))) == (500, {"error": "auth_unavailable"})
    ours = [record for record in caplog.records if record.name == "pyagentkey"]
    assert len(ours) == 5 and all("nowhere" in record.getMessage() for record in ours)
    assert "planted" not in caplog.text


@both
def test_more_budget_for_a_while(make: Make, db: Database, ak: AgentKey) -> None:
    team = ak.create("a", budget_cents=1000)
    agent = ak.create(None, parent=team.key, budget_cents=10, scopes=["read", "admin"])
    sibling = ak.create(None, parent=team.key, budget_cents=10, scopes=["admin"])
    assert ak.track_usage(agent.key, 10)
    with serving(make(AsyncAgentKey(db.url))) as http:
        mine = bearer(agent.key)
        assert seen(http.post("/sdk-keys/increases", json={"cents": 500, "for": "2h"}))[0] == 401
        assert seen(http.post("/sdk-keys/increases", headers=mine, json={"cents": 500})) == (
            400,
            {"error": "for is required"},
        )
        wanted = {"cents": 500, "for": "2h", "reason": "more pages"}
        status, asked = seen(http.post("/sdk-keys/increases", headers=mine, json=wanted))
        assert (status, asked["state"], asked["keyId"], asked["forSeconds"]) == (201, "pending", agent.id, 7200)
        assert seen(http.post("/sdk-keys/increases", headers=mine, json=wanted)) == (200, asked)
        status, refused = seen(http.post("/sdk-keys/increases", headers=mine, json={**wanted, "cents": 1}))
        assert (status, refused["error"], refused["request"]) == (409, "already_pending", asked)

        for key, expected in ((agent.key, [asked]), (team.key, [asked]), (sibling.key, [])):
            assert seen(http.get("/sdk-keys/increases?state=pending", headers=bearer(key))) == (200, expected)
        assert seen(http.get("/sdk-keys/increases?state=denied", headers=mine)) == (200, [])
        assert seen(http.get("/sdk-keys/increases?state=open", headers=mine))[0] == 400

        path = f"/sdk-keys/increases/{asked['id']}"
        child = ak.create(None, parent=agent.key, scopes=["admin"])
        for key in (agent.key, child.key, sibling.key, ak.create("a").key):
            answer = http.post(path, headers=bearer(key), json={"approve": True})
            assert seen(answer) == (404, {"error": "Request not found"})
        reader = ak.create("a", scopes=["read"])
        assert seen(http.post(path, headers=bearer(reader.key), json={"approve": True}))[0] == 403
        assert seen(http.post(path, headers=bearer(team.key), json={}))[0] == 400
        assert not ak.validate(agent.key)
        answer = http.post(path, headers=bearer(team.key), json={"approve": True, "cents": 300})
        status, decided = seen(answer)
        assert (status, decided["grantedCents"], decided["decidedByKeyId"]) == (200, 300, team.id)
        status, late = seen(http.post(path, headers=bearer(team.key), json={"approve": False}))
        assert (status, late["error"], late["request"]) == (409, "already_decided", decided)
        assert ak.track_usage(agent.key, 300).or_raise().budget_remaining_cents == 0
        assert not ak.track_usage(agent.key, 1)


@both
def test_keys_for_their_holders(make: Make, db: Database, ak: AgentKey) -> None:
    options = {"signup_scopes": ["read", "write"], "signup_budget": (50, "day"), "revoke_policy": "account"}
    with serving(make(AsyncAgentKey(db.url), options=options)) as http:
        response = http.post("/signup", json={"email": "a@example.com", "scopes": ["read"]})
        status, mine = seen(response)
        assert (status, mine["scopes"], mine["budgetCents"], mine["budgetPeriod"]) == (201, ["read"], 50, "day")
        assert response.headers["cache-control"] == "no-store"
        mine = bearer(mine["key"])

        status, me = seen(http.get("/sdk-keys/me", headers=mine))
        assert (status, me["valid"], me["userId"], me["scopes"]) == (200, True, "a@example.com", ["read"])
        spec = {"budget_cents": 5, "expires_in": "1h", "name": "child"}
        status, child = seen(http.post("/sdk-keys", headers=mine, json=spec))
        assert (status, child["budgetCents"], child["scopes"]) == (201, 5, ["read"])
        for other, expected in (
            ({**spec, "scopes": ["write"]}, 403),
            ({**spec, "budget_cents": 51}, 403),
            ({**spec, "budget_cents": "5"}, 400),
            ({**spec, "expires_in": "soon"}, 400),
            ({**spec, "scopes": "read"}, 400),
        ):
            answer = http.post("/sdk-keys", headers=mine, json=other)
            assert (answer.status_code, next(iter(answer.json()))) == (expected, "error"), other
        assert seen(http.delete(f"/sdk-keys/{child['id']}", headers=mine)) == (200, {"revoked": True})
        missing = (404, {"error": "Key not found"})
        for id in (child["id"], f"{me['id']}abc", ak.create("b").id):
            assert seen(http.delete(f"/sdk-keys/{id}", headers=mine)) == missing, id
        for id in ("%3F", "%23", "%E9", "a%20b"):
            assert seen(http.delete(f"/sdk-keys/{id}", headers=mine)) == (400, {"error": "Invalid key ID"}), id
        assert seen(http.get("/sdk-keys/me"))[0] == 401
        assert ak.validate(mine["Authorization"][7:])


@both
def test_bodies_that_are_no_good(make: Make, db: Database) -> None:
    with serving(make(AsyncAgentKey(db.url), options={"signup_scopes": ["read"]})) as http:
        for body in (b"", b"{", b"\xff", b"[]", b'"a@b"', b"null", b'{"email": 5}', b'{"email": "a"}', b"[" * 50_000):
            status, answer = seen(http.post("/signup", content=body))
            assert (status, next(iter(answer))) == (400, "error"), body[:20]
        assert seen(http.post("/signup", content=b" " * 200_000)) == (413, {"error": "The body is too large"})
        assert seen(http.post("/signup", json={"email": "a@b", "scopes": ["write"]})) == (
            400,
            {"error": "Scopes not allowed on signup: write", "allowed": ["read"]},
        )
        # A body that comes in pieces, without a length.
        pieces = iter([b'{"email":', b' "a@b"', b"}"])
        assert http.post("/signup", content=pieces).status_code == 201


@both
def test_signups_are_limited(make: Make, db: Database) -> None:
    with serving(make(AsyncAgentKey(db.url), options={"signup_rate_limit": (2, 3600)})) as http:
        answers = [http.post("/signup", json={"email": "a@b"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert 0 < int(answers[2].headers["retry-after"]) <= 3600
    # A client anew, as in another process, on the same table.
    with serving(make(AsyncAgentKey(db.url), options={"signup_rate_limit": (2, 3600)})) as http:
        assert http.post("/signup", json={"email": "a@b"}).status_code == 429
    asyncio.run(db.run("DELETE FROM sdk_api_keys_signups"))


@pytest.mark.parametrize(
    "options",
    [
        {"signup_scopes": "read"},
        {"signup_rate_limit": (0, 0)},
        {"signup_rate_limit": -1},
        {"signup_account": "mine"},
        {"signup_max_expires_in": "soon"},
        {"signup_budget": 5},
        {"signup_budget": (-1, None)},
        {"signup_budget": (1, "fortnight")},
        {"revoke_policy": "mine"},
    ],
)
@pytest.mark.parametrize("make", [KeyRoutes, create_router])
def test_bad_options_are_refused_at_once(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        make(AsyncAgentKey("postgresql://"), **options)


@pytest.mark.parametrize("make", [KeyRoutes, create_router])
def test_who_opens_signup_without_a_limit_is_warned(make: Make) -> None:
    for options in ({"signup": True}, {"signup": False}, {"signup_budget": (5, "day")}):
        make(AsyncAgentKey("postgresql://"), **options)
    with pytest.warns(UserWarning, match="anybody a key without a limit"):
        make(AsyncAgentKey("postgresql://"))


@both
def test_signup_may_be_closed(db: Database, ak: AgentKey, make: Make) -> None:
    key = ak.create("a").key
    with serving(make(AsyncAgentKey(db.url), options={"signup": False})) as http:
        assert http.post("/signup", json={"email": "a@example.com"}).status_code == 404
        assert http.get("/sdk-keys/me", headers=bearer(key)).status_code == 200


@both
def test_a_key_in_a_header_of_its_own(make: Make, db: Database, ak: AgentKey) -> None:
    created = ak.create("a")
    header = {"x-api-key": created.key}
    options = {"api_key_header": "X-API-Key"}
    with serving(make(AsyncAgentKey(db.url), options=options, **options)) as http:
        # The handler is told the key, too, whichever comes first.
        assert http.get("/", headers=header).json()["key"] == created.key
        assert http.get("/sdk-keys/me", headers=header).json()["id"] == created.id
        child = http.post("/sdk-keys", headers=header, json={"name": "child"}).json()
        assert http.delete(f"/sdk-keys/{child['id']}", headers=header).json() == {"revoked": True}
        assert http.get("/sdk-keys/me").status_code == 401
    for name in ("Authorization", "cookie", "x api key", ""):
        with pytest.raises(ValueError, match="header of a key"):
            make(AsyncAgentKey(db.url), api_key_header=name)
        with pytest.raises(ValueError, match="header of a key"):
            make(AsyncAgentKey(db.url), options={"api_key_header": name})


def test_routes_under_a_prefix(db: Database, ak: AgentKey) -> None:
    key = ak.create("a").key
    fast = FastAPI()
    fast.include_router(create_router(AsyncAgentKey(db.url), signup=False), prefix="/api")
    for app in (fast, Starlette(routes=[Mount("/api", KeyRoutes(AsyncAgentKey(db.url), signup=False))])):
        with serving(app) as http:
            assert http.get("/api/sdk-keys/me", headers=bearer(key)).status_code == 200
            assert http.get("/sdk-keys/me", headers=bearer(key)).status_code == 404
            assert http.get("/api/nothing", headers=bearer(key)).status_code == 404


def test_many_requests_share_statements(db: Database, ak: AgentKey) -> None:
    key = ak.create("a", budget_cents=1000).key
    client = AsyncAgentKey(db.url)
    app = FastAPI()

    @app.get("/", dependencies=[Depends(require_key(client))])
    async def charge(key: Key) -> bool:
        usages = [await client.track_usage(key, 1) for _ in range(2)]
        return all(usages)

    with serving(app) as http, ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: http.get("/", headers=bearer(key)).json(), range(200)))
    assert answers == [True] * 200
    grant = ak.validate(key)
    assert grant and grant.budget_used_cents == 400
