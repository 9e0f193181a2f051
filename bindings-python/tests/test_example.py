"""examples/fastapi and examples/axum, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import httpx
import pytest

from pyagentkey import AgentKey

from .server import bearer
from .support import ROOT, Database, run

FASTAPI = [sys.executable, str(ROOT / "examples" / "fastapi" / "app.py")]
AXUM = ROOT / "target" / "release" / "agentkey-example-axum"
NOT_BUILT = pytest.mark.skipif(not AXUM.exists(), reason="the Rust example is not built: `make test-python` builds it")


@pytest.mark.parametrize("example", [FASTAPI, pytest.param([str(AXUM)], marks=NOT_BUILT)], ids=["fastapi", "axum"])
def test_the_example_serves_charges_and_stops(empty_db: Database, example: list[str]) -> None:
    environment = {**os.environ, "DATABASE_URL": empty_db.url, "PORT": "0"}
    app = subprocess.Popen(example, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert app.stdout is not None
        says = app.stdout.readline()
        assert says.startswith("listening on "), says
        with httpx.Client(base_url=f"http://127.0.0.1:{int(says.split()[-1])}", timeout=30) as http:
            key = http.post("/signup", json={"email": "a@example.com"}).json()["key"]
            answer = http.get("/search?limit=10", headers=bearer(key))
            assert (answer.status_code, answer.json()["remainingCents"]) == (200, 40)
            assert len(answer.json()["found"]) == 10
            for limit in ("0", "11"):
                answer = http.get(f"/search?limit={limit}", headers=bearer(key))
                assert (answer.status_code, answer.json()) == (400, {"error": "limit must be 1 to 10"})
            assert http.get("/search", headers=bearer(key)).json()["remainingCents"] == 37
            with AgentKey(empty_db.url) as ak:
                assert ak.track_usage(key, 35)
            answer = http.get("/search", headers=bearer(key))
            assert (answer.status_code, answer.json()) == (429, {"error": "budget_exceeded"})
            assert http.get("/search").status_code == 401
        app.send_signal(signal.SIGTERM)
        _, errors = app.communicate(timeout=30)
        assert errors == ""
    finally:
        app.kill()
        app.communicate()


def test_an_agent_asks_a_human_for_more_and_goes_on(empty_db: Database) -> None:
    """It stops at its cap, reads why, asks for 5 dollars, a human approves on the command line, and it stops exactly at
    the new cap. The boost ends with its time."""
    environment = {**os.environ, "DATABASE_URL": empty_db.url, "PORT": "0"}

    def agentkey(*arguments: str) -> str:
        command = [sys.executable, "-m", "pyagentkey", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    app = subprocess.Popen(FASTAPI, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert app.stdout is not None
        port = int(app.stdout.readline().split()[-1])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            key = http.post("/signup", json={"email": "a@example.com"}).json()["key"]
            mine = bearer(key)

            def search_until_refused() -> int:
                spent = 0
                for limit in (10, 9, 7, 4, 1):
                    while (answer := http.get(f"/search?limit={limit}", headers=mine)).status_code == 200:
                        spent += limit
                    assert (answer.status_code, answer.json()) == (429, {"error": "budget_exceeded"})
                return spent

            assert search_until_refused() == 50
            me = http.get("/sdk-keys/me", headers=mine).json()
            assert (me["budgetCents"], me["budgetUsedCents"], me["budgetRemainingCents"]) == (50, 50, 0)
            wanted = {"cents": 500, "for": "1h", "reason": "the archive has more pages than expected"}
            asked = http.post("/sdk-keys/increases", headers=mine, json=wanted).json()
            assert http.get("/search", headers=mine).status_code == 429

            assert "the archive has more pages" in agentkey("requests")
            assert "may spend $5.00 more until" in agentkey("approve", str(asked["id"]), "--by", "ana@example.com")
            assert http.get("/sdk-keys/increases", headers=mine).json()[0]["state"] == "approved"
            assert search_until_refused() == 500
            assert http.get("/sdk-keys/me", headers=mine).json()["budgetCents"] == 550
            # Another test charges a key with a client that keeps no ledger.
            assert "It adds up" in agentkey("verify", str(me["id"]))

            run(empty_db.run("UPDATE sdk_api_keys SET budget_boost_until = now()"))
            me = http.get("/sdk-keys/me", headers=mine).json()
            assert (me["budgetCents"], me["budgetUsedCents"], me["budgetRemainingCents"]) == (50, 550, 0)
            assert http.get("/search", headers=mine).status_code == 429
        app.send_signal(signal.SIGTERM)
        _, errors = app.communicate(timeout=30)
        assert errors == ""
    finally:
        app.kill()
        app.communicate()
