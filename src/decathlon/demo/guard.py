"""ASGI middleware before the demo's server: lets pass only the requests that the page makes, up to a size limit each.

Gradio's server can do more than this page needs: fetch URLs, serve files, call functions by name, show its API docs.
All of that gets a 404 here, before it reaches Gradio.

Why not Starlette's middleware: none allows only listed paths, sets a deadline for receiving a body, or checks its
content, for which it must be read here anyway. Two could do a part: RequestBodyLimitMiddleware limits the size, and
TrustedHostMiddleware checks the Host header. But Gradio admits Starlette 1.0.1, which lacks the first, and whose second
cuts the name at the first colon, which breaks `[::1]:7860`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
IsPageEvent = Callable[[dict[str, Any]], bool]  # whether an event is one that the page may send

FILE_PREFIX = "/gradio_api/file="
UPLOAD_PATH = "/gradio_api/upload"
JOIN_PATH = "/gradio_api/queue/join"
# The paths that the page reads.
READ_PATHS = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/[\w./@-]+"
    r"|/gradio_api/(startup-events|upload_progress|queue/data|heartbeat/\w+)|/gradio_api/file=.+"
)
# The paths that the page posts to, with the maximum size of a body in bytes.
MAX_BODY_BYTES = {UPLOAD_PATH: 13 * 2**20, JOIN_PATH: 2**19, "/gradio_api/cancel": 2**12, "/gradio_api/reset": 2**12}
MAX_CONCURRENT_UPLOADS = 32  # more would fill the memory
BODY_TIMEOUT = 60  # seconds to receive a body
# The page loads nothing from other hosts, whatever a library may try; Gradio needs inline scripts and styles.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Refusal(Exception):
    """A request is refused with this status and one line of text."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


def add_guard(app: App, folder: Path, hosts: frozenset[str] | None, is_page_event: IsPageEvent) -> App:
    """Put the guard before an ASGI application.

    Args:
        app: The application.
        folder: The only folder from which files may be read back.
        hosts: Allowed values of the Host header, against DNS rebinding; None for any.
        is_page_event: Tells whether an event is one that the page may send.
    """
    active_uploads = 0

    async def receive_body(scope: Message, receive: Receive) -> Receive:
        """Read and check the body of a request; Refusal if it is too large or too slow."""
        try:
            return await asyncio.wait_for(read_body(scope, receive, folder, is_page_event), BODY_TIMEOUT)
        except asyncio.TimeoutError:
            raise Refusal(408, f"the request was not received within {BODY_TIMEOUT} seconds") from None

    async def handle(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        if scope["type"] != "http":  # a websocket, which Gradio no longer uses
            return await send({"type": "websocket.close", "code": 1008})
        nonlocal active_uploads
        is_upload = scope["method"] == "POST" and scope["path"] == UPLOAD_PATH
        if is_upload and active_uploads >= MAX_CONCURRENT_UPLOADS:
            return await send_refusal(send, Refusal(503, "too many images are being sent: try again in a moment"))
        active_uploads += is_upload  # until it is answered: its body waits in memory to be decoded
        try:
            check(scope, folder, hosts)
            checked = await receive_body(scope, receive) if scope["method"] == "POST" else receive
        except Refusal as refusal:
            return await send_refusal(send, refusal)
        else:
            await app(scope, checked, add_headers(send))
        finally:
            active_uploads -= is_upload

    return handle


def check(scope: Message, folder: Path, hosts: frozenset[str] | None) -> None:
    """Raise Refusal unless a request is one of the page's."""
    method, path = scope["method"], scope["path"]
    headers = dict(scope["headers"])
    host = re.sub(r":\d+$", "", headers.get(b"host", b"").decode("latin-1")).lower()
    if hosts is not None and host not in hosts:
        raise Refusal(421, "this server does not have that name")
    if method == "POST" and headers.get(b"sec-fetch-site") == b"cross-site":  # another page in a visitor's browser
        raise Refusal(403, "requests of other sites are not answered")
    if method == "POST" and path in MAX_BODY_BYTES:
        return
    if method not in ("GET", "HEAD") or not READ_PATHS.fullmatch(path) or ".." in path.split("/"):
        raise Refusal(404, "there is no such page")
    if path.startswith(FILE_PREFIX) and not is_inside(path[len(FILE_PREFIX) :], folder):
        raise Refusal(403, "this file does not belong to the demo")


def is_inside(path: str, folder: Path) -> bool:
    """Whether a path, with links resolved, is a file in the folder."""
    try:
        resolved = os.path.realpath(path, strict=True)
    except (OSError, ValueError):  # no such file, or a null byte in the path
        return False
    return Path(resolved).is_file() and Path(resolved).is_relative_to(os.path.realpath(folder))


async def read_body(scope: Message, receive: Receive, folder: Path, is_page_event: IsPageEvent) -> Receive:
    """Read the body of a request up to its size limit.

    Returns:
        A `receive` that gives it to the application.

    Raises:
        Refusal: It is too large; or an event names a file that does not belong to the demo.
    """
    limit = MAX_BODY_BYTES[scope["path"]]
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limit:
        raise Refusal(413, f"the request is too large: at most {limit / 2**20:g} MB are accepted here")
    content = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the connection ended too early")
        content += message.get("body", b"")
        more = message.get("more_body", False)
        if len(content) > limit:
            raise Refusal(413, f"the request is too large: at most {limit / 2**20:g} MB are accepted here")
    if scope["path"] == JOIN_PATH:
        check_event(bytes(content), folder, is_page_event)
    pending = [{"type": "http.request", "body": bytes(content), "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def check_event(content: bytes, folder: Path, is_page_event: IsPageEvent) -> None:
    """Raise Refusal if an event is not JSON, not one of the page's, or names a file outside the demo's folder.

    A mounted Gradio would accept any path on the server as an upload, and fetch URLs.
    """
    try:
        event = json.loads(content)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested without end
        raise Refusal(400, "this is not JSON") from None
    values = [event]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if "path" in value and not (isinstance(path, str) and is_inside(path, folder)):
                raise Refusal(400, "the image no longer exists: send it again")
            values += value.values()
        elif isinstance(value, list):
            values += value
    is_event = isinstance(event, dict) and isinstance(event.get("data"), list) and type(event.get("fn_index")) is int
    if not is_event or not isinstance(event.get("session_hash"), str) or not is_page_event(event):
        raise Refusal(400, "this is not an event of the page: reload it")


def add_headers(send: Send) -> Send:
    """Add the guard's headers to every response."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return wrapped


async def send_refusal(send: Send, refusal: Refusal) -> None:
    """Answer with the status and line of a refusal."""
    text = f"{refusal.line}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    # else the unread rest of the request would be read as the next one
    headers += [(b"connection", b"close"), *HEADERS]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
