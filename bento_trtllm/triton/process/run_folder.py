"""The folder in which the workers of one service agree on their one Triton.

    $TMPDIR/bento-trtllm-<uid>/run/<parent's id>-<parent's start>-<key>/
        owner         locked by the worker that owns Triton
        status        what it says about Triton, for the others (record.py)
        answers       locked by every worker that has open answers
        use           locked by every worker that sends new requests to this Triton
        suspicion     there when a worker believes that the engine stands still
        condemned     of which Triton a worker knows that the engine fails its requests (record.py)
        slots, wake-… what the workers' lines for slots are made of (shared_slots.py)
        ledger/       what each key has used (keys/ledger.py)
        triton-…/     the working directory of Triton

Workers of a service have one parent, `bentoml serve`, and no other service has that one: so its process id and the
time it started name the folder. All locks are flocks, which the kernel releases when their holder dies, however.
Each worker holds a shared one on the folder itself. Whoever gets it exclusively knows that nobody is left, and
removes the folder with all that may still run in it; systemd-tmpfiles leaves a locked folder alone.

It is not in $XDG_RUNTIME_DIR, which vanishes when the user logs out, under a service that was left running.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bento_trtllm.triton.process import reaper
from bento_trtllm.triton.process.installation import private_folder, temporary_folder
from bento_trtllm.triton.process.record import Record

State = Literal["starting", "ready", "restarting", "failed", "stopped"]


@dataclass(frozen=True)
class Status:
    """What is known about the service's Triton."""

    state: State
    """failed: it ended several times in a row; it is still tried again, at long intervals."""
    reason: str = ""
    """Why it is not ready, as a sentence for a person."""
    generation: int = 0
    """Counts the Tritons that became ready: a change says that connections to the last one are of no use."""
    address: str | None = None
    """gRPC, as host:port; None unless ready."""
    metrics: str | None = None
    """Where Triton's own metrics are, as host:port; None unless ready."""
    restarts: int = 0
    """How often Triton was started again since the service began."""
    failures: int = 0
    """Ends and failed starts in a row."""
    owner: int = 0
    """The process id of the worker that owns Triton."""


# The file that every run folder has.
ANSWERS = "bento-trtllm-answers"


class Mark:
    """A file that any number of workers lock at a time, and that the kernel unlocks for those that die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None

    def make(self) -> None:
        """Make the file: a disk that becomes full later has no room for one."""
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))

    def set(self) -> None:
        """Lock it, if the folder is still there."""
        if self._lock is None:
            with contextlib.suppress(FileNotFoundError):  # the service is ending
                self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_SH)  # who looks holds it for no time

    def clear(self) -> None:
        """Unlock it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_set(self) -> bool:
        """Whether any worker, this one included, has it locked."""
        try:
            lock = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False


class RunFolder:
    """One worker's place in the folder: `join` it first and `leave` it last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members: int | None = None
        self._owner: int | None = None
        self._answers = Mark(path / ANSWERS)
        self._use = Mark(path / "use")
        self._status = Record(path / "status")
        self._told: Status | None = None
        self._condemned = Record(path / "condemned")
        self._used = False
        self._occupied = 0

    @classmethod
    def of_this_service(cls, key: str) -> "RunFolder":
        """The folder of the service that this process is a worker of; `key` tells services of one parent apart.

        Raises TritonError if somebody else has taken its place in $TMPDIR.
        """
        base = private_folder(temporary_folder() / f"bento-trtllm-{os.getuid()}") / "run"
        parent = os.getppid()
        started = "0"
        with contextlib.suppress(FileNotFoundError):  # a parent outside this container
            started = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        return cls(base / f"{parent}-{started}-{digest}")

    def join(self) -> None:
        """Make the folder if it is not there, and remove those that nobody is in any more."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Others' folders may lie here, too, and nothing of theirs is touched. Its own has the counts of this service.
        for folder in (answers.parent for answers in self.path.parent.glob(f"*/{ANSWERS}")):
            if folder == self.path:
                continue
            with contextlib.suppress(OSError):
                _remove_if_empty(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), folder)
        while self._members is None:
            self.path.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # removed in between: again
                lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(lock, fcntl.LOCK_SH)
                if self.path.exists() and os.path.samestat(os.fstat(lock), self.path.stat()):
                    self._members = lock
                else:
                    os.close(lock)
        self._answers.make()
        self._status.make()
        self._condemned.make()
        if self._used:
            self._use.set()

    def take(self) -> bool:
        """Become the owner, if there is none. What the last one left running is gone then."""
        if self._owner is not None:
            return True
        lock = os.open(self.path / "owner", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._owner = lock
        _sweep(self.path)
        return True

    def release(self) -> None:
        """Be the owner no longer."""
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def write(self, status: Status) -> None:
        """Tell the others, who have joined. For the owner only."""
        data = asdict(status)
        reason = data.pop("reason")
        self._status.write(data, reason)

    def read(self) -> Status | None:
        """What the owner said last, as far as it can be read now or could before; None if there was none yet."""
        if record := self._status.read():
            data, reason = record
            self._told = Status(**data, reason=reason)
        return self._told

    def suspect(self) -> None:
        """Have the owner ask the engine whether it is well."""
        # The service may be ending, or the disk full: it is suspected again and again.
        with contextlib.suppress(OSError):
            (self.path / "suspicion").touch()

    def suspected(self) -> bool:
        """Whether any worker has asked for that; once."""
        try:
            (self.path / "suspicion").unlink()
        except FileNotFoundError:
            return False
        return True

    def condemn(self, generation: int, reason: str) -> None:
        """Have the owner start the engine of that generation anew."""
        with contextlib.suppress(OSError):  # the service is ending
            self._condemned.write(generation, reason)

    def condemned(self, generation: int) -> str | None:
        """Why a worker has asked for that, if one has."""
        record = self._condemned.read()
        return record[1] if record and record[0] == generation else None

    def occupy(self, answers: bool) -> None:
        """Say that a channel of this worker has open answers from now on, or has no more."""
        self._occupied += 1 if answers else -1
        if self._occupied:
            self._answers.set()
        else:
            self._answers.clear()

    def all_answered(self) -> bool:
        """Whether no worker has open answers."""
        return not self._answers.is_set()

    def use(self, new_requests: bool) -> None:
        """Say whether this worker sends new requests to this Triton; also before it has joined."""
        self._used = new_requests
        if not new_requests:
            self._use.clear()
        elif self._members is not None:
            self._use.set()

    def is_used(self) -> bool:
        """Whether any worker does."""
        return self._use.is_set()

    def leave(self) -> None:
        """Give up every lock; the last one out removes the folder."""
        self._answers.clear()
        self._use.clear()
        self.release()
        if self._members is not None:
            _remove_if_empty(self._members, self.path)
            self._members = None


def _remove_if_empty(lock: int, folder: Path) -> None:
    """Remove the folder if no other worker is in it; `lock` is open on it, and closed afterwards.

    Of several workers that leave at a time one succeeds: trying for the exclusive lock gives up the shared one.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sweep(folder)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # somebody is in it
    finally:
        os.close(lock)


def _sweep(folder: Path) -> None:
    for triton in folder.glob("triton-*"):
        reaper.sweep(str(triton))
