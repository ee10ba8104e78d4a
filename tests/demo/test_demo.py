"""The demo without its page: checks of inputs, the content of the tabs, and the request guard.

The page itself is tested in a browser, in tests/browser; nothing here needs Gradio.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Command
from PIL import Image, ImageDraw

from decathlon.data import embeddings
from decathlon.data.synthetic import pets as drawn_pets
from decathlon.data.transforms import tokens
from decathlon.demo import digits, examples, guard, html, images, inputs, models, reviews, server
from decathlon.runs import bundled
from decathlon.runs.load import Loaded, find_run, load_run
from decathlon.tasks.base import get_task, task_ids


def content(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header claims this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def seven() -> Image.Image:
    """A seven as the pad sends it."""
    image = Image.new("L", (112, 112))
    ImageDraw.Draw(image).line([(34, 24), (78, 24), (48, 92)], fill=255, width=10)
    return image


# --- Inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_images_are_read_whatever_their_name(kind: str, mode: str) -> None:
    if (kind, mode) == ("JPEG", "RGBA"):
        return
    image = inputs.read_image(content(Image.new(mode, (3000, 1500)), kind))
    assert (image.mode, max(image.size)) == ("RGB", inputs.MAX_STORED_SIDE)
    assert image.width == pytest.approx(2 * image.height, abs=2)


def test_a_photo_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by 90 degrees
    assert inputs.read_image(content(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "empty"),
        (b"just text in a file called photo.png", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "not an image"),
        (content(Image.new("P", (20, 20)), "GIF"), "not an image"),
        (content(Image.new("RGB", (20, 20)), "BMP"), "not an image"),
        (b"%PDF-1.7\n%\xe2\xe3", "not an image"),
        (bomb(60_000, 60_000), "million"),
        (bomb(6_000, 6_000), "million"),
        (bomb(300, 300), "damaged"),
        (content(Image.effect_noise((300, 300), 90))[:9000], "damaged"),
        (content(Image.effect_noise((300, 300), 90), "JPEG")[:20], "not an image"),
        (bytes(inputs.MAX_UPLOAD_BYTES + 1), "MB"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_an_invalid_image_gets_one_line(sent: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        inputs.read_image(sent)
    assert "\n" not in str(error.value)


def test_drawings_are_decoded() -> None:
    def url(image: Image.Image, kind: str = "PNG") -> str:
        return f"data:image/{kind.lower()};base64,{base64.b64encode(content(image, kind)).decode()}"

    assert inputs.read_drawing(None) is None
    assert inputs.read_drawing("") is None
    assert inputs.read_drawing(url(Image.new("RGB", (112, 112)))) is None
    drawn = inputs.read_drawing(url(seven()))
    assert drawn is not None
    assert np.array_equal(np.asarray(drawn), np.asarray(seven()))
    broken = base64.b64encode(content(seven())[:60]).decode()
    for wrong in (
        "hello",
        "http://example.org/a.png",
        url(seven(), "GIF"),
        inputs.PNG_URL + "%%%",
        inputs.PNG_URL + broken,
        inputs.PNG_URL + base64.b64encode(bomb(60_000, 60_000)).decode(),
        inputs.PNG_URL + "A" * inputs.MAX_DRAWING_CHARACTERS,
        url(Image.new("L", (2000, 2000))),
    ):
        with pytest.raises(ValueError, match="drawing"):
            inputs.read_drawing(wrong)


def test_reviews_are_checked() -> None:
    assert inputs.check_review(None) is None
    assert inputs.check_review(" \n ") is None
    assert inputs.check_review("good<br />film \udcff") == "good film ?"
    for wrong, words in (("a " * inputs.MAX_REVIEW_CHARACTERS, "characters"), ("… — ★", "no word")):
        with pytest.raises(ValueError, match=words):
            inputs.check_review(wrong)


# --- Content of the tabs ----------------------------------------------------------------------------------------------


def test_every_task_has_weights_with_a_description() -> None:
    for name in task_ids():
        card = bundled.card(name)
        description, limit = models.describe(name, find_run(name, None))
        assert limit == card["limits"][0]
        assert f"{100 * card['value']:.2f} %" in description
        assert card["data"] in description


def test_a_network_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(folder: Path) -> Loaded:
        loaded.append(folder)
        return load_run(folder)

    monkeypatch.setattr(models, "load_run", load)
    models._networks.clear()
    threads = [threading.Thread(target=models.get_network, args=("mnist-mlp",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1


def test_the_networks_classify_a_drawing() -> None:
    predictions = digits.predict(seven())
    assert list(predictions.probabilities) == [name for name in task_ids() if name.startswith("mnist-")]
    for probabilities in predictions.probabilities.values():
        assert next(iter(probabilities)) == "7"
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert predictions.image.shape == predictions.reconstruction.shape == (28, 28)
    error = np.square(predictions.image / 255.0 - predictions.reconstruction / 255.0).mean()
    assert error < np.square(predictions.image / 255.0).mean() / 3, "a black image would be nearly as good"
    page = html.render_digit_predictions(predictions)
    assert page.count('data-answer="7"') == 3
    assert page.count("data:image/png") == 3
    with pytest.raises(ValueError, match="shows no digit"):
        digits.predict(Image.new("L", (112, 112), 7))


def test_an_interpolation_starts_and_ends_at_its_digits() -> None:
    frames = digits.interpolate(digits.DRAWING, "3", seven())
    assert frames.shape == (digits.NUM_STEPS, 28, 28)
    for frame, name in ((frames[0], digits.DRAWING), (frames[-1], "3")):
        assert np.abs(frame.astype(int) - digits.reconstruct(digits.load_endpoint(name, seven()))[0]).max() <= 1
    steps = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2))
    assert (steps > 0).all()
    assert "nine steps" in html.render_interpolation(digits.DRAWING, "3", frames)
    for start, drawing in ((digits.DRAWING, None), ("ten", None), ("../3", None)):
        with pytest.raises(ValueError, match=r"draw a digit|between digits"):
            digits.interpolate(start, "3", drawing)


def test_an_image_gets_classes_and_a_heat_map(tmp_path: Path) -> None:
    paths = examples.write_images(tmp_path)
    for path in (paths["objects"][0], paths["objects"][-1]):
        image = inputs.read_image(Path(path).read_bytes())
        result = images.classify(image)
        for name in images.CIFAR:
            (prediction,) = get_task(name).predict(
                models.get_network(name).model,
                [path],
                models.get_network(name).loaded.recipe,
                models.get_network(name).info,
            )
            assert result.probabilities[name] == pytest.approx(prediction.probabilities, abs=1e-5)
        assert result.heatmap is not None
        assert result.heatmap.size == result.crop.size
        page = html.render_image_classes(result)
        assert page.count("<figure>") == 3


@pytest.mark.parametrize(("name", "seed"), examples.PETS)
def test_a_pet_is_cut_out(name: str, seed: int) -> None:
    image, trimap = drawn_pets.draw_pet(name, examples.make_rng(seed))
    result = images.segment(examples.enlarge(image, 3))
    assert result.cutout.size == result.image.size == (3 * image.width, 3 * image.height)
    mask = np.asarray(result.cutout.resize(image.size))[..., 3] > 127
    target = np.asarray(trimap) != 2
    assert (mask & target).sum() / (mask | target).sum() > 0.6
    assert f"pet on {100 * result.fraction:.1f} %" in html.render_pet_mask(result)


@pytest.mark.parametrize(("name", "expected"), [("astronaut", "person"), ("chelsea", "cat")])
def test_both_detectors_detect_the_object_of_a_photo(name: str, expected: str) -> None:
    photo = Image.open(examples.PHOTOS / f"{name}.jpg")
    detections = images.detect(photo)
    assert list(detections) == list(images.DETECTORS)
    for objects in detections.values():
        scores = [item.score for item in objects]
        assert scores == sorted(scores, reverse=True)
        assert all(
            item.left >= 0 and item.left + item.width <= 1.001 and item.top + item.height <= 1.001 for item in objects
        )
        assert objects[0].name == expected
        assert objects[0].score >= html.SCORE_THRESHOLD
    page = html.render_detections(photo, detections)
    hidden = sum(item.score < html.SCORE_THRESHOLD for objects in detections.values() for item in objects)
    assert page.count(" hidden ") == hidden
    assert page.count("data-score=") == sum(map(len, detections.values()))


REVIEW = "A <b>terrible</b> film: dull, badly acted & far too long. I hated <script>alert(1)</script> it."


def test_the_words_of_a_review_get_attributions_and_are_escaped() -> None:
    predictions = reviews.predict(REVIEW)
    for name, item in predictions.items():
        network = models.get_network(name)
        (prediction,) = get_task(name).predict(network.model, [REVIEW], network.loaded.recipe, network.info)
        assert item.probabilities == pytest.approx(prediction.probabilities, abs=1e-4)
        assert item.label == "neg"
        assert "".join(part for part, _ in item.parts) == REVIEW
        weights = {part: weight for part, weight in item.parts if weight}
        assert max(abs(weight) for _, weight in item.parts) == pytest.approx(1)  # a word may occur twice
        assert weights["dull"] > 0
        assert len(item.words) == reviews.MAX_NAMED_WORDS
    page = html.render_review_predictions(predictions)
    assert "<script" not in page
    assert "&lt;" in page
    assert page.count('data-answer="neg"') == 2


def test_long_reviews_note_what_was_not_read() -> None:
    text = "This film was good. " * 400
    for item in reviews.predict(text).values():
        assert "first and last" in item.notes[0]
        assert "".join(part for part, _ in item.parts) == text


def test_the_tokens_attributions_add_up_to_the_logit() -> None:
    """The completeness of integrated gradients: they sum to the difference of the logit from that of no review."""
    network = models.get_network("imdb-roberta")
    encoder = network.encoder
    (row,) = tokens.encode(encoder.tokenizer, ["A dull film, badly acted and far too long."])
    token_ids = torch.tensor([embeddings.truncate(row, encoder)])
    vectors = encoder.network.embeddings.word_embeddings(token_ids)

    def logit(vectors: torch.Tensor) -> float:
        hidden = encoder.network(inputs_embeds=vectors, output_hidden_states=True).hidden_states
        with torch.no_grad():
            logits = network.model(torch.cat([hidden[layer].mean(1) for layer in encoder.layers], 1))[0]
        return float(logits[0] - logits.mean())

    difference = logit(vectors) - logit(torch.zeros_like(vectors))
    attributions = reviews.integrated_gradients(encoder, network.model, token_ids, 0)
    assert abs(difference) > 1
    assert float(attributions.sum()) == pytest.approx(difference, rel=0.35)  # eight steps are few


# --- Request guard ----------------------------------------------------------------------------------------------------


def request(
    folder: Path, method: str, path: str, body: bytes = b"", host: str = "localhost:7860", length: int | None = None
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send a request to a guarded application that echoes the body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        content = (await receive())["body"] if method == "POST" else b""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    sent: list[Any] = []

    async def run() -> None:
        half = len(body) // 2
        messages = [
            {"type": "http.request", "body": body[:half], "more_body": True},
            {"type": "http.request", "body": body[half:], "more_body": False},
        ]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", host.encode()), (b"content-length", str(len(body) if length is None else length).encode())]
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await guard.add_guard(app, folder, server.LOOPBACK, lambda event: event["fn_index"] == 3)(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/assets/index-a_b.js", "/gradio_api/heartbeat/abc123"])
def test_requests_of_the_page_pass_and_get_a_policy(tmp_path: Path, path: str) -> None:
    status, headers, _ = request(tmp_path, "GET", path)
    assert status == 200
    policy = headers[b"content-security-policy"].decode()
    assert not re.search(r"https?:|\*", policy), "the policy names another host"
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/docs"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/openapi.json"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/call/predict"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/component_server"),
        ("GET", "/gradio_api/proxy=http://example.org/"),
        ("GET", "/monitoring"),
        ("GET", "/assets/../../secret"),
        ("GET", "/static/..%2f..%2fsecret"),
        ("PUT", "/"),
        ("DELETE", "/gradio_api/upload"),
    ],
)
def test_other_requests_get_404(tmp_path: Path, method: str, path: str) -> None:
    status, _, line = request(tmp_path, method, path)
    assert (status, line.count(b"\n")) == (404, 1)


def event(data: Any, number: Any = 3, session: Any = "abc") -> bytes:
    return json.dumps({"data": data, "fn_index": number, "session_hash": session}).encode()


def test_only_files_of_the_demo_are_served(tmp_path: Path) -> None:
    folder, secret = tmp_path / "demo", tmp_path / "secret.png"
    (folder / "a").mkdir(parents=True)
    secret.write_text("secret")
    own = folder / "a" / "image.png"
    own.write_text("own")
    (folder / "link.png").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    assert request(folder, "GET", f"{guard.FILE_PREFIX}{own}")[0] == 200
    for path in (
        secret,
        "/etc/passwd",
        f"{folder}/../secret.png",
        f"{folder}/a/../../secret.png",
        folder / "link.png",
        folder / "out" / "secret.png",
        folder,
        "secret.png",
        f"{folder}/%2e%2e/secret.png",
        f"{own}\0.png",
        "http://example.org/image.png",
        "file:///etc/passwd",
    ):
        assert request(folder, "GET", f"{guard.FILE_PREFIX}{path}")[0] in (403, 404), path
        assert request(folder, "POST", guard.JOIN_PATH, event([{"path": str(path), "is_stream": True}]))[0] == 400, path
    valid = event([{"path": str(own)}, "text"])
    assert request(folder, "POST", guard.JOIN_PATH, valid)[2] == valid


def test_events_are_json_of_bounded_size(tmp_path: Path) -> None:
    invalid = (event("text"), event([], 4), event([], "3"), event([], True), event([], 3, None), b"null", b"[]")
    for body in (b"\xff\xfe", b"{", b"[" * 200_000, *invalid):
        assert request(tmp_path, "POST", guard.JOIN_PATH, body)[0] == 400
    large = b'"' + b"a" * guard.MAX_BODY_BYTES[guard.JOIN_PATH] + b'"'
    assert request(tmp_path, "POST", guard.JOIN_PATH, large)[0] == 413
    assert request(tmp_path, "POST", guard.JOIN_PATH, large, length=10)[0] == 413, "the Content-Length is not trusted"
    assert request(tmp_path, "POST", guard.JOIN_PATH, b"{}", length=10**12)[0] == 413


def test_a_request_that_never_ends_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_TIMEOUT", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the body is incomplete")

    headers = [(b"host", b"localhost"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": guard.UPLOAD_PATH, "headers": headers}

    async def several() -> None:
        handle = guard.add_guard(app, tmp_path, None, lambda event: True)
        await asyncio.gather(*(handle(scope, receive, send) for _ in range(guard.MAX_CONCURRENT_UPLOADS + 1)))

    asyncio.run(several())
    statuses = sorted(message["status"] for message in sent if message["type"] == "http.response.start")
    assert statuses == [408] * guard.MAX_CONCURRENT_UPLOADS + [503]


def test_uploads_count_until_they_are_answered(tmp_path: Path) -> None:
    """Bodies that were received wait in memory to be decoded: without a limit they would fill it."""
    sent: list[Any] = []
    held = most = 0

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal held, most
        held += 1
        most = max(most, held)
        await asyncio.sleep(0.05)
        held -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    headers = [(b"host", b"localhost"), (b"content-length", b"1")]
    scope = {"type": "http", "method": "POST", "path": guard.UPLOAD_PATH, "headers": headers}

    async def several() -> None:
        handle = guard.add_guard(app, tmp_path, None, lambda event: True)
        for _ in range(2):
            await asyncio.gather(*(handle(scope, receive, send) for _ in range(2 * guard.MAX_CONCURRENT_UPLOADS)))

    asyncio.run(several())
    statuses = sorted(message["status"] for message in sent if message["type"] == "http.response.start")
    assert most == guard.MAX_CONCURRENT_UPLOADS
    assert statuses == [200] * 2 * most + [503] * 2 * most


def test_pages_of_other_sites_cannot_send(tmp_path: Path) -> None:
    for site, allowed in (("same-origin", True), ("none", True), ("cross-site", False)):
        scope = {
            "type": "http",
            "method": "POST",
            "path": guard.UPLOAD_PATH,
            "headers": [(b"host", b"localhost"), (b"sec-fetch-site", site.encode())],
        }
        with contextlib.nullcontext() if allowed else pytest.raises(guard.Refusal, match="other sites"):
            guard.check(scope, tmp_path, None)


def test_other_host_names_are_refused(tmp_path: Path) -> None:
    for host in ("127.0.0.1:7860", "localhost", "[::1]:7860"):
        assert request(tmp_path, "GET", "/", host=host)[0] == 200
    for host in ("attacker.example", "attacker.example:7860", "localhost.attacker.example", ""):
        assert request(tmp_path, "GET", "/", host=host)[0] == 421


# --- The command ------------------------------------------------------------------------------------------------------


def test_without_gradio_one_line_says_what_to_install(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = decathlon("demo", "--no-browser")
    assert done.status == 1
    assert "pip install 'decathlon[demo]'" in done.error


def test_an_invalid_port_gets_one_line(decathlon: Command) -> None:
    done = decathlon("demo", "--port", "70000")
    assert done.status == 2
    assert "--port" in done.error


def test_only_page_and_server_need_gradio() -> None:
    folder = ROOT / "src/decathlon/demo"
    importing = {
        path.name
        for path in folder.glob("*.py")
        if re.search(r"^\s*import (gradio|uvicorn|fastapi)", path.read_text(), re.M)
    }
    assert importing == {"page.py", "server.py"}


def test_the_address_can_be_opened_as_soon_as_it_is_printed() -> None:
    with server.bind_socket("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname(), timeout=5):
        pass
