"""The demo without its page: what comes in is checked, what a tab shows is right, and the guard lets little through.

The page itself is tested in a browser, tests/browser; nothing here needs Gradio.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
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

from decathlon import encoder, finished, shipped
from decathlon.data import drawn_pets, drawn_scenes
from decathlon.demo import digits, examples, guard, inputs, models, photos, reviews, show
from decathlon.recipe import get_task, task_ids


def content(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(wide: int, high: int) -> bytes:
    """A PNG of a few hundred bytes whose header promises this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def seven() -> Image.Image:
    """A seven as the pad sends it."""
    image = Image.new("L", (112, 112))
    ImageDraw.Draw(image).line([(34, 24), (78, 24), (48, 92)], fill=255, width=10)
    return image


# --- What comes in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_pictures_are_read_whatever_they_are_called(kind: str, mode: str) -> None:
    if (kind, mode) == ("JPEG", "RGBA"):
        return
    image = inputs.picture(content(Image.new(mode, (3000, 1500)), kind))
    assert (image.mode, max(image.size)) == ("RGB", inputs.SIDE)
    assert image.width == pytest.approx(2 * image.height, abs=2)


def test_a_photo_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright, stored on its side
    assert inputs.picture(content(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "empty"),
        (b"just text in a file called photo.png", "no picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "no picture"),
        (content(Image.new("P", (20, 20)), "GIF"), "no picture"),
        (content(Image.new("RGB", (20, 20)), "BMP"), "no picture"),
        (b"%PDF-1.7\n%\xe2\xe3", "no picture"),
        (bomb(60_000, 60_000), "million"),
        (bomb(6_000, 6_000), "million"),
        (bomb(300, 300), "damaged"),
        (content(Image.effect_noise((300, 300), 90))[:9000], "damaged"),
        (content(Image.effect_noise((300, 300), 90), "JPEG")[:20], "no picture"),
        (bytes(inputs.MOST_BYTES + 1), "MB"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_what_is_no_picture_is_told_so_in_a_line(sent: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        inputs.picture(sent)
    assert "\n" not in str(error.value)


def test_the_pads_drawings() -> None:
    def url(image: Image.Image, kind: str = "PNG") -> str:
        return f"data:image/{kind.lower()};base64,{base64.b64encode(content(image, kind)).decode()}"

    assert inputs.drawing(None) is None
    assert inputs.drawing("") is None
    assert inputs.drawing(url(Image.new("RGB", (112, 112)))) is None
    drawn = inputs.drawing(url(seven()))
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
        inputs.PNG_URL + "A" * inputs.PAD_CHARACTERS,
        url(Image.new("L", (2000, 2000))),
    ):
        with pytest.raises(ValueError, match="drawing"):
            inputs.drawing(wrong)


def test_reviews_have_a_length_and_words() -> None:
    assert inputs.review(None) is None
    assert inputs.review(" \n ") is None
    assert inputs.review("good<br />film \udcff") == "good film ?"
    for wrong, words in (("a " * inputs.LETTERS, "characters"), ("… — 好的", "no word")):
        with pytest.raises(ValueError, match=words):
            inputs.review(wrong)


# --- What is shown ----------------------------------------------------------------------------------------------------


def test_every_task_has_weights_and_says_which() -> None:
    for name in task_ids():
        known = shipped.card(name)
        told, limit = models.told(name, finished.find_run(name, None))
        assert limit == known["limits"][0]
        assert f"{100 * known['value']:.2f} %" in told
        assert known["data"] in told
    assert "drawn scenes only" in show.detectors()


def test_a_network_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(folder: Path) -> finished.Loaded:
        loaded.append(folder)
        return finished.load_run(folder)

    monkeypatch.setattr(models, "load_run", load)
    models.forget()
    threads = [threading.Thread(target=models.network, args=("mnist-mlp",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1


def test_the_networks_read_a_drawing() -> None:
    found = digits.answers(seven())
    assert list(found.probabilities) == [name for name in task_ids() if name.startswith("mnist-")]
    for probabilities in found.probabilities.values():
        assert next(iter(probabilities)) == "7"
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert found.seen.shape == found.reconstruction.shape == (28, 28)
    error = np.square(found.seen / 255.0 - found.reconstruction / 255.0).mean()
    assert error < np.square(found.seen / 255.0).mean() / 3  # a black picture's error is three times as large
    page = show.digits_of(found)
    assert page.count('data-answer="7"') == 3
    assert page.count("data:image/png") == 3
    with pytest.raises(ValueError, match="shows nothing"):
        digits.answers(Image.new("L", (112, 112), 7))


def test_a_walk_leads_from_one_digit_to_the_other() -> None:
    pictures = digits.walk(digits.MINE, "3", seven())
    assert pictures.shape == (digits.STEPS, 28, 28)
    for picture, name in ((pictures[0], digits.MINE), (pictures[-1], "3")):
        assert np.abs(picture.astype(int) - digits.through(digits.ends(name, seven()))[0]).max() <= 1
    steps = np.abs(np.diff(pictures.astype(int), axis=0)).mean((1, 2))
    assert (steps > 0).all()
    assert "nine steps" in show.walk(digits.MINE, "3", pictures)
    for start, drawing in ((digits.MINE, None), ("ten", None), ("../3", None)):
        with pytest.raises(ValueError, match=r"draw a digit|from digit to digit"):
            digits.walk(start, "3", drawing)


def test_a_photo_gets_classes_and_a_heat_map(tmp_path: Path) -> None:
    paths = examples.pictures(tmp_path)
    for path in (paths["things"][0], paths["things"][-1]):
        image = inputs.picture(Path(path).read_bytes())
        found = photos.things(image)
        for name in photos.CIFAR:
            (said,) = get_task(name).predict(
                models.network(name).model, [path], models.network(name).loaded.recipe, models.network(name).meta
            )
            assert found.probabilities[name] == pytest.approx(said["probabilities"], abs=1e-5)
        assert found.heat is not None
        assert found.heat.size == found.seen.size
        page = show.things(found)
        assert page.count("<figure>") == 3


def test_a_pet_is_cut_out() -> None:
    name, seed = examples.PETS[0]
    photo, trimap = drawn_pets.picture(name, examples.seeded(seed))
    found = photos.pet(examples.enlarged(photo, 3))
    assert found.cutout.size == found.photo.size == (3 * photo.width, 3 * photo.height)
    mask = np.asarray(found.cutout.resize(photo.size))[..., 3] > 127
    truth = np.asarray(trimap) != 2
    assert (mask & truth).sum() / (mask | truth).sum() > 0.6
    assert f"pet on {100 * found.share:.1f} %" in show.pet(found)


def test_both_detectors_box_the_things_of_a_scene() -> None:
    for seed in examples.SCENES:
        scene, there = drawn_scenes.scene(examples.seeded(seed))
        large = examples.enlarged(scene, 4)
        found = photos.found(large)
        assert list(found) == list(photos.DETECTORS)
        for things in found.values():
            scores = [one.score for one in things]
            assert scores == sorted(scores, reverse=True)
            assert all(one.left >= 0 and one.left + one.wide <= 1.001 and one.top + one.high <= 1.001 for one in things)
            sure = {one.name for one in things if one.score >= show.THRESHOLD}
            assert sure & {name for name, _ in there}
        page = show.boxes(large, found)
        hidden = sum(one.score < show.THRESHOLD for things in found.values() for one in things)
        assert page.count(" hidden ") == hidden
        assert page.count("data-score=") == sum(map(len, found.values()))


REVIEW = "A <b>terrible</b> film: dull, badly acted & far too long. I hated <script>alert(1)</script> it."


def test_the_words_of_a_review_are_weighted_and_escaped() -> None:
    found = reviews.answers(REVIEW)
    for name, one in found.items():
        ready = models.network(name)
        (said,) = get_task(name).predict(ready.model, [REVIEW], ready.loaded.recipe, ready.meta)
        assert one.probabilities == pytest.approx(said["probabilities"], abs=1e-4)
        assert one.label == "neg"
        assert "".join(part for part, _ in one.parts) == REVIEW
        weights = {part: weight for part, weight in one.parts if weight}
        assert max(map(abs, weights.values())) == pytest.approx(1)
        assert weights["dull"] > 0
        assert len(one.words) == reviews.MOST
    page = show.review(found)
    assert "<script" not in page
    assert "&lt;" in page
    assert page.count('data-answer="neg"') == 2


def test_long_reviews_say_what_was_not_read() -> None:
    text = "This film was good. " * 400
    for one in reviews.answers(text).values():
        assert "first and last" in one.notes[0]
        assert "".join(part for part, _ in one.parts) == text


def test_the_pieces_weights_add_up_to_the_score() -> None:
    """What integrated gradients promise: together they are the distance of the score from that of no review."""
    ready = models.network("imdb-roberta")
    numbers = encoder.one(ready.encoder, "A dull film, badly acted and far too long.")[0]
    whole = ready.encoder.network.embeddings.word_embeddings(numbers)

    def score(vectors: torch.Tensor) -> float:
        outputs = ready.encoder.network(inputs_embeds=vectors, output_hidden_states=True).hidden_states
        with torch.no_grad():
            scores = ready.model(torch.cat([outputs[layer].mean(1) for layer in ready.encoder.layers], 1))[0]
        return float(scores[0] - scores.mean())

    distance = score(whole) - score(torch.zeros_like(whole))
    found = float(reviews.integrated(ready.encoder, ready.model, numbers, 0).sum())
    assert abs(distance) > 1
    assert found == pytest.approx(distance, rel=0.35), "eight steps are a rough integral"


# --- What passes the guard --------------------------------------------------------------------------------------------


def asked(
    folder: Path, method: str, path: str, body: bytes = b"", host: str = "localhost:7860", length: int | None = None
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask a guarded application that answers everything with its path and the body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen = (await receive())["body"] if method == "POST" else b""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": seen})

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
        hosts = frozenset({"localhost", "127.0.0.1"})
        await guard.guarded(app, folder, hosts, lambda event: event["fn_index"] == 3)(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/assets/index-a_b.js", "/gradio_api/heartbeat/abc123"])
def test_what_the_page_needs_passes_with_a_policy(tmp_path: Path, path: str) -> None:
    status, headers, _ = asked(tmp_path, "GET", path)
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
def test_what_the_page_does_not_need_does_not_pass(tmp_path: Path, method: str, path: str) -> None:
    status, _, line = asked(tmp_path, method, path)
    assert (status, line.count(b"\n")) == (404, 1)


def event(data: Any, number: Any = 3, session: Any = "abc") -> bytes:
    return json.dumps({"data": data, "fn_index": number, "session_hash": session}).encode()


def test_only_the_demos_own_files_are_read_back(tmp_path: Path) -> None:
    folder, secret = tmp_path / "demo", tmp_path / "secret.png"
    (folder / "a").mkdir(parents=True)
    secret.write_text("secret")
    ours = folder / "a" / "picture.png"
    ours.write_text("ours")
    (folder / "link.png").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    assert asked(folder, "GET", f"{guard.FILE}{ours}")[0] == 200
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
        f"{ours}\0.png",
        "http://example.org/picture.png",
        "file:///etc/passwd",
    ):
        assert asked(folder, "GET", f"{guard.FILE}{path}")[0] in (403, 404), path
        assert asked(folder, "POST", guard.JOIN, event([{"path": str(path), "is_stream": True}]))[0] == 400, path
    fine = event([{"path": str(ours)}, "text"])
    assert asked(folder, "POST", guard.JOIN, fine)[2] == fine


def test_events_are_json_of_bounded_size(tmp_path: Path) -> None:
    wrong = (event("text"), event([], 4), event([], "3"), event([], True), event([], 3, None), b"null", b"[]")
    for body in (b"\xff\xfe", b"{", b"[" * 200_000, *wrong):
        assert asked(tmp_path, "POST", guard.JOIN, body)[0] == 400
    large = b'"' + b"a" * guard.WRITE[guard.JOIN] + b'"'
    assert asked(tmp_path, "POST", guard.JOIN, large)[0] == 413
    assert asked(tmp_path, "POST", guard.JOIN, large, length=10)[0] == 413, "the length is not believed"
    assert asked(tmp_path, "POST", guard.JOIN, b"{}", length=10**12)[0] == 413


def test_a_request_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SECONDS", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it is not whole")

    headers = [(b"host", b"localhost"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": guard.UPLOAD, "headers": headers}

    async def several() -> None:
        handle = guard.guarded(app, tmp_path, None, lambda event: True)
        await asyncio.gather(*(handle(scope, receive, send) for _ in range(guard.AT_ONCE + 1)))

    asyncio.run(several())
    statuses = sorted(one["status"] for one in sent if one["type"] == "http.response.start")
    assert statuses == [408] * guard.AT_ONCE + [503]


def test_the_server_answers_to_its_own_name_only(tmp_path: Path) -> None:
    assert asked(tmp_path, "GET", "/", host="127.0.0.1:7860")[0] == 200
    for host in ("attacker.example", "attacker.example:7860", "localhost.attacker.example", ""):
        assert asked(tmp_path, "GET", "/", host=host)[0] == 421


# --- The command ------------------------------------------------------------------------------------------------------


def test_without_gradio_one_line_says_what_to_install(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = decathlon("demo", "--no-browser")
    assert done.status == 1
    assert "pip install -c constraints.txt -e '.[demo]'" in done.error


def test_a_port_that_is_none_is_told(decathlon: Command) -> None:
    done = decathlon("demo", "--port", "70000")
    assert done.status == 2
    assert "--port" in done.error


def test_only_page_and_server_need_gradio() -> None:
    folder = ROOT / "src/decathlon/demo"
    need = {
        path.name
        for path in folder.glob("*.py")
        if re.search(r"^\s*import (gradio|uvicorn|fastapi)", path.read_text(), re.M)
    }
    assert need == {"page.py", "server.py"}
