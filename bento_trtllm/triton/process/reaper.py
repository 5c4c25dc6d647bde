"""Runs one command in a folder and leaves nothing of it behind: no process, no folder, no shared memory.

`python -I -S reaper.py FOLDER GRACE STALL COMMAND…` runs between a worker and its tritonserver, because neither can
clean up alone: Triton's Python stubs ignore SIGTERM and survive a `kill -9` of their server.

- It is a *subreaper*: any process below it that loses its parent becomes its child, so it finds and kills everything.
- Its stdin is a pipe that only the worker holds. End of file means that the worker is gone, however it died; the letter
  T asks the command to end, by SIGINT, and after GRACE seconds everything is killed.
- It ignores signals to itself: `bentoml serve` also sends the SIGTERM for its workers to their children, and Triton
  must not end while their streams may finish. Nor must it end at a SIGTERM to itself, which systemd sends to all
  processes of a service at once: Triton is started with that blocked, and ended by SIGINT.
- Triton never restarts the stub of a decoupled model, and reports ready without it. So a dead stub, which stays a
  zombie below Triton, ends the command as well, and so does one that has been stopped (SIGSTOP) for STALL seconds. Nor
  does mpirun always end when a rank dies, so that ends it, too. All of this applies from the letter R (ready) on: until
  then Triton looks after its stubs itself, and logs what is wrong.
- A shorter stop of a stub must do no harm, but Triton gives up on the stub after a second: it fails the stub's requests
  and frees the shared memory under it, which kills the stub when it is continued (python_be.cc, 24.10:
  SendMessageAndReceiveResponse). So Triton is stopped with its stub, and continued after it.
- Triton's Python backend creates a folder /tmp/python_env_…, whatever $TMPDIR is, and leaves it when it is killed.
- If the reaper itself is killed, the kernel kills the command with it (PR_SET_PDEATHSIG), and the worker or the next
  start sweeps up: everything that belongs to a command is in its folder or carries the folder's name.

It ends with the command's exit code, or 128 + the number of the signal that killed it. It imports nothing of the
package, and uses `os` rather than pathlib, shutil and subprocess, which would triple its start-up time of 20 ms.
"""
# ruff: noqa: PTH106, PTH108, PTH112, PTH114, PTH115, PTH116, PTH118, PTH119, PTH123, PTH208, PTH211

import ctypes
import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 0.1
"""How often to check that the worker is still the parent (a forked copy of it may hold the pipe open), and the state of
the stubs: Triton may give up on one 0.7 s after its stop."""
UNSEEN_S = 0.5
"""Checks that are further apart count as this far apart: this very process may have been stopped between them."""
AWAKE_S = 0.5
"""Triton is continued this long after its stubs, which report to it every 0.3 s."""
RECHECK_S = 0.05
"""A stub that seems dead is checked again after this: Triton may be about to reap one that it ended itself."""
SEARCH = 500
"""Least interval between searches for stubs among all processes, in multiples of a search's time: 0.2 % of a core.

The first, when Triton is ready, finds all that there are. The death of any ends Triton, so others hardly ever come."""
TERMINATE, READY = b"T", b"R"
"""The worker's messages."""
TRITON = b"tritonserver"
STUB = b"triton_python_b"
"""triton_python_backend_stub, as the kernel truncates it."""
TMP, ENVIRONMENT = "/tmp", "python_env_"
"""Both as in the Python backend (pb_env.cc)."""
NOTED_S = 1.0
"""By then whoever watches a Triton has noted its folder."""


def look_at(pid: int) -> tuple[int, bytes, bytes] | None:
    """The parent, name and state of a process; None if it does not exist."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            head, _, tail = stat.read().rpartition(b")")
    except OSError:
        return None
    state, parent = tail.split()[:2]
    return int(parent), head.partition(b"(")[2], state


def lives(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    found = look_at(pid)
    return found is not None and found[2] not in (b"Z", b"X")


def processes() -> Iterator[tuple[int, int, bytes]]:
    """Every process as (id, parent, name).

    From /proc/*/stat, since the kernel's own list of children (task/*/children) is not available everywhere.
    """
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := look_at(int(entry))):
            yield int(entry), *found[:2]


def descendants(ancestor: int) -> list[tuple[int, bytes]]:
    """Everything below `ancestor` as (id, name), parents before their children."""
    children: dict[int, list[tuple[int, bytes]]] = {}
    for pid, parent, name in processes():
        children.setdefault(parent, []).append((pid, name))
    found = list(children.get(ancestor, ()))
    for pid, _ in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_descendants() -> None:
    """SIGKILL everything below this process, and return when it is all gone."""
    pause_s = 0.002
    while True:
        for pid, _ in descendants(os.getpid()):
            kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # none is left, since a process that loses its parent becomes a child of this one first
        time.sleep(pause_s)
        pause_s = min(0.1, 2 * pause_s)  # the kernel may take seconds to free a GPU's memory


def sweep(folder: str) -> None:
    """Remove what a command that ran in `folder` left behind: processes, shared memory, the folder itself.

    Call it only if its reaper is gone or is the caller. Returns when the processes are gone.
    """
    while found := [pid for pid, _, _ in processes() if pid != os.getpid() and _lives_in(pid, folder)]:
        for pid in found:
            kill(pid)
        time.sleep(0.005)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.startswith(ENVIRONMENT):
            remove_environment(f"{TMP}/{name}")
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


class Environments:
    """Folders in /tmp, one of which belongs to the Triton in `folder`: all that have been created since it started.

    If two Tritons start at the same time, each notes both folders. A lock on each folder keeps it as long as either
    runs, since a Triton that does not find its own folder at its end aborts. Links in `folder` tell `sweep` about them.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._since = os.stat(folder).st_ctime
        self._held: dict[str, int] = {}

    def note(self) -> None:
        """Look for new folders."""
        for entry in os.scandir(TMP):
            if not entry.name.startswith(ENVIRONMENT) or entry.name in self._held:
                continue
            try:
                found = entry.stat(follow_symlinks=False)
                if found.st_uid == os.getuid() and found.st_ctime >= self._since:
                    self._held[entry.name] = lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    os.symlink(entry.path, f"{self._folder}/{entry.name}")
            except OSError:
                continue  # gone, being removed, or the disk is full

    def release(self) -> None:
        """Leave them to `sweep`, once other reapers have noted those that their Tritons have just made."""
        youngest = max((os.fstat(lock).st_ctime for lock in self._held.values()), default=0.0)
        time.sleep(min(NOTED_S, max(0.0, youngest + NOTED_S - time.time())))
        for lock in self._held.values():
            os.close(lock)


def remove_environment(path: str) -> None:
    """Remove a folder that was noted, unless it may belong to a running Triton."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # Triton has removed it itself
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rmdir(path)  # it is empty: no model here brings an environment of its own
    except OSError:
        pass
    finally:
        os.close(lock)


def shm_prefix(folder: str) -> str:
    """The prefix of the names of regions in /dev/shm, for a Triton that runs in `folder`."""
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
        if os.path.basename(command[0]) == TRITON.decode():  # under mpirun the ranks would not hear mpirun's SIGTERM
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        if os.getppid() == reaper:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"error: {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


class Parts:
    """The processes below a command that it cannot do without: Python stubs and, under mpirun, ranks."""

    def __init__(self, command: int, stall_s: float) -> None:
        self._command = command
        self._stall_s = stall_s
        self._search_at = self._looked = time.monotonic()
        self._stubs: list[int] = []
        self._ranks: set[int] = set()
        self._dead: set[int] = set()
        self._stopped: dict[int, float] = {}
        """For how long each has been seen stopped, in seconds."""
        self._held: dict[int, float] = {}
        """Tritons that are stopped because a stub of theirs is, and until when."""

    def what_is_wrong(self) -> str | None:
        """Why the command is no longer usable; None if it is."""
        began = time.monotonic()
        if began >= self._search_at:
            below = descendants(self._command)
            self._stubs = [pid for pid, name in below if name == STUB]
            self._ranks.update(pid for pid, name in below if name == TRITON and self._is_rank(pid))
            self._search_at = began + SEARCH * (time.monotonic() - began)
        stubs = {pid: found for pid in self._stubs if (found := look_at(pid)) and found[1] == STUB}
        passed, self._looked = min(began - self._looked, UNSEEN_S), began
        gone = {pid for pid in self._ranks if not self._is_rank(pid)}
        before, self._dead = self._dead, gone | {pid for pid, (_, _, state) in stubs.items() if state == b"Z"}
        stopped = [pid for pid, (_, _, state) in stubs.items() if state == b"T"]
        self._hold({stubs[pid][0] for pid in stopped}, began)
        self._stopped = {pid: self._stopped[pid] + passed if pid in self._stopped else 0 for pid in stopped}
        if before & self._dead:
            return "a rank of the engine died" if gone else "the process of a Python model died"
        if max(self._stopped.values(), default=0) >= self._stall_s:
            return f"the process of a Python model was stopped for {self._stall_s:g} s"
        return None

    def _hold(self, tritons: set[int], now: float) -> None:
        """Stop these Tritons, and continue those whose stubs are all running again."""
        for pid in tritons:
            found = look_at(pid)
            if pid in self._held or (found and found[2] != b"T"):  # otherwise something else has stopped it
                kill(pid, signal.SIGSTOP)
                self._held[pid] = now + AWAKE_S
        self.release([pid for pid, until in self._held.items() if now >= until])

    def release(self, tritons: "list[int] | None" = None) -> None:
        """Continue these Tritons, or all that were stopped here."""
        for pid in list(self._held) if tritons is None else tritons:
            kill(pid, signal.SIGCONT)
            del self._held[pid]

    def _is_rank(self, pid: int) -> bool:
        """Whether it is a live Triton started by mpirun; if Triton is the command itself, none is."""
        found = look_at(pid)
        return found is not None and found[:2] == (self._command, TRITON) and found[2] != b"Z"

    @property
    def pause_s(self) -> float:
        """When to check again."""
        return RECHECK_S if self._dead else LOOK_S


def run(environments: Environments, command: list[str], grace_s: float, stall_s: float) -> int:
    """Run the command until it, one of its stubs or the worker ends, or its time is up; returns the exit code."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

    owner = os.getppid()
    child = spawn(command)
    parts, ready_yet = Parts(child, stall_s), False
    deadline, look = float("inf"), time.monotonic() + LOOK_S
    while (now := time.monotonic()) < deadline and os.getppid() == owner:
        ready = select.select([0, wake_read], [], [], max(0.0, min(deadline, look) - now))[0]
        if not ready_yet:
            environments.note()
        if 0 in ready:
            message = os.read(0, 64)
            if not message:
                break  # end of file: whoever held the pipe is gone
            ready_yet = ready_yet or READY in message
            if TERMINATE in message and deadline == float("inf"):
                deadline = time.monotonic() + grace_s
                parts.release()
                os.kill(child, signal.SIGINT)
        if wake_read in ready:
            os.read(wake_read, 64)
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code
        elif deadline == float("inf"):
            if ready_yet and (fault := parts.what_is_wrong()):
                os.write(2, f"error: {fault}\n".encode())
                return 1
            look = time.monotonic() + parts.pause_s
    return 128 + signal.SIGKILL


def main(folder: str, grace_s: str, stall_s: str, *command: str) -> int:
    environments = Environments(folder)
    try:
        return run(environments, list(command), float(grace_s), float(stall_s))
    finally:
        kill_descendants()
        environments.release()
        sweep(folder)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
