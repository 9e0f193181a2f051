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
from .support import ROOT, Database

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
        with httpx.Client(base_url=f"http://127.0.0.1:{int(says.split()[-1])}") as http:
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
