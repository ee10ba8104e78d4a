"""What stands before the demo's server: only what the page needs passes, and only in sizes that do no harm.

Gradio's server can do more than this page asks of it: fetch addresses, serve files, run functions by name, show its
documentation. All of that is answered with 404 here, before it gets there.
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
Fits = Callable[[dict[str, Any]], bool]  # whether an event is one that the page may send

FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
JOIN = "/gradio_api/queue/join"
# What the page asks for, and nothing else.
READ = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/[\w./@-]+"
    r"|/gradio_api/(startup-events|upload_progress|queue/data|heartbeat/\w+)|/gradio_api/file=.+"
)
# The most bytes that may be sent to each address.
WRITE = {UPLOAD: 13 * 2**20, JOIN: 2**19, "/gradio_api/cancel": 2**12, "/gradio_api/reset": 2**12}
AT_ONCE = 32  # uploads that are being received: more would fill the memory
SECONDS = 60  # within which a request has to be sent whole
# A page that asks for nothing from elsewhere, whatever a library may try; Gradio writes scripts and styles into it.
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


class Refused(Exception):
    """A request that does not pass: its status and one line for whoever sent it."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


def guarded(app: App, folder: Path, hosts: frozenset[str] | None, fits: Fits) -> App:
    """Put the guard before an ASGI application.

    Args:
        app: The application.
        folder: The only folder from which files may be read back.
        hosts: Names by which the server may be called, against pages elsewhere that pretend to be it (DNS rebinding);
            None for any.
        fits: Tells whether an event is one that the page may send.
    """
    receiving = 0

    async def whole(scope: Message, receive: Receive) -> Receive:
        """What a request sends, unless it is one too many, too large, or too slow."""
        nonlocal receiving
        if scope["path"] == UPLOAD and receiving >= AT_ONCE:
            raise Refused(503, "too many pictures are being sent: try again in a moment")
        receiving += scope["path"] == UPLOAD
        try:
            return await asyncio.wait_for(body(scope, receive, folder, fits), SECONDS)
        except asyncio.TimeoutError:
            raise Refused(408, f"not all of it came within {SECONDS} seconds") from None
        finally:
            receiving -= scope["path"] == UPLOAD

    async def handle(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        if scope["type"] != "http":  # a websocket, which Gradio does not use any more
            return await send({"type": "websocket.close", "code": 1008})
        try:
            check(scope, folder, hosts)
            limited = await whole(scope, receive) if scope["method"] == "POST" else receive
        except Refused as refused:
            return await answer(send, refused)
        await app(scope, limited, with_headers(send))

    return handle


def check(scope: Message, folder: Path, hosts: frozenset[str] | None) -> None:
    """Raise Refused unless a request is one of the page's."""
    method, path = scope["method"], scope["path"]
    headers = dict(scope["headers"])
    host = re.sub(r":\d+$", "", headers.get(b"host", b"").decode("latin-1")).lower()
    if hosts is not None and host not in hosts:
        raise Refused(421, "this server does not go by that name")
    if method == "POST" and path in WRITE:
        return
    if method not in ("GET", "HEAD") or not READ.fullmatch(path) or ".." in path.split("/"):
        raise Refused(404, "there is no such page")
    if path.startswith(FILE) and not inside(path[len(FILE) :], folder):
        raise Refused(403, "this file is none of the demo's")


def inside(path: str, folder: Path) -> bool:
    """Whether a path, links followed, is a file in the folder."""
    try:
        real = os.path.realpath(path, strict=True)
    except (OSError, ValueError):  # it does not exist, or cannot: a zero byte in it
        return False
    return Path(real).is_file() and Path(real).is_relative_to(os.path.realpath(folder))


async def body(scope: Message, receive: Receive, folder: Path, fits: Fits) -> Receive:
    """Read what a request sends, up to its limit.

    Returns:
        What gives it to the application.

    Raises:
        Refused: It is too much; or an event names a file that is none of the demo's.
    """
    most = WRITE[scope["path"]]
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > most:
        raise Refused(413, f"too much at once: at most {most / 2**20:g} MB may be sent here")
    content = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the connection ended too early")
        content += message.get("body", b"")
        more = message.get("more_body", False)
        if len(content) > most:
            raise Refused(413, f"too much at once: at most {most / 2**20:g} MB may be sent here")
    if scope["path"] == JOIN:
        checked_event(bytes(content), folder, fits)
    waiting = [{"type": "http.request", "body": bytes(content), "more_body": False}]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


def checked_event(content: bytes, folder: Path, fits: Fits) -> None:
    """Raise Refused where an event is no JSON, none of the page's, or names a file that is not one of the demo's.

    Gradio would take a path of the server's for an upload when it is mounted, and fetch an address.
    """
    try:
        event = json.loads(content)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested without end
        raise Refused(400, "this is no JSON") from None
    waiting = [event]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if "path" in value and not (isinstance(path, str) and inside(path, folder)):
                raise Refused(400, "the picture is not there any more: send it again")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    known = isinstance(event, dict) and isinstance(event.get("data"), list) and type(event.get("fn_index")) is int
    if not known or not isinstance(event.get("session_hash"), str) or not fits(event):
        raise Refused(400, "this is no event of the page: load it again")


def with_headers(send: Send) -> Send:
    """Add the guard's headers to every answer."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return wrapped


async def answer(send: Send, refused: Refused) -> None:
    """One line of text."""
    text = f"{refused.line}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    # What was not read of the request would be taken for the next one.
    headers += [(b"connection", b"close"), *HEADERS]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
