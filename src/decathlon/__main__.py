"""`python -m decathlon` and the command `decathlon`."""

from __future__ import annotations

import io
import os
import sys


def main() -> int:
    """Run the command line.

    Threads that spin while they wait for work starve each other where the cores are shared with anything else, so they
    sleep instead, unless the user decided otherwise. It has to be said before torch is imported. Where the output's
    encoding has no … or ×, it gets a question mark in their places.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from decathlon.cli import run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
