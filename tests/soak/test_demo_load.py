"""Twenty visitors at once: no error, memory steady, and how long an answer takes.

`DECATHLON_LOAD_SECONDS` says for how long (300, as for the figures in docs/demo.md), `DECATHLON_LOAD_JSON` where the
figures go. Visitors do what people do on the page: draw, a dozen drawings each, with pauses; type; send photos.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from demo_server import PATIENCE, Demo, ask, file, functions, running, upload
from PIL import Image, ImageDraw

from decathlon.demo import examples

VISITORS = 20
SECONDS = float(os.environ.get("DECATHLON_LOAD_SECONDS", "300"))
STEADY = 1.1  # memory at the end by memory after the warm-up
WARM = 0.2  # of the time, whose memory is not counted


def drawing(draw: random.Random, strokes: int) -> str:
    """A drawing of so many strokes, as the pad sends it."""
    image = Image.new("L", (112, 112))
    points = [(draw.randrange(20, 92), draw.randrange(20, 92)) for _ in range(strokes + 1)]
    ImageDraw.Draw(image).line(points, fill=255, width=10)
    content = io.BytesIO()
    image.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def visitor(name: str) -> httpx.Client:
    """What a visitor's browser is to the server; it keeps its connections and its session."""
    return httpx.Client(timeout=PATIENCE, headers={"x-session": name}, verify=False)


class Crowd:
    """What twenty visitors do, and what they found: seconds by kind of answer, and errors."""

    def __init__(self, demo: Demo, folder: Path) -> None:
        self.url, self.functions = demo.url, functions(demo.url)
        self.photos = {
            tab: [Path(p).read_bytes() for p in paths] for tab, paths in examples.write_images(folder).items()
        }
        self.took: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.lock = threading.Lock()

    def timed(self, kind: str, client: httpx.Client, component: str, data: list[Any]) -> None:
        """One event."""
        start = time.perf_counter()
        session = client.headers["x-session"]
        answer = ask(client, self.url, self.functions[component], data, session)
        seconds = time.perf_counter() - start
        with self.lock:
            self.took[kind].append(seconds)
            if not answer["success"] or "<" not in answer["output"]["data"][0]:
                self.errors.append(f"{kind}: {str(answer)[:300]}")

    def visit(self, number: int, end: float) -> None:
        """One visitor, until the time is over."""
        draw = random.Random(number)
        acts = [self.draws, self.types, self.sends]
        try:
            with visitor(f"visitor{number}") as client:
                while time.monotonic() < end:
                    draw.choices(acts, (3, 3, 2))[0](client, draw, end)
        except Exception as error:
            with self.lock:
                self.errors.append(f"visitor {number}: {type(error).__name__}: {error}")

    def draws(self, client: httpx.Client, draw: random.Random, end: float) -> None:
        """A digit, seen again after every stroke."""
        for strokes in range(1, 8):
            if time.monotonic() < end:
                self.timed("digits", client, "pad", [drawing(draw, strokes), "your drawing", str(draw.randrange(10))])
                time.sleep(draw.uniform(0.1, 0.6))

    def types(self, client: httpx.Client, draw: random.Random, end: float) -> None:
        """A review, read again after every few words."""
        words = " ".join(draw.sample(examples.REVIEWS, 3)).split()
        for count in range(5, len(words), 9):
            if time.monotonic() < end:
                self.timed("reviews", client, "review", [" ".join(words[:count])])
                time.sleep(draw.uniform(0.2, 1.0))

    def sends(self, client: httpx.Client, draw: random.Random, end: float) -> None:
        """A photo, to one of the three tabs that take one."""
        tab = draw.choice(list(self.photos))
        start = time.perf_counter()
        (path,) = upload(client, self.url, draw.choice(self.photos[tab])).raise_for_status().json()
        with self.lock:
            self.took["upload"].append(time.perf_counter() - start)
        self.timed(tab, client, f"{tab}-image", [file(path)])
        time.sleep(draw.uniform(1, 3))


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: the median and what is worse."""
    values = 1000 * np.array(seconds)
    named = {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 90, 95, 99)}
    return {"count": len(values), **named, "max": round(float(values.max()), 1)}


def watched(demo: Demo, start: float, end: float) -> Iterator[tuple[float, int]]:
    """Seconds since the start and resident bytes, about a hundred times."""
    while time.monotonic() < end:
        yield time.monotonic() - start, demo.memory()
        time.sleep(max(0.2, SECONDS / 100))


def test_twenty_visitors(tmp_path: Path) -> None:
    with running(tmp_path) as demo:
        crowd = Crowd(demo, tmp_path)
        with visitor("alone") as client:  # every network is loaded before the clock runs
            alone = draws_alone(crowd, client)
        start = time.monotonic()
        end = start + SECONDS
        visits = [threading.Thread(target=crowd.visit, args=(number, end)) for number in range(VISITORS)]
        for visit in visits:
            visit.start()
        memory = [(0.0, demo.memory()), *watched(demo, start, end)]
        for visit in visits:
            visit.join(PATIENCE)
        assert not any(visit.is_alive() for visit in visits)
        settled = demo.memory()
    warm = max(held for seconds, held in memory if seconds <= WARM * SECONDS)
    figures = {
        "visitors": VISITORS,
        "seconds": SECONDS,
        "answers": sum(map(len, crowd.took.values())),
        "errors": len(crowd.errors),
        "alone_milliseconds": alone,
        "milliseconds": {kind: percentiles(took) for kind, took in sorted(crowd.took.items())},
        "memory_mb": {
            "after_warm_up": round(warm / 2**20),
            "peak": round(max(settled, *(held for _, held in memory)) / 2**20),
            "at_the_end": round(settled / 2**20),
        },
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if json_path := os.environ.get("DECATHLON_LOAD_JSON"):
        Path(json_path).write_text(f"{text}\n")
    assert crowd.errors == []
    assert min(map(len, crowd.took.values())) > 0
    assert settled < STEADY * warm, f"memory grew from {warm} to {settled} bytes"


def draws_alone(crowd: Crowd, client: httpx.Client) -> dict[str, dict[str, float]]:
    """How long one visitor alone waits, once every network is there."""
    draw = random.Random(1)
    long = " ".join(examples.REVIEWS * 7)  # more than the 510 tokens that the encoder reads
    asked = {
        "digits": ("pad", lambda: [drawing(draw, 4), "your drawing", "3"]),
        "reviews": ("review", lambda: [draw.choice(examples.REVIEWS)]),
        "reviews of 500 words": ("review", lambda: [f"{long} {draw.random()}"]),
        **{
            tab: (f"{tab}-image", lambda sent=sent: [file(upload(client, crowd.url, sent[0]).json()[0])])
            for tab, sent in crowd.photos.items()
        },
    }
    results = {}
    for kind, (component, data) in asked.items():
        for turn in range(11):
            made = data()
            crowd.timed(kind, client, component, made)
            if turn == 0:
                crowd.took.pop(kind)  # the one that loaded the networks
        results[kind] = percentiles(crowd.took.pop(kind))
    assert crowd.errors == []
    return results
