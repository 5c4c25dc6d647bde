"""Runs one command in a folder and leaves nothing of it behind: no process, no folder, no shared memory.

`python -I -S reaper.py FOLDER GRACE COMMAND…` stands between a worker and its tritonserver, because neither
can clean up alone: Triton's Python stubs ignore SIGTERM and outlive a `kill -9` of their server.

- It is a *subreaper*: whatever loses its parent below it becomes its child, so it finds and kills all of
  it.
- Its stdin is a pipe that only the worker holds. End of file says that the worker is gone, however it died;
  a byte asks the command to end, by SIGTERM, and after GRACE seconds everything is killed.
- Signals to itself it ignores: `bentoml serve` sends its workers' children the SIGTERM that it sends the
  workers, and Triton must not go while their streams may finish.
- Triton never restarts the stub of a decoupled model, and calls itself ready without it. So a dead stub,
  which stays a zombie below Triton, ends the command as well.
- Should the reaper itself be killed, the kernel kills the command with it (PR_SET_PDEATHSIG), and the
  worker or the next start sweeps up: everything that belongs to a command has its folder, or its name, on
  it.

It ends with the command's exit code, or 128 + the number of the signal that killed it. It stands alone and
uses `os` rather than pathlib, shutil and subprocess, which would triple its start-up time of 20 ms.
"""
# ruff: noqa: PTH106, PTH108, PTH112, PTH114, PTH115, PTH118, PTH119, PTH123, PTH208

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 0.5
"""How often to look whether the worker is still the parent (a forked copy of it may hold the pipe open), and
whether a stub died. Less often where there are so many processes that it would take 1 % of a core."""
STUB = b"triton_python_b"
"""triton_python_backend_stub, as the kernel cuts it."""


def processes() -> Iterator[tuple[int, int, bytes, bytes]]:
    """Every process as (id, parent, name, state).

    From /proc/*/stat, since the list of children that the kernel keeps (task/*/children) is not everywhere.
    """
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    head, _, tail = stat.read().rpartition(b")")
            except OSError:
                continue  # it ended meanwhile
            state, parent = tail.split()[:2]
            yield int(entry), int(parent), head.partition(b"(")[2], state


def descendants(ancestor: int) -> list[tuple[int, bytes, bytes]]:
    """Everything below `ancestor` as (id, name, state), parents before their children."""
    children: dict[int, list[tuple[int, bytes, bytes]]] = {}
    for pid, parent, name, state in processes():
        children.setdefault(parent, []).append((pid, name, state))
    found = list(children.get(ancestor, ()))
    for pid, _, _ in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_descendants() -> None:
    """SIGKILL everything below this process, and return when all of it is gone."""
    pause_s = 0.002
    while True:
        for pid, _, _ in descendants(os.getpid()):
            kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # nobody is left, since whoever loses its parent becomes a child of this process first
        time.sleep(pause_s)
        pause_s = min(0.1, 2 * pause_s)  # the kernel may take seconds to take a GPU's memory back


def sweep(folder: str) -> None:
    """Remove what a command that ran in `folder` left behind: processes, shared memory, the folder itself.

    Only for when its reaper is gone, or is the caller. Returns when the processes are gone.
    """
    while found := [pid for pid, _, _, _ in processes() if pid != os.getpid() and _lives_in(pid, folder)]:
        for pid in found:
            kill(pid)
        time.sleep(0.005)
    prefix = shm_prefix(folder)
    for name in os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else ():
        if name.startswith(prefix):
            os.unlink(f"/dev/shm/{name}")
    for root, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(root, name))
        for name in folders:
            path = os.path.join(root, name)
            (os.unlink if os.path.islink(path) else os.rmdir)(path)
    if os.path.isdir(folder):
        os.rmdir(folder)


def shm_prefix(folder: str) -> str:
    """What the names of the regions in /dev/shm start with, for a Triton that runs in `folder`."""
    return os.path.basename(folder) + "-"


def _lives_in(pid: int, folder: str) -> bool:
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return False  # gone, a zombie, or another user's
    return cwd.startswith(f"{folder}/")  # also when it was deleted: " (deleted)" is appended


def spawn(command: list[str]) -> int:
    """Start the command as a child that the kernel kills when this process dies; returns its process id."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reaper = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == reaper:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"error: {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def run(command: list[str], grace_s: float) -> int:
    """Run the command until it, a stub of it or the worker ends, or its time is up; returns the exit code."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

    owner = os.getppid()
    child = spawn(command)
    deadline, look_at, dead = float("inf"), time.monotonic() + LOOK_S, set[int]()
    while (now := time.monotonic()) < deadline and os.getppid() == owner:
        ready = select.select([0, wake_read], [], [], max(0.0, min(deadline, look_at) - now))[0]
        if 0 in ready:
            if not os.read(0, 64):
                break  # the end of the pipe, and of whoever held it
            if deadline == float("inf"):
                deadline = time.monotonic() + grace_s
                os.kill(child, signal.SIGTERM)
        if wake_read in ready:
            os.read(wake_read, 64)
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code
        elif deadline == float("inf"):
            start = time.monotonic()
            before, dead = dead, {pid for pid, *rest in descendants(child) if rest == [STUB, b"Z"]}
            if before & dead:  # twice, since Triton may be about to collect one that it ended itself
                os.write(2, b"error: the process of a Python model died\n")
                return 1
            look_at = time.monotonic() + max(LOOK_S, 100 * (time.monotonic() - start))
    return 128 + signal.SIGKILL


def main(folder: str, grace_s: str, *command: str) -> int:
    try:
        return run(list(command), float(grace_s))
    finally:
        kill_descendants()
        sweep(folder)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
