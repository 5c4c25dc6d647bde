"""Limits on a client that does not read: how much memory it may hold, and for how long.

uvicorn waits while a client does not read, and closes a connection only when everything buffered for it is written;
ASGI offers no way to limit that. The kernel does, and connections inherit its options from the listening socket.
"""

import os
import resource
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# The kernel's buffer: an answer of a thousand tokens. By default Linux buffers up to 4 MB (tcp_wmem, tcp(7)).
SEND_BUFFER_BYTES = 128 * 1024
# For the channel to Triton, its logs, metrics, the pack's files.
OTHER_FILES = 128


def bound_connections(write_timeout_s: float) -> None:
    """Limit what the kernel buffers for a client, and cut off a client that has read nothing of it for that long.

    Applies to new connections on any socket that this process listens on.
    """
    for each in listening():
        with each:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if each.family != socket.AF_UNIX:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * write_timeout_s))


def listening() -> Iterator[socket.socket]:
    """Every socket that this process listens on, as a duplicate to close."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed since
            if not stat.S_ISSOCK(entry.stat().st_mode):
                continue
            duplicate = socket.socket(fileno=os.dup(int(entry.name)))
            if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield duplicate
            else:
                duplicate.close()


def open_files() -> int:
    """How many connections this process can hold within the system's limit of open files (setrlimit(2))."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most - OTHER_FILES if most != resource.RLIM_INFINITY else 2**20


def allow_open_files() -> None:
    """Raise the limit of open files to what the system allows: many start at 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
