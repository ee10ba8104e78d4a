"""Attacks on the running demo: each gets a 4xx or one line, and afterwards the demo still works."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from demo_server import PATIENCE, Demo, ask, file, functions, upload
from PIL import Image

from decathlon.demo import inputs
from decathlon.demo.page import MAX_QUEUED
from decathlon.demo.server import MAX_CONNECTIONS

SECRET = "root:"  # what /etc/passwd begins with


def raw(url: str, target: str, method: str = "GET", headers: str = "", body: bytes = b"") -> tuple[int, bytes]:
    """Send a request whose path no library has normalised."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n{headers}\r\n"
        connection.sendall(head.encode() + body)
        response = b""
        while part := connection.recv(65536):
            response += part
    head, _, rest = response.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose pixels, all black, decompress to a thousand times its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes((3 * width + 1) * min(height, 2000)), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=PATIENCE) as http:
        yield http


@pytest.fixture(scope="module")
def handlers(demo: Demo) -> dict[str, int]:
    return functions(demo.url)


@pytest.fixture(autouse=True)
def still_works(demo: Demo, client: httpx.Client, handlers: dict[str, int]) -> Iterator[None]:
    """After every attack a review is classified, and the log has no traceback."""
    yield
    answer = ask(client, demo.url, handlers["review"], ["A truly wonderful film, great actors, I loved it."])
    assert answer["success"], answer
    assert 'data-answer="pos"' in answer["output"]["data"][0]
    assert "Traceback" not in demo.log.read_text()


TARGETS = [
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../../../../../etc/passwd",
    "/gradio_api/file=%2fetc%2fpasswd",
    "/gradio_api/file=%252fetc%252fpasswd",
    "/gradio_api/file=/etc/passwd%00.png",
    "/gradio_api/file=//etc/passwd",
    "/gradio_api/file=\\etc\\passwd",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file={folder}/../../../../../../etc/passwd",
    "/gradio_api/file={folder}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/file={folder}/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/gradio_api/file={folder}/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
    "/gradio_api/file={folder}/link",
    "/gradio_api/file={folder}/out/passwd",
    "/gradio_api/file={folder}",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/file={log}",
    "/gradio_api/file/etc/passwd",
    "/file=/etc/passwd",
    "/static/../../../../../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/svelte/../../../../../../../etc/passwd",
    "/gradio_api/custom_component/1/client/component/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/gradio_api/file=http://127.0.0.1:{port}/config",
    "/gradio_api/proxy=http://127.0.0.1:{port}/config",
    "/../../../../etc/passwd",
]


@pytest.mark.parametrize("target", TARGETS)
def test_no_other_file_is_served(demo: Demo, target: str) -> None:
    for name, target_path in (("link", "/etc/passwd"), ("out", "/etc")):
        if not (demo.folder / name).is_symlink():
            (demo.folder / name).symlink_to(target_path)
    try:
        port = urlsplit(demo.url).port
        status, body = raw(demo.url, target.format(folder=demo.folder, log=demo.log, port=port))
    finally:
        for name in ("link", "out"):
            (demo.folder / name).unlink()
    assert 400 <= status < 500, (status, body[:200])
    assert SECRET.encode() not in body


def test_an_upload_is_encoded_anew_and_served(demo: Demo, client: httpx.Client) -> None:
    sent = png(Image.effect_noise((60, 40), 90).convert("RGB"), "JPEG") + b"<script>alert(1)</script>"
    answer = upload(client, demo.url, sent, "../../../evil.html")
    assert answer.status_code == 200, answer.text
    (path,) = answer.json()
    assert Path(path).is_relative_to(demo.folder)
    assert "evil" not in path
    stored = client.get(f"{demo.url}/gradio_api/file={path}")
    assert stored.headers["content-type"] == "image/png"
    assert b"script" not in stored.content
    assert Image.open(io.BytesIO(stored.content)).size == (60, 40)


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("text.png", b"just text", 422),
        ("empty.png", b"", 422),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 422),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 422),
        ("page.html", b"<html><script>alert(1)</script></html>", 422),
        ("moving.gif", png(Image.new("P", (30, 30)), "GIF"), 422),
        ("moving.png", png(Image.new("P", (30, 30)), "GIF"), 422),
        ("bomb.png", bomb(60_000, 60_000), 422),
        ("bomb-2.png", bomb(9_000, 9_000), 422),
        ("cut.png", png(Image.effect_noise((400, 400), 90))[:20_000], 422),
        ("archive.zip", b"PK\x03\x04" + bytes(1000), 422),
        ("weights.pkl", b"\x80\x04\x95" + bytes(1000), 422),
        ("large.png", bytes(inputs.MAX_UPLOAD_BYTES + 1), 422),
        ("huge.png", bytes(30 * 2**20), 413),
        ("\xff\xfe\u202e.png", b"no valid name", 422),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else "",
)
def test_an_invalid_image_is_refused_in_one_line(
    demo: Demo, client: httpx.Client, name: str, content: bytes, status: int
) -> None:
    before = demo.memory()
    try:
        answer = upload(client, demo.url, content, name)
    except httpx.TransportError:  # the server closed the connection before all was sent
        assert status == 413
        return
    assert answer.status_code == status, answer.text
    assert len(answer.text.strip().splitlines()) == 1
    assert str(demo.folder) not in answer.text
    assert demo.memory() - before < 300 * 2**20


def test_uploads_without_a_form_or_with_several_files(demo: Demo, client: httpx.Client) -> None:
    url = f"{demo.url}/gradio_api/upload"
    image = png(Image.new("RGB", (30, 30)))
    two_files = client.post(url, files=[("files", ("a.png", image)), ("files", ("b.png", image))])
    for answer in (
        two_files,
        client.post(url),
        client.post(url, content=b"{}", headers={"content-type": "application/json"}),
        client.post(url, content=b"\xff\xfe", headers={"content-type": "multipart/form-data; boundary=x"}),
        client.post(url, data={"files": "text"}),
    ):
        assert answer.status_code in (400, 422), answer.text
        assert len(answer.text.strip().splitlines()) == 1
    status, _ = raw(demo.url, "/gradio_api/upload", "POST", "Content-Length: 99999999999\r\n", b"x")
    assert status == 413


def test_a_body_without_a_length_is_limited(demo: Demo) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(2**20)

    try:
        answer = httpx.post(f"{demo.url}/gradio_api/queue/join", content=chunks(), timeout=PATIENCE)
    except httpx.TransportError:
        return  # the server closed the connection
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "value",
    [
        file("/etc/passwd"),
        file("../../../etc/passwd"),
        file("http://127.0.0.1:1/image.png"),
        {"path": None, "url": "http://127.0.0.1:1/image.png", "meta": {"_type": "gradio.FileData"}},
        {"path": ["/etc/passwd"]},
        {"path": "/etc/passwd", "orig_name": "a.svg", "is_stream": True, "meta": {"_type": "gradio.FileData"}},
    ],
    ids=str,
)
def test_an_event_cannot_name_a_file(demo: Demo, client: httpx.Client, handlers: dict[str, int], value: Any) -> None:
    for tab in ("objects-image", "pets-image", "boxes-image"):
        answer = ask(client, demo.url, handlers[tab], [value])
        assert answer.get("status") == 400, answer
        assert SECRET not in str(answer)
    assert ask(client, demo.url, handlers["pad"], [value, "1", "2"]).get("status") == 400


@pytest.mark.parametrize(
    "value", [5, "text", [1, 2], {"url": "data:image/png;base64,AAAA"}, {"a": {"b": []}}, True], ids=str
)
def test_inputs_of_wrong_types_get_one_line(
    demo: Demo, client: httpx.Client, handlers: dict[str, int], value: Any
) -> None:
    for name, data in (
        ("objects-image", [value]),
        ("pets-image", [value, value]),
        ("pad", [value, value, value]),
        ("interpolation-from", [value, "1", "2"]),
        ("interpolation-from", ["", value, "2"]),
        ("review", [value]),
        ("review", []),
        ("pets-examples", [99 if value == 5 else value]),
    ):
        answer = ask(client, demo.url, handlers[name], data)
        if name == "review" and value == "text" and data:
            assert answer["success"]
        elif data == ["text", "1", "2"]:
            assert "drawing" in answer["output"]["error"]
        else:
            assert answer["status"] == 400, (name, data, answer)
            assert len(answer["line"].strip().splitlines()) == 1


def test_invalid_drawings(demo: Demo, client: httpx.Client, handlers: dict[str, int]) -> None:
    for url in (
        "/etc/passwd",
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(),
        inputs.PNG_URL + base64.b64encode(bomb(5000, 5000)).decode(),
        inputs.PNG_URL + "A" * 300_000,
        "file:///etc/passwd",
    ):
        answer = ask(client, demo.url, handlers["pad"], [url, "1", "2"])
        assert not answer["success"]
        assert "drawing" in answer["output"]["error"] or "pad" in answer["output"]["error"], answer


def test_invalid_reviews(demo: Demo, client: httpx.Client, handlers: dict[str, int]) -> None:
    for text, words in (
        ("good " * 10_000, "characters"),
        ("\u0000\u0001", "no word"),
        ("★" * 1000, "no word"),
    ):
        answer = ask(client, demo.url, handlers["review"], [text])
        assert not answer["success"]
        assert words in answer["output"]["error"], answer
    for text in ("", "   ", "<s></s><mask> good", "a" * 19_000, "good " * 3_999, "\u202egood\u202c film"):
        assert ask(client, demo.url, handlers["review"], [text])["success"], text[:20]
    surrogates = b'{"data": ["good \\ud800 film"], "fn_index": %d, "session_hash": "abc"}' % handlers["review"]
    kind = {"content-type": "application/json"}
    assert client.post(f"{demo.url}/gradio_api/queue/join", content=surrogates, headers=kind).status_code == 200


def test_invalid_events(demo: Demo, client: httpx.Client) -> None:
    for body in (
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[" * 100_000,
        b'{"data": [], "fn_index": 99999, "session_hash": "a"}',
        b'{"data": [], "fn_index": -1, "session_hash": "a"}',
        b'{"data": ["x"], "session_hash": "a"}',
        b'{"data": "x", "fn_index": 0, "session_hash": 3}',
        b"null",
    ):
        answer = client.post(
            f"{demo.url}/gradio_api/queue/join", content=body, headers={"content-type": "application/json"}
        )
        assert 400 <= answer.status_code < 500, (body[:60], answer.status_code, answer.text)


def test_urls_that_the_page_does_not_need_get_404(demo: Demo, client: httpx.Client) -> None:
    for path in ("docs", "openapi.json", "gradio_api/info", "gradio_api/openapi.json", "gradio_api/runs", "monitoring"):
        assert client.get(f"{demo.url}/{path}").status_code == 404, path
    for path in ("run/predict", "api/predict", "call/predict", "component_server", "process_recording", "vibe-edit"):
        assert client.post(f"{demo.url}/gradio_api/{path}", json={"data": []}).status_code == 404, path


def test_other_hosts_and_origins_are_refused(demo: Demo, client: httpx.Client, handlers: dict[str, int]) -> None:
    assert client.get(demo.url, headers={"host": "attacker.example"}).status_code == 421
    body = {"data": ["good film"], "fn_index": handlers["review"], "session_hash": "abc"}
    foreign = {"origin": "http://attacker.example"}
    marked = foreign | {"sec-fetch-site": "cross-site"}  # as every browser marks a request of another site's page
    assert client.post(f"{demo.url}/gradio_api/queue/join", json=body, headers=marked).status_code == 403
    answer = client.post(f"{demo.url}/gradio_api/queue/join", json=body, headers=foreign)
    assert answer.headers.get("access-control-allow-origin") not in ("*", "http://attacker.example")


def test_uploads_do_not_fill_the_disk(demo: Demo, client: httpx.Client) -> None:
    image = png(Image.new("RGB", (8, 8)))
    first = upload(client, demo.url, image).json()[0]
    for _ in range(220):
        assert upload(client, demo.url, image).status_code == 200
    assert not Path(first).exists()
    assert len(list(demo.folder.glob("*/image.png"))) <= 200


def test_idle_connections_do_not_block_others(demo: Demo, client: httpx.Client) -> None:
    address = urlsplit(demo.url)
    idle = [socket.create_connection((address.hostname, address.port)) for _ in range(100)]
    try:
        threads = [
            threading.Thread(target=connection.sendall, args=(b"POST /gradio_api/upload HTTP/1.1\r\n",))
            for connection in idle
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get(demo.url).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_connections_beyond_the_limit_get_503(demo: Demo, client: httpx.Client) -> None:
    address = urlsplit(demo.url)
    idle = [socket.create_connection((address.hostname, address.port)) for _ in range(MAX_CONNECTIONS)]
    try:
        assert raw(demo.url, "/")[0] == 503
    finally:
        for connection in idle:
            connection.close()
    end = time.monotonic() + PATIENCE
    while raw(demo.url, "/")[0] != 200:
        assert time.monotonic() < end, "the server does not notice that the connections have ended"
        time.sleep(0.1)


def test_events_beyond_the_queue_are_refused(demo: Demo, client: httpx.Client, handlers: dict[str, int]) -> None:
    review = "A truly wonderful film, great actors, I loved it. " * 300  # slow to classify, so that the queue fills
    statuses = []
    for visitor in range(3 * MAX_QUEUED):
        body = {"data": [review], "fn_index": handlers["review"], "session_hash": f"visitor{visitor}"}
        answer = client.post(f"{demo.url}/gradio_api/queue/join", json=body)
        statuses.append(answer.status_code)
        if answer.status_code != 200:
            break
    assert len(statuses) > MAX_QUEUED
    assert statuses[-1] == 503, statuses
    assert "queue is full" in answer.text.lower(), answer.text
    end = time.monotonic() + PATIENCE
    while not ask(client, demo.url, handlers["review"], ["A good film."])["success"]:
        assert time.monotonic() < end, "the queue does not empty"
        time.sleep(1)
