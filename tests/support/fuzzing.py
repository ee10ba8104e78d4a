"""Runs one reader under atheris (libFuzzer): the coverage of decathlon's own lines says which input to change next."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import hostile
import spoiled

LIMITS = ("-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1", "-max_len=20000")


def seeds() -> dict[str, list[bytes]]:
    """Files as they should be, for each reader: what is changed first."""
    run_files = hostile.run_files()
    return {
        "xml": [spoiled.XML.encode()],
        "idx": [spoiled.idx(3, 4, 5), spoiled.idx(0, 2, 2)],
        "csv": [spoiled.CSV.encode()],
        "jsonl": [spoiled.JSONL.encode()],
        "coco": [json.dumps(spoiled.COCO).encode()],
        "archive": [spoiled.archive(packed=False)],
        "config": [run_files["config.json"]],
        "checkpoint": [run_files["checkpoint/step-00000003.safetensors"]],
    }


def attempt(name: str, root: Path) -> Callable[[bytes], None]:
    """What is tried with each input: the property of tests/support/hostile.py; libFuzzer limits time and memory."""
    if name in ("config", "checkpoint"):
        folder = hostile.folders()["run" if name == "config" else "checkpoint"]
        changed = "config.json" if name == "config" else "checkpoint/step-00000003.safetensors"
        hostile.write(root, hostile.run_files())

        def once(data: bytes) -> None:
            (root / changed).write_bytes(data)
            hostile.held(lambda: folder.read(root), folder.well_formed, root.name)

        return once
    reader = hostile.readers()[name]
    (root / "photo.png").write_bytes(spoiled.image())

    def try_bytes(data: bytes) -> None:
        (root / reader.name).write_bytes(data)
        hostile.held(lambda: reader.read(root / reader.name), reader.well_formed, reader.name)

    return try_bytes


def run(name: str) -> None:
    """Fuzz the named reader with the options of the command line; what is found is kept for the next time."""
    folder = Path(tempfile.mkdtemp(prefix="decathlon-fuzz-"))
    corpus = Path(tempfile.gettempdir(), "decathlon-corpus", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds()[name]):
        (corpus / f"seed-{number}").write_bytes(content)
    options = [limit for limit in LIMITS if not any(word.startswith(limit.partition("=")[0]) for word in sys.argv)]
    artifacts = f"-artifact_prefix={folder}/"
    atheris.Setup([sys.argv[0], *options, artifacts, *sys.argv[1:], str(corpus)], attempt(name, folder))
    atheris.Fuzz()
