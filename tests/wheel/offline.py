"""Run a command without a network, and with the repository's source hidden: `offline.py HIDDEN_FOLDER COMMAND…`.

It runs in namespaces of its own (`unshare --net --mount`), so that nothing outside them changes.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS = 0x8914
IFF_UP_AND_RUNNING = 0x41


def start_loopback() -> None:
    """Let the demo's page be fetched from 127.0.0.1: a new network namespace starts with this interface down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        fcntl.ioctl(connection, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP_AND_RUNNING))


def hide(folder: str) -> None:
    """Mount an empty file system over a folder."""
    if ctypes.CDLL(None, use_errno=True).mount(b"none", os.fsencode(folder), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"could not hide {folder}")


if __name__ == "__main__":
    start_loopback()
    hide(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
