"""Alarms as they come, and their deliveries to webhooks."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks.webhooks import Webhook

from pyagentkey import AgentKey, AsyncAgentKey, InvalidInputError

from .support import Database, run

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


class Receiver:
    """A server that answers with ``status``; with ``None`` it never does."""

    def __init__(self) -> None:
        self.status: int | None = 204
        self.got: list[tuple[dict[str, str], str]] = []
        self.over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if receiver.status is None:
                    receiver.over.wait(60)
                    return
                self.send_response(receiver.status)
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def alarm(ak: AgentKey) -> None:
    key = ak.create("a", budget_cents=2).key
    assert ak.track_usage(key, 1)


def test_the_reference_library_verifies_what_is_delivered(db: Database, receiver: Receiver) -> None:
    secrets = [SECRET, NEXT_SECRET]
    with AgentKey(db.url, thresholds=[0.5, 1]) as ak:
        assert ak.deliver("verified", receiver.url, secrets) == 0
        alarm(ak)
        assert ak.deliver("verified", receiver.url, secrets) == 1
        assert ak.deliver("verified", receiver.url, secrets) == 0
        assert ak.deliveries(webhook="verified") == []
    [(headers, body)] = receiver.got
    for secret in secrets:
        told = Webhook(secret).verify(body, headers)
        assert told["type"] == "agentkey.threshold"
        assert told["data"]["metadata"] == {"threshold": 0.5, "budgetCents": 2}


def test_a_receiver_that_fails_gets_it_again(db: Database, receiver: Receiver) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url, thresholds=[0.5]) as ak:
            assert await ak.deliver("failing", receiver.url, [SECRET]) == 0
            key = (await ak.create("a", budget_cents=2)).key
            await ak.track_usage(key, 1)
            elsewhere = "http://127.0.0.1:1/?token=secret"
            tries: list[tuple[int | None, str, str]] = [
                (500, receiver.url, "answered 500"),
                (302, receiver.url, "answered 302"),
                (None, receiver.url, "timeout"),
                (204, elsewhere, "ConnectionRefusedError"),
            ]
            for attempt, (status, url, error) in enumerate(tries, 1):
                receiver.status = status
                await db.run("UPDATE sdk_api_keys_deliveries SET next_at = now() WHERE dead_at IS NULL")
                timeout = 0.3 if error == "timeout" else 15
                assert await ak.deliver("failing", url, [SECRET], timeout=timeout) == 1
                [open_delivery] = await ak.deliveries(webhook="failing")
                assert (open_delivery.attempts, open_delivery.error) == (attempt, error)
                assert open_delivery.next_at is not None

    run(main())
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_what_is_no_webhook_is_refused(db: Database) -> None:
    with AgentKey(db.url) as ak:
        with pytest.raises(InvalidInputError, match="whsec_ and 24 to 64 bytes") as caught:
            ak.deliver("pager", "https://example.com", ["whsec_c2VjcmV0"])
        assert "c2VjcmV0" not in str(caught.value)
        with pytest.raises(ValueError, match="url must be an address with http or https"):
            ak.deliver("pager", "ftp://user:word@example.com", [SECRET])
        with pytest.raises(TypeError, match="secrets must be a sequence of str"):
            ak.deliver("pager", "https://example.com", SECRET)
        with pytest.raises(ValueError, match="at most 15 seconds"):
            ak.deliver("pager", "https://example.com", [SECRET], timeout=60)


def test_alarms_are_followed_until_the_client_is_closed(db: Database) -> None:
    ak = AgentKey(db.url, thresholds=[0.5, 1])
    latest = ak.events(limit=1)
    alarm(ak)
    alarms = ak.follow(after=latest[0].id if latest else 0)
    first = next(alarms)
    assert (first.kind, first.metadata) == ("threshold", {"threshold": 0.5, "budgetCents": 2})
    alarm(ak)
    assert next(alarms).id > first.id
    ak.close()
    assert list(alarms) == []


def test_alarms_are_followed_by_a_task(db: Database) -> None:
    async def main() -> None:
        async with AsyncAgentKey(db.url, thresholds=[0.5, 1]) as ak:
            latest = await ak.events(limit=1)
            key = (await ak.create("a", budget_cents=2)).key
            await ak.track_usage(key, 2)
            shares = []
            async for event in ak.follow(after=latest[0].id):
                shares.append((event.metadata or {})["threshold"])
                if len(shares) == 2:
                    break
            assert shares == [0.5, 1]

    run(main())
