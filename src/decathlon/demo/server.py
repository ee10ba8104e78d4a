"""Serve the demo: a temporary folder, the guard before Gradio, checked uploads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
import webbrowser
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decathlon.demo import inputs
from decathlon.demo.guard import UPLOAD_PATH, IsPageEvent, add_guard
from decathlon.messages import say

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
MAX_STORED_UPLOADS = 200  # the oldest is deleted when there are more
MAX_CONCURRENT_DECODES = 2  # uploads decoded at once: an image at the limit takes 100 MB
MAX_SESSIONS = 1000  # whose state Gradio keeps at once
MAX_CONNECTIONS = 400  # at once; further ones get 503


def serve(host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        OSError: The address is not available.
        ModuleNotFoundError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    # uvicorn shuts down and then raises the signal again: by default that would end the process before the folder is
    # deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="decathlon-demo-") as name:
        os.environ["GRADIO_TEMP_DIR"] = name
        import uvicorn

        sock = bind_socket(host, port)
        hosts = LOOPBACK if host in LOOPBACK else None
        page, is_page_event = make_app(Path(name))
        app = add_guard(page, Path(name), hosts, is_page_event)
        config = uvicorn.Config(
            app,
            log_level="warning",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=2,
            ws="none",
            date_header=False,
        )
        name_of_host = f"[{host}]" if ":" in host else "localhost" if host in LOOPBACK else host
        address = f"http://{name_of_host}:{sock.getsockname()[1]}/"
        logging.getLogger("uvicorn.error").addFilter(_is_relevant)
        say(f"decathlon demo: {address} (stop with Ctrl-C)")
        if browser:
            threading.Timer(1, webbrowser.open, [address]).start()
        uvicorn.Server(config).run([sock])


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drop log records on pages still open at shutdown: their event streams never end by themselves."""
    is_cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not is_cancelled and "graceful shutdown exceeded" not in str(record.msg)


def bind_socket(host: str, port: int) -> socket.socket:
    """Bind a socket to an address. Raises OSError, with what to do, if it is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen()  # who opens the address as soon as it is printed waits, and is not refused
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(f"{host}:{port} is not available ({reason}): choose another with --host and --port") from None
    return sock


def make_app(folder: Path) -> tuple[Any, IsPageEvent]:
    """The application with page and upload route, and the check for the page's events.

    Uploads and examples are the only files that it serves, and are in `folder`.
    """
    import fastapi
    import gradio as gr

    from decathlon.demo import page

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_route(UPLOAD_PATH, make_upload_handler(folder), ["POST"])
    blocks = page.build(folder)
    blocks.state_session_capacity = MAX_SESSIONS
    blocks.has_launched = True  # else a mounted Gradio accepts any path on the server as an upload
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=inputs.MAX_UPLOAD_BYTES,
        theme=page.make_theme(),
        css_paths=page.FOLDER / "style.css",
        head=page.HEAD,
    )
    return mounted, page.make_event_checker(blocks)


def make_upload_handler(folder: Path) -> Callable[[Any], Any]:
    """The handler of uploads: it decodes an image and stores it, encoded anew, in `folder`."""
    import anyio
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, PlainTextResponse, Response

    stored: deque[Path] = deque()
    limiter = anyio.CapacityLimiter(MAX_CONCURRENT_DECODES)

    def store(content: bytes) -> str:
        image = inputs.read_image(content)
        subfolder = folder / secrets.token_hex(16)
        subfolder.mkdir()
        path = subfolder / "image.png"
        image.save(path)
        stored.append(path)
        while len(stored) > MAX_STORED_UPLOADS:
            oldest = stored.popleft()
            oldest.unlink(missing_ok=True)
            oldest.parent.rmdir()
        return str(path)

    async def upload(request: Any) -> Response:
        try:
            async with request.form(max_files=1, max_fields=0) as form:
                files = [value for value in form.values() if not isinstance(value, str)]
                content = await files[0].read() if files else b""
            return JSONResponse([await anyio.to_thread.run_sync(store, content, limiter=limiter)])
        except ValueError as error:
            return PlainTextResponse(str(error), 422)
        except OSError:
            return PlainTextResponse("the image cannot be saved: the server's disk is full or not writable", 507)
        except HTTPException as error:  # not a form, or one with several files
            return PlainTextResponse(str(error.detail), 400)

    return upload
