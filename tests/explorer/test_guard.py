"""Who may ask, and how much: judged without a network."""

import asyncio
import json

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from howdeep.explorer.guard import Guard, Guarded

GUARD = Guard(hosts=frozenset({"127.0.0.1", "localhost"}), upload_bytes=1000)


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read everything and say how much it was."""
    seen, more = 0, True
    while more:
        message = await receive()
        seen, more = seen + len(message["body"]), message["more_body"]
    await PlainTextResponse(str(seen))(scope, receive, send)


def ask(headers: dict[str, str], *, path: str = "/", parts: tuple[bytes, ...] = (b"",)) -> tuple[int, str, dict]:
    """Return status, body and headers of the answer."""
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting[-1]["more_body"] = False

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": raw, "query_string": b""}
    asyncio.run(Guarded(_app, GUARD)(scope, receive, send))
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode(), found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8123", "localhost:1", "LOCALHOST:80"])
def test_the_machine_s_own_names_are_let_in(host: str) -> None:
    assert ask({"host": host})[0] == 200


@pytest.mark.parametrize("host", ["", "example.com", "127.0.0.1.example.com:80", "localhost.example.com", "[::1]:80"])
def test_a_name_that_only_resolves_to_this_machine_is_refused(host: str) -> None:
    status, body, _ = ask({"host": host})
    assert status == 403
    assert json.loads(body)["error"].startswith(f"host {host!r} is not allowed")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8123", 200),
        ("http://127.0.0.1:9", 403),
        ("https://127.0.0.1:8123", 403),
        ("http://example.com", 403),
        ("null", 403),
    ],
)
def test_other_pages_of_the_same_browser_may_not_ask(origin: str, status: int) -> None:
    assert ask({"host": "127.0.0.1:8123", "origin": origin})[0] == status


@pytest.mark.parametrize("path", ["/api/upload", "/api/answer"])
def test_more_bytes_than_allowed_are_refused_with_a_message(path: str) -> None:
    limit, host = GUARD.limit(path), {"host": "localhost"}
    assert ask(host, path=path, parts=(b"x" * limit,))[:2] == (200, str(limit))
    for headers in (host, {**host, "content-length": str(limit + 1)}):
        status, body, _ = ask(headers, path=path, parts=(b"x" * limit, b"x"))
        assert status == 413
        assert json.loads(body)["error"] == f"the request is larger than {limit:,} bytes"


def test_every_answer_forbids_other_sources() -> None:
    for headers in ({"host": "localhost"}, {"host": "example.com"}):
        found = ask(headers)[2]
        assert "default-src 'none'" in found["content-security-policy"]
        assert found["x-content-type-options"] == "nosniff"
