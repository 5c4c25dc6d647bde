"""Finds a model's process, a stub, that Triton has given up while it loaded, and waits for all the same.

While its model loads a stub has to report once a second, whatever else the machine is at. If one is late, Triton's
Python backend fails the model, and before it says so it waits for the stub's end, which nobody tells to end: it stands
still for ever, without a line in its log (Launch and ReceiveMessageFromStub in src/stub_launcher.cc of python_backend,
r24.10).
"""

import platform
from pathlib import Path

from bento_trtllm.triton.process import reaper

LOOKS = 5
"""How often such a stub must have been seen: Triton may also wait for one that is about to end."""
WAIT4 = {"x86_64": b"61", "aarch64": b"260"}.get(platform.machine(), b"")
"""The system call's number."""


class Forsaken:
    """Looks, now and then, at a Triton that loads."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        """How often in a row, by process id."""

    def look(self, ancestor: int) -> bool:
        """Whether a Triton below that process waits for a stub that does not end. Reads /proc: for a thread."""
        self._seen = {pid: self._seen.get(pid, 0) + 1 for pid in waited_for(ancestor)}
        return max(self._seen.values(), default=0) >= LOOKS


def waited_for(ancestor: int) -> list[int]:
    """The stubs below that process for whose end their Triton waits, and which have not ended."""
    return [pid for pid, name in reaper.descendants(ancestor) if name == reaper.STUB and _is_waited_for(pid)]


def _is_waited_for(stub: int) -> bool:
    found = reaper.look_at(stub)
    if found is None or found[2] == b"Z":
        return False
    threads = Path(f"/proc/{found[0]}/task")
    try:
        if len(Path(f"/proc/{stub}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")) < 2:
            return False  # Triton first starts each without arguments, to see whether it can
        return any(_waits_for(stub, thread / "syscall") for thread in threads.iterdir())
    except OSError:
        return False


def _waits_for(stub: int, call: Path) -> bool:
    """Whether that thread is in waitpid(stub, …)."""
    try:
        number, *arguments = call.read_bytes().split()
    except (OSError, ValueError):
        return False  # it has ended, or this machine does not say
    return number == WAIT4 and int(arguments[0], 16) == stub
