"""What another user of this machine sees. It takes root to become one: tests that need it are skipped for others."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

NOBODY = 65534
ANSWER_MS = 500

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, to look from there")


def as_a_stranger(look: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, as JSON has it, when nobody calls it, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with os.fdopen(writing, "w") as pipe:
                json.dump(look(*arguments), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said, f"{look.__name__} failed as another user"
    return json.loads(said)


def listening(pids: set[int]) -> list[str]:
    """Where these processes listen, as ZeroMQ writes it; @ begins the name of a socket that no file stands for."""
    found = {
        f"tcp://127.0.0.1:{connection.laddr.port}"
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.status == psutil.CONN_LISTEN and connection.pid in pids
    }
    sockets = {
        inode.rpartition("[")[2].rstrip("]")
        for pid in pids
        for entry in Path(f"/proc/{pid}/fd").iterdir()
        if (inode := str(entry.readlink())).startswith("socket:")
    }
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split(None, 7)
        if inode in sockets and int(flags, 16) & 0x10000 and path:  # __SO_ACCEPTCON
            found.add(f"ipc://{path[0]}")
    return sorted(found)


def obeying(places: list[str]) -> list[str]:
    """Those of the places that answer a command of circus."""
    context = zmq.Context()
    found = []
    for place in places:
        asking = context.socket(zmq.DEALER)
        asking.linger = 0
        asking.connect(place)
        asking.send_json({"id": "1", "command": "list", "properties": {}})
        # A server of HTTP refuses the greeting in words that pass for messages of ZeroMQ's oldest protocol.
        if asking.poll(ANSWER_MS) and asking.recv_multipart()[-1].startswith(b"{"):
            found.append(place)
        asking.close()
    context.term()
    return found


def readable(files: list[str]) -> list[str]:
    """Those of the files that can be opened."""
    found = []
    for file in files:
        try:
            os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))
            found.append(file)
        except OSError:
            continue
    return found
