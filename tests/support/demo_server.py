"""A running demo for the tests that need one, and what its page says to it, said without a browser."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds: for a machine that has much else to do


@dataclass(frozen=True)
class Demo:
    """Where it listens, its process, and the only folder it has files in."""

    url: str
    pid: int
    folder: Path
    log: Path

    def memory(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Demo]:
    """Start `decathlon demo` on a free port; at the end see that it ends in good order and leaves nothing behind.

    Its way to the network leads into a trap, and nothing may be found there.
    """
    log, temporary = folder / "demo.log", folder / "tmp"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "no_proxy": "localhost,127.0.0.1"}
    command = [sys.executable, "-m", "decathlon", "demo", "--port", "0", "--no-browser"]
    with socket.create_server(("127.0.0.1", 0)) as trap, log.open("wb") as file:
        environment |= dict.fromkeys(("http_proxy", "https_proxy"), f"http://127.0.0.1:{trap.getsockname()[1]}")
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=folder)
        try:
            yield Demo(waited_for(process, log), process.pid, next(temporary.glob("decathlon-demo-*")), log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert not select.select([trap], [], [], 0)[0], "the server asked for something of another host"
    assert status == 0, log.read_text()
    left = list(temporary.glob("decathlon-demo-*"))
    assert not left, f"the demo left files behind: {left}"
    assert "Traceback" not in log.read_text(), log.read_text()


def waited_for(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address, as soon as the page answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        words = log.read_text().split()
        url = next((word.rstrip("/") for word in words if word.startswith("http://")), None)
        if url:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url, timeout=PATIENCE).status_code == 200:
                    return url
        time.sleep(0.2)
    raise AssertionError(f"the demo does not answer: {log.read_text()}")


def functions(url: str) -> dict[str, int]:
    """The number of the function that answers a change of each component, by the component's id on the page."""
    config = httpx.get(f"{url}/config", timeout=PATIENCE).json()
    names = {entry["id"]: entry["props"].get("elem_id") for entry in config["components"]}
    return {names[target]: entry["id"] for entry in config["dependencies"] for target, _ in entry["targets"]}


def ask(client: httpx.Client, url: str, function: int, data: list[Any], session: str = "") -> dict[str, Any]:
    """One event as the page sends it: what the server says when it is done. A visitor has one session."""
    session = session or secrets.token_hex(8)
    body = {"data": data, "fn_index": function, "session_hash": session}
    joined = client.post(f"{url}/gradio_api/queue/join", json=body, timeout=PATIENCE)
    if joined.status_code != 200:
        return {"success": False, "status": joined.status_code, "line": joined.text}
    with client.stream("GET", f"{url}/gradio_api/queue/data?session_hash={session}", timeout=PATIENCE) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                message = json.loads(line[5:])
                if message["msg"] in ("process_completed", "unexpected_error"):
                    return message
    raise AssertionError("the server ended the events without an answer")


def upload(client: httpx.Client, url: str, content: bytes, name: str = "photo.png") -> httpx.Response:
    """Send a file as the page does."""
    return client.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=PATIENCE)


def file(path: str) -> dict[str, Any]:
    """An upload in an event."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
