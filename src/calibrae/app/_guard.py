"""Who may talk to the workbench, and what its pages may do."""

from __future__ import annotations

import hmac
from typing import Any, final
from urllib.parse import parse_qs, urlsplit

COOKIE = "calibrae-token"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self'",
        "frame-ancestors 'self'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class _TooLargeError(Exception):
    """More came than a request may hold."""


@final
class Guard:
    """Lets in who is meant: requests to this host, from its own pages, and with the token where there is one.

    Refuses requests whose `Host` is another name (a page elsewhere that had its name point here), whose `Origin` is another page, that
    lack the token, or that are too large. Its answers forbid pages to load anything from elsewhere.

    Args:
        app: ASGI application.
        hosts: names by which it may be called.
        token: secret that the first address carries; `None` on a loopback.
        most: bytes of a request.
    """

    def __init__(self, app: Any, hosts: frozenset[str], token: str | None, most: int) -> None:
        self.app, self.hosts, self.token, self.most = app, hosts, token, most

    @property
    def _too_large(self) -> str:
        return (
            f"a request may hold {self.most >> 20:,} MB; this one is larger. Put large data into a folder and name it."
        )

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        is_entry = self.token is not None and self._query_token(scope) is not None

        has_begun = False

        async def guarded(message: dict[str, Any]) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() != b"server"]
                message = {**message, "headers": [*kept, *HEADERS, *(self._cookie() if is_entry else ())]}
            await send(message)

        try:
            await self.app(scope, self._counted(receive), guarded)
        except _TooLargeError:
            if not has_begun:
                await _refuse(send, 413, self._too_large)

    def _refusal(self, scope: dict[str, Any], headers: dict[str, str]) -> tuple[int, str] | None:
        if _host_of(headers.get("host", "")) not in self.hosts:
            return 421, "this workbench is called by another name. Use the address that it printed."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, "requests must come from the workbench's own pages."
        if headers.get("sec-fetch-site") == "cross-site" and scope.get("method") not in ("GET", "HEAD"):
            return 403, "requests must come from the workbench's own pages."
        if self.token is not None and not self._is_known(scope, headers):
            return 401, "the address must carry the token. Use the address that the workbench printed."
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return 400, "the length of a request must be a number."
        if length > self.most:
            return 413, self._too_large
        return None

    def _is_known(self, scope: dict[str, Any], headers: dict[str, str]) -> bool:
        cookies = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        given = [
            value for name, _, value in cookies if name == COOKIE
        ]  # others with the same host name may set cookies too
        asked = self._query_token(scope)
        every = [*given, *([] if asked is None else [asked])]
        return any(hmac.compare_digest(one.encode(), (self.token or "").encode()) for one in every)

    @staticmethod
    def _query_token(scope: dict[str, Any]) -> str | None:
        return next(iter(parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])), None)

    def _cookie(self) -> list[tuple[bytes, bytes]]:
        return [(b"set-cookie", f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode())]

    def _counted(self, receive: Any) -> Any:
        """Receive no more than is allowed, whatever the request says of its length."""
        taken = 0

        async def counted() -> dict[str, Any]:
            nonlocal taken
            message: dict[str, Any] = await receive()
            taken += len(message.get("body", b""))
            if taken > self.most:
                raise _TooLargeError
            return message

        return counted


def _host_of(text: str) -> str:
    """Host of a `Host` header, without its port."""
    try:
        return (urlsplit(f"//{text}").hostname or "").lower()
    except ValueError:  # half an address in brackets
        return ""


async def _refuse(send: Any, status: int, text: str) -> None:
    body = f"calibrae: {text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
