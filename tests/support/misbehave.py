"""`decathlon` with one process that misbehaves: `python misbehave.py HOW RANK COMMAND…`.

Spawned workers import this file again, as they import any main module, and so misbehave, too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import timedelta
from typing import Any

HOW, RANK = sys.argv[1:3]
STEP = 30  # at which it happens


def main() -> int:
    from decathlon.cli.main import run_command

    return run_command(sys.argv[3:])


def misbehave() -> None:
    if HOW == "exit":
        os._exit(7)
    if HOW == "raise":
        raise ValueError("spoiled on purpose")
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[HOW])


if os.environ.get("RANK") is None and __name__ != "__main__":  # in a worker, which is told its rank later
    from decathlon.training import distributed, loop

    add_losses, measure = loop.add_losses, loop.measure

    def spoiled(sums: Any, losses: Any, step: int) -> None:
        add_losses(sums, losses, step)
        if HOW != "alone" and step == STEP and os.environ["RANK"] == RANK:
            misbehave()

    def slow(*args: Any) -> Any:
        """The first process measures for long, and hears of nothing; meanwhile the other one is killed."""
        if HOW == "alone" and os.environ["RANK"] == RANK:
            threading.Timer(2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        elif HOW == "alone":
            time.sleep(300)
        return measure(*args)

    loop.add_losses, loop.measure = spoiled, slow
    if HOW == "stop":
        distributed.COLLECTIVE_TIMEOUT = timedelta(seconds=20)

if __name__ == "__main__":
    sys.exit(main())
