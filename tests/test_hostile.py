"""Whatever lies in a file, it is read as what it should be or refused in one line that names it; nothing else happens.

The properties run with few examples here, and with many in tests/soak/test_hostile.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import HypothesisWarning

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "25"))
NAMES = list(hostile.readers())
pytestmark = pytest.mark.filterwarnings(f"ignore::{HypothesisWarning.__module__}.HypothesisWarning")


def thorough(examples: int = EXAMPLES) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=EXAMPLES < 100,
    )


@pytest.mark.parametrize("name", NAMES)
def test_any_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader = hostile.readers()[name]
    (tmp_path / "photo.png").write_bytes(hostile.image())
    tried = []

    @thorough()
    @given(content=reader.examples)
    def holds(content: bytes) -> None:
        tried.append(reader.holds(content, tmp_path))

    holds()
    assert len(tried) >= EXAMPLES / 2
