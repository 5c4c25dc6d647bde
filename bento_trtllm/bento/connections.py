"""What a client that does not read may hold: so much memory, for so long.

uvicorn waits while a client does not read, and closes a connection only when all that it holds for it is written;
ASGI has no word for more than that. The kernel has, and connections inherit it from the socket that they come in at.
"""

import os
import resource
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# The kernel's part of it: an answer of a thousand tokens. Left alone, Linux takes up to 4 MB (tcp_wmem, tcp(7)).
SEND_BUFFER_BYTES = 128 * 1024
# For Triton's channel, its logs, metrics, the model's files.
OTHER_FILES = 128


def bound_connections(write_timeout_s: float) -> None:
    """Bound what waits in the kernel for a client, and cut one off that has taken nothing of it for so long.

    Holds for connections that come in from now on at any socket that this process listens on.
    """
    for each in listening():
        with each:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if each.family != socket.AF_UNIX:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * write_timeout_s))


def listening() -> Iterator[socket.socket]:
    """Every socket that this process listens on, as a duplicate to close."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # gone since
            if not stat.S_ISSOCK(entry.stat().st_mode):
                continue
            duplicate = socket.socket(fileno=os.dup(int(entry.name)))
            if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield duplicate
            else:
                duplicate.close()


def open_files() -> int:
    """How many connections this process can hold, as far as the system lets it (setrlimit(2))."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most - OTHER_FILES if most != resource.RLIM_INFINITY else 2**20


def allow_open_files() -> None:
    """Take what the system lets a process have: many give 1,024 at first."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
