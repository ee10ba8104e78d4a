"""The one training loop and what surrounds it: optimisers, checkpoints, processes, the run."""

import sys

# lightning_fabric asks for torchmetrics' version by importing it, which takes longer than importing torch, for a
# constant that only Lightning's trainer reads. None stands for a package that is not there.
if "torchmetrics" not in sys.modules:
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
    try:
        import lightning_fabric.utilities.imports  # noqa: F401
    finally:
        del sys.modules["torchmetrics"]
