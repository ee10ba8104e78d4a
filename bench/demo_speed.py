"""CPU time of the demo's requests, without server and browser: the table in docs/demo.md.

Run: python bench/demo_speed.py [--repeat 7]
One thread, networks loaded; the median, in milliseconds. Other work on the machine hardly changes CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from decathlon.demo import digits, examples, images, inputs, reviews

SENTENCE = "The plot was not bad and the music was really moving but the ending felt far too long for me ."


def requests(folder: Path) -> dict[str, Callable[[], Any]]:
    """What visitors ask for, by the words of the table."""
    drawing = Image.new("L", (112, 112))
    ImageDraw.Draw(drawing).line([(56, 20), (56, 92)], fill=255, width=10)
    files = {tab: Path(paths[0]) for tab, paths in examples.write_images(folder).items()}
    opened = {tab: inputs.read_image(path.read_bytes()) for tab, path in files.items()}
    width, height = opened["pets"].size
    long = " ".join([SENTENCE] * 25)

    def draw() -> None:
        digits.predict(drawing)
        digits.interpolate(digits.DRAWING, "3", drawing)

    return {
        "a drawing: three networks, reconstruction, latent code, interpolation": draw,
        "a review of 20 words, both networks with attributions": lambda: reviews.predict(SENTENCE),
        "a review of 500 words": lambda: reviews.predict(long),
        "an image: both CIFAR-10 networks and the class activation map": lambda: images.classify(opened["objects"]),
        f"an image: the pet's mask at {width} × {height} pixels": lambda: images.segment(opened["pets"]),
        "an image: both detectors": lambda: images.detect(opened["boxes"]),
    }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| request | CPU time |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, request in requests(Path(folder)).items():
            request()  # loads the networks
            seconds = []
            for _ in range(options.repeat):
                start = time.process_time()
                request()
                seconds.append(time.process_time() - start)
            print(f"| {name} | {1000 * statistics.median(seconds):.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
