"""`python -m decathlon` and the command `decathlon`."""

from __future__ import annotations

import io
import os
import sys


def main() -> int:
    """Run the command line.

    OpenMP threads that busy-wait slow each other down where cores are shared with other processes, so they sleep
    instead, unless the user set OMP_WAIT_POLICY. It has to be set before torch is imported. On terminals whose encoding
    has no … or ×, a question mark is printed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from decathlon.cli.main import run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
