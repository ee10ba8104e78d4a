"""What a run folder records of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = (
    "import torch; from decathlon.runs.folder import environment; print(environment(torch.device('cpu'))['hardware'])"
)


def test_the_hardware_tells_processors_with_other_vector_instructions_apart() -> None:
    """A fast and a slow machine may have the same model name; torch can be told to use no vector instructions."""
    names = []
    for capability in (None, "default"):
        variables = {} if capability is None else {"ATEN_CPU_CAPABILITY": capability}
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=os.environ | variables, text=True, capture_output=True, check=True
        )
        names.append(done.stdout.strip())
    assert names[1].endswith(", DEFAULT"), names
    model = names[1].removesuffix(", DEFAULT")
    assert names[0].startswith(f"{model}, "), "the rest of the name is the same"
