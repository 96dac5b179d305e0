"""What the server answers: no other web page in the same browser, and no endless request."""

from dataclasses import dataclass

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_PATH, REQUEST_BYTES = "/api/upload", 1_000_000
DRAINED = 10
"""Times the limit that is read and thrown away, so that a browser which is still sending hears the answer."""
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-src 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class TooLarge(Exception):
    """A request says more than it may.

    Args:
        more: Whether parts of it have not been received yet.
    """

    def __init__(self, *, more: bool) -> None:
        super().__init__()
        self.more = more


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is let in."""

    hosts: frozenset[str]
    """Names by which the server may be asked, without the port: a page of another name that resolves to this machine
    is refused (DNS rebinding)."""
    upload_bytes: int
    """Of an uploaded file; of every other request a megabyte."""

    def refusal(self, headers: Headers) -> str | None:
        """Return why a request is refused, or None."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host.rsplit(":", 1)[0].lower() not in self.hosts:
            return f"host {host[:80]!r} is not allowed: {', '.join(sorted(self.hosts))}"
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return f"origin {origin[:80]!r} is not allowed: only this server's own page may ask"
        return None

    def limit(self, path: str) -> int:
        """Return the most bytes that a request to a path may have."""
        return self.upload_bytes if path.endswith(UPLOAD_PATH) else REQUEST_BYTES


class Guarded:
    """An application behind a guard."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self.app, self.guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, limit = Headers(scope=scope), self.guard.limit(scope["path"])
        if reason := self.guard.refusal(headers):
            await _answer(403, reason, scope, receive, send)
            return
        try:
            if int(headers.get("content-length", "0")) > limit:
                raise TooLarge(more=True)
            await self.app(scope, _limited(receive, limit), _secured(send))
        except TooLarge as error:
            if error.more:
                await _drain(receive, DRAINED * limit)
            await _answer(413, f"the request is larger than {limit:,} bytes", scope, receive, send)


def _limited(receive: Receive, limit: int) -> Receive:
    """Return a way to receive that raises TooLarge before more than the limit is passed on."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLarge(more=message.get("more_body", False))
        return message

    return limited


async def _drain(receive: Receive, most: int) -> None:
    seen = 0
    while seen < most:
        message = await receive()
        seen += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _secured(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message["headers"]}
            added = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
            message = {**message, "headers": [*message["headers"], *(pair for pair in added if pair[0] not in own)]}
        await send(message)

    return secured


async def _answer(status: int, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    response = JSONResponse({"error": reason}, status_code=status, headers={"Connection": "close"})
    await response(scope, receive, _secured(send))
