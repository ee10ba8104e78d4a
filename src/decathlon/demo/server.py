"""Serve the demo: a folder of its own that is deleted at the end, the guard before Gradio, checked uploads."""

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

from decathlon.data import say
from decathlon.demo import inputs
from decathlon.demo.guard import UPLOAD, Fits, guarded

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
KEPT = 200  # uploads: the oldest is deleted when there are more
DECODED = 2  # uploads that are decoded at once: a picture at the limit takes 100 MB
SESSIONS = 1000  # visitors that Gradio remembers
CONNECTIONS = 400  # at once; further ones are answered with 503


def serve(host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        OSError: The address cannot be had; says which.
        ModuleNotFoundError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    # uvicorn ends in good order and then passes the signal on: by default that would end us before the folder is gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="decathlon-demo-") as name:
        os.environ["GRADIO_TEMP_DIR"] = name
        import uvicorn

        sock = bound(host, port)
        hosts = LOOPBACK if host in LOOPBACK else None
        page, fits = application(Path(name))
        app = guarded(page, Path(name), hosts, fits)
        config = uvicorn.Config(
            app,
            log_level="warning",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=2,
            ws="none",
            date_header=False,
        )
        address = f"http://{'localhost' if host in LOOPBACK else host}:{sock.getsockname()[1]}/"
        logging.getLogger("uvicorn.error").addFilter(_worth_telling)
        say(f"decathlon demo: {address} (Ctrl-C ends it)")
        if browser:
            threading.Timer(1, webbrowser.open, [address]).start()
        uvicorn.Server(config).run([sock])


def _worth_telling(record: logging.LogRecord) -> bool:
    """Not that a page which was still open at the end was cut off: its stream of events never ends by itself."""
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and "graceful shutdown exceeded" not in str(record.msg)


def bound(host: str, port: int) -> socket.socket:
    """A socket at this address. Raises OSError, with what to do, where there cannot be one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(f"{host}:{port} cannot be had ({reason}): choose another with --host and --port") from None
    return sock


def application(folder: Path) -> tuple[Any, Fits]:
    """The page and the address for uploads, and what tells its events from others.

    Uploads and examples are the only files, and lie in `folder`.
    """
    import fastapi
    import gradio as gr

    from decathlon.demo import page

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_route(UPLOAD, uploads(folder), ["POST"])
    blocks = page.build(folder)
    blocks.state_session_capacity = SESSIONS
    blocks.has_launched = True  # without this Gradio takes any path of the server's for an upload when it is mounted
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
        max_file_size=inputs.MOST_BYTES,
        theme=page.theme(),
        css_paths=page.HERE / "style.css",
        head=page.HEAD,
    )
    return mounted, page.fits(blocks)


def uploads(folder: Path) -> Callable[[Any], Any]:
    """What answers an upload: it keeps a picture of our own making in `folder`, and nothing else can be read back."""
    import anyio
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, PlainTextResponse, Response

    kept: deque[Path] = deque()
    turns = anyio.CapacityLimiter(DECODED)

    def keep(content: bytes) -> str:
        image = inputs.picture(content)
        place = folder / secrets.token_hex(16)
        place.mkdir()
        path = place / "picture.png"
        image.save(path)
        kept.append(path)
        while len(kept) > KEPT:
            oldest = kept.popleft()
            oldest.unlink(missing_ok=True)
            oldest.parent.rmdir()
        return str(path)

    async def upload(request: Any) -> Response:
        try:
            async with request.form(max_files=1, max_fields=0) as form:
                files = [value for value in form.values() if not isinstance(value, str)]
                content = await files[0].read() if files else b""
            return JSONResponse([await anyio.to_thread.run_sync(keep, content, limiter=turns)])
        except ValueError as error:
            return PlainTextResponse(str(error), 422)
        except OSError:
            return PlainTextResponse("the picture cannot be kept: the server's disk is full or cannot be written", 507)
        except HTTPException as error:  # no form, or one with more than a file
            return PlainTextResponse(str(error.detail), 400)

    return upload
