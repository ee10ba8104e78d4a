"""A download server on this machine that can be told to misbehave, and the files it has."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Each request takes one of `faults`, by name; without one it is answered well.

    A number: that status. cut: half of the body. norange: all of it, whatever part was asked for. shifted: another part
    than was asked for. wrong: zeros. stall: half, then nothing, but the connection stays. silent: no answer at all.
    drip: a byte now and then. long, short: a length that is too large, too small. endless: no length, and no end.
    loop: sent on to itself. away: sent on to a file of the asker's machine. nolength: half, and no length told.
    """

    daemon_threads = True
    files: dict[str, bytes]
    faults: list[str]
    asked: list[tuple[str, str | None]]
    delay = 0.0  # seconds before every answer
    closing: threading.Event

    def url(self, name: str = "file") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        self.server.asked.append((self.path, span))
        time.sleep(self.server.delay)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        content = self.server.files.get(self.path.lstrip("/"))
        if fault == "silent":
            self.server.closing.wait()
        elif fault in ("loop", "away"):
            self.send_response(302)
            self.send_header("Location", self.path if fault == "loop" else "file:///etc/hostname")
            self.end_headers()
        elif fault.isdigit() or content is None:
            self.send_error(int(fault or 404))
        else:
            start = int(span.removeprefix("bytes=").rstrip("-")) if span and fault != "norange" else 0
            if start >= len(content) > 0:
                self.send_error(416)
            else:
                self.answer(content, start, fault)

    def answer(self, content: bytes, start: int, fault: str) -> None:
        offset = {"long": 10, "short": -10}.get(fault, 0)
        self.send_response(206 if start else 200)
        if start:
            first = start + (7 if fault == "shifted" else 0)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if fault not in ("endless", "nolength"):
            self.send_header("Content-Length", str(len(content) - start + offset))
        self.end_headers()
        body = content[start + 7 :] + bytes(7) if fault == "shifted" else content[start:]
        try:
            if fault == "wrong":
                self.wfile.write(bytes(len(body)))
            elif fault in ("cut", "stall", "nolength"):
                self.wfile.write(body[: len(body) // 2])
                if fault == "stall":
                    self.wfile.flush()
                    self.server.closing.wait()
            elif fault == "endless":
                while not self.server.closing.is_set():
                    self.wfile.write(bytes(1 << 16))
            elif fault == "drip":
                for number in range(len(body)):
                    self.wfile.write(body[number : number + 1])
                    self.wfile.flush()
                    if self.server.closing.wait(0.05):
                        break
            else:
                self.wfile.write(body)
        except ConnectionError:
            pass  # the asker has hung up

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.faults, server.asked, server.closing = {}, [], [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
