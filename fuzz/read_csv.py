"""Fuzz the reader of a user's own texts: python fuzz/read_csv.py -max_total_time=60."""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
with atheris.instrument_imports(include=["decathlon", "defusedxml"]):
    import fuzzing

fuzzing.run("csv")
