"""One Triton for several worker processes: there is always one, never two, and none without a worker."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process import supervisor as supervisor_module
from bento_trtllm.triton.process.run_folder import RunFolder, Status
from bento_trtllm.triton.process.server import TritonServer
from bento_trtllm.triton.process.supervisor import Supervisor
from tests.support import tiny
from tests.support.launcher import bound
from tests.support.limits import LIMIT_S

SETTINGS = TritonSettings(
    startup_timeout_s=LIMIT_S,
    stop_timeout_s=2,
    health_interval_s=0.1,
    stall_limit_s=2,
    restart_first_delay_s=0.1,
    restart_max_delay_s=0.5,
    restart_failures_before_failed=3,
)
QUIET_S = 1.0
"""Nothing that should not happen has happened by then."""
STALLED = f"did not answer for {SETTINGS.stall_limit_s:g} s"


class Worker:
    """One worker process, and what it says about Triton."""

    def __init__(self, repository: Path, run: Path, settings: TritonSettings) -> None:
        argv = [sys.executable, "-m", "tests.support.supervised"]
        argv += [str(repository), str(run), settings.model_dump_json(exclude_defaults=True)]
        with (repository.parent / "workers.log").open("a") as log:
            self.process = psutil.Popen(bound(argv), stdout=subprocess.PIPE, stderr=log, text=True)
        self.statuses: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.statuses.append(json.loads(line))

    @property
    def status(self) -> dict[str, Any]:
        return self.statuses[-1] if self.statuses else {"state": None, "owner": None, "generation": 0}

    def is_ready(self, generation: int) -> bool:
        return bool(self.status["state"] == "ready" and self.status["generation"] >= generation)

    def knows_of_its_end(self, generation: int) -> bool:
        """Whether it was told that the Triton of that generation is being replaced, or of one after it."""
        return any(
            told["generation"] > generation or (told["generation"] == generation and told["state"] == "restarting")
            for told in self.statuses
        )

    def owns(self) -> bool:
        return bool(self.status["owner"] == self.process.pid)


class Workers:
    """The workers of one service, and a watch that there are never two Tritons."""

    def __init__(self, repository: Path, run: Path, settings: TritonSettings = SETTINGS) -> None:
        self.repository, self.run, self.settings = repository, run, settings
        self.all: list[Worker] = []
        self.most = 0
        self._over = threading.Event()
        self._counting = threading.Thread(target=self._count)

    def _count(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, len(tiny.tritons(str(self.run))))

    def add(self, number: int = 1) -> list[Worker]:
        new = [Worker(self.repository, self.run, self.settings) for _ in range(number)]
        self.all += new
        return new

    def living(self) -> list[Worker]:
        return [w for w in self.all if w.process.poll() is None]

    def owner(self) -> Worker:
        (owner,) = (w for w in self.living() if w.owns())
        return owner

    def wait_ready(self, generation: int, limit_s: float = LIMIT_S) -> None:
        """All workers know a Triton of that generation or later, the same one, and it works."""
        tiny.until(lambda: all(w.is_ready(generation) for w in self.living()), limit_s)
        (address,) = {w.status["address"] for w in self.living()}
        assert list(tiny.echo(address, [3, 1, 4])) == [3, 1, 4]
        assert len(tiny.tritons(str(self.run))) == 1

    def wait_end(self, generation: int) -> None:
        """All workers know of it."""
        tiny.until(lambda: all(w.knows_of_its_end(generation) for w in self.living()))

    def triton(self) -> psutil.Process:
        (triton,) = tiny.tritons(str(self.run))
        return triton

    def __enter__(self) -> "Workers":
        self._counting.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.living():
            worker.process.kill()
            worker.process.wait()
        self._over.set()
        self._counting.join()
        tiny.until(lambda: not tiny.family(str(self.run)))
        assert self.most <= 1


@contextmanager
def service(tmp_path: Path, number: int, settings: TritonSettings = SETTINGS) -> Iterator[Workers]:
    repository = tiny.repository(tmp_path / "repository")
    with Workers(repository, tmp_path / "run/service", settings) as workers:
        workers.add(number)
        workers.wait_ready(1)
        yield workers


def test_workers_share_one_triton_through_every_end_of_it(tmp_path: Path) -> None:
    with service(tmp_path, 3) as workers:
        pids = {workers.triton().pid}
        for generation, victim in enumerate(("triton", "stub", "reaper", "stalled triton"), 2):
            if victim == "stub":
                tiny.stubs(str(workers.run))[0].kill()
            elif victim == "reaper":
                tiny.reapers(str(workers.run))[0].kill()
            elif victim == "stalled triton":
                workers.triton().suspend()
            else:
                workers.triton().kill()
                workers.wait_end(generation - 1)
            workers.wait_ready(generation)
            pids.add(workers.triton().pid)
        assert len(pids) == 5
        assert workers.all[0].status["restarts"] == 4
        reasons = [status["reason"] for status in workers.all[0].statuses if status["reason"]]
        for part in ("killed by SIGKILL", "a Python model died", STALLED):
            assert any(part in reason for reason in reasons), reasons


def test_an_engine_that_stands_still_is_found_on_suspicion(tmp_path: Path) -> None:
    """Triton calls itself ready, and the model too, whose process neither died nor was stopped."""
    flag = tmp_path / "stand-still"
    repository = tiny.engine(tiny.repository(tmp_path / "repository"), f"os.path.exists({str(flag)!r})")
    with Workers(repository, tmp_path / "run/service") as workers:
        workers.add(2)
        workers.wait_ready(1)
        folder = RunFolder(workers.run)
        folder.suspect()
        tiny.until((repository / "tensorrt_llm/1/model.py.answered").exists)
        flag.touch()
        time.sleep(SETTINGS.stall_limit_s + 3 * SETTINGS.health_interval_s)
        assert workers.all[0].status["restarts"] == 0, "the suspicion was unfounded, and now there is none"
        folder.suspect()
        workers.wait_end(1)
        assert f"The engine {STALLED}." in {status["reason"] for status in workers.all[0].statuses}
        flag.unlink()
        workers.wait_ready(2)


def test_an_engine_that_fails_its_requests_is_started_anew_once(tmp_path: Path) -> None:
    with service(tmp_path, 2) as workers:
        folder = RunFolder(workers.run)
        folder.condemn(1, "The engine failed 3 requests in a row.")
        workers.wait_end(1)
        reasons = {status["reason"] for status in workers.all[0].statuses}
        assert "The engine failed 3 requests in a row." in reasons
        workers.wait_ready(2)
        folder.condemn(1, "That was the one before.")
        time.sleep(3 * SETTINGS.health_interval_s + QUIET_S)
        assert workers.all[0].status["restarts"] == 1


def test_an_owner_that_stops_waits_for_the_answers_of_others(tmp_path: Path) -> None:
    """Longer than Triton has for its own end, and no longer than they take."""
    repository = tiny.repository(tmp_path / "repository", pause_s=0.1)
    settings = SETTINGS.model_copy(update={"stop_timeout_s": LIMIT_S})
    with Workers(repository, tmp_path / "run/service", settings) as workers:
        workers.add(1)
        workers.wait_ready(1)
        other = RunFolder(workers.run)
        other.join()
        other.occupy(True)
        answer = tiny.echo(str(workers.all[0].status["address"]), list(range(50)))
        assert next(answer) == 0
        workers.all[0].process.terminate()
        assert list(answer) == list(range(1, 50))
        other.occupy(False)
        workers.all[0].process.wait(LIMIT_S)
        other.leave()


def test_another_worker_takes_over_from_a_killed_owner(tmp_path: Path) -> None:
    with service(tmp_path, 3) as workers:
        for generation in (2, 3):
            owner = workers.owner()
            before = workers.triton().pid
            owner.process.kill()
            owner.process.wait()
            # A worker that is told by nobody must not think that all is well.
            workers.wait_end(generation - 1)
            workers.wait_ready(generation)
            assert workers.owner() is not owner
            assert workers.triton().pid != before
            workers.add()  # as circus does
            workers.wait_ready(generation)
        assert len(workers.living()) == 3
        assert len({w.owns() for w in workers.living()}) == 2


def test_another_worker_takes_over_from_an_owner_that_stops(tmp_path: Path) -> None:
    with service(tmp_path, 2) as workers:
        owner = workers.owner()
        owner.process.terminate()
        owner.process.wait(LIMIT_S)
        assert owner.status["state"] == "stopped"
        workers.wait_ready(2)
        assert workers.owner() is not owner


def test_a_worker_that_does_not_own_triton_may_come_and_go(tmp_path: Path) -> None:
    with service(tmp_path, 2) as workers:
        before = workers.triton().pid
        follower = next(w for w in workers.all if not w.owns())
        follower.process.terminate()
        assert follower.process.wait(LIMIT_S) == 0
        workers.add()
        workers.wait_ready(1)
        assert workers.triton().pid == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_all_workers_end(tmp_path: Path, number: int) -> None:
    with service(tmp_path, 3) as workers:
        triton = next(workers.run.glob("triton-*"))
        for worker in workers.all:
            worker.process.send_signal(number)
        for worker in workers.all:
            worker.process.wait(LIMIT_S)
        tiny.assert_gone(triton)
    if number == signal.SIGTERM:
        assert list(workers.run.parent.iterdir()) == []
    else:  # nobody could tidy up: the next service does
        other = RunFolder(workers.run.parent / "other")
        other.join()
        assert list(workers.run.parent.iterdir()) == [other.path]
        other.leave()
        assert list(workers.run.parent.iterdir()) == []


def test_what_is_not_a_run_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one").touch()
    folder = RunFolder(tmp_path / "service")
    folder.join()
    folder.leave()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["photos", "photos/one"]


def test_what_outlives_owner_and_reaper_is_swept_up(tmp_path: Path) -> None:
    with service(tmp_path, 2) as workers:
        triton = next(workers.run.glob("triton-*"))
        stub = tiny.stubs(str(workers.run))[0]
        stub.suspend()  # or it might notice by itself
        owner = workers.owner()
        owner.process.suspend()
        tiny.reapers(str(workers.run))[0].kill()
        owner.process.kill()
        owner.process.wait()
        workers.wait_ready(2)
        tiny.assert_gone(triton, 0)
        assert stub not in tiny.family(str(tmp_path))


def test_a_service_recovers_from_a_model_that_could_not_be_loaded(tmp_path: Path) -> None:
    flag = tmp_path / "weights"
    line = f"if not os.path.exists({str(flag)!r}): raise ValueError('no weights')"
    repository = tiny.repository(tmp_path / "repository", initialize=line)
    with Workers(repository, tmp_path / "run/service") as workers:
        workers.add(2)
        tiny.until(lambda: all(w.status["state"] == "failed" for w in workers.all))
        for worker in workers.all:
            assert worker.status["reason"] == "Triton could not load model echo: ValueError: no weights"
            assert worker.status["address"] is None
            states = [s["state"] for s in worker.statuses if s["failures"] < 3]
            assert set(states) <= {"starting", "restarting"}
        flag.touch()
        workers.wait_ready(1)


def test_failures_are_forgotten_after_a_while(tmp_path: Path) -> None:
    with service(tmp_path, 1) as workers:
        for generation in (2, 3, 4, 5):
            time.sleep(SETTINGS.restart_max_delay_s + 0.2)
            workers.triton().kill()
            workers.wait_ready(generation)
        assert "failed" not in {s["state"] for s in workers.all[0].statuses}
        assert max(s["failures"] for s in workers.all[0].statuses) == 1


async def test_in_process(tmp_path: Path) -> None:
    repository = tiny.repository(tmp_path / "repository")
    supervisor = Supervisor(lambda _: repository, SETTINGS, folder=RunFolder(tmp_path / "run/service"))
    seen: list[str] = []
    unsubscribe = supervisor.subscribe(lambda status: seen.append(status.state))
    assert (supervisor.state, supervisor.endpoint) == ("starting", None)
    await supervisor.start()
    with pytest.raises(TritonError, match=r"not ready \(starting\): Triton is loading the model"):
        await supervisor.wait_ready(0.01)
    status = await supervisor.wait_ready(LIMIT_S)
    assert supervisor.endpoint == status.address
    unsubscribe()
    await supervisor.stop()
    await supervisor.stop()
    assert (supervisor.state, supervisor.endpoint) == ("stopped", None)
    assert seen == ["starting", "ready"]
    assert list((tmp_path / "run").iterdir()) == []


async def test_who_looks_knows_at_once_what_the_owner_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is asked may not answer what was true FOLLOW_S ago, beside one that knows better."""
    monkeypatch.setattr(supervisor_module, "FOLLOW_S", 60)
    owner = RunFolder(tmp_path / "run/service")
    owner.join()
    assert owner.take()
    owner.write(Status("starting", "Triton is loading the model."))
    follower = Supervisor(lambda _: tmp_path, SETTINGS, folder=RunFolder(tmp_path / "run/service"))
    follower.look()
    assert follower.reason == "Triton has not been started yet."
    await follower.start()
    await asyncio.sleep(0)
    await asyncio.wait_for(follower.launched.wait(), LIMIT_S)
    assert follower.reason == "Triton is loading the model."
    owner.write(Status("ready", "", address="127.0.0.1:1", generation=1, owner=os.getpid()))
    await asyncio.sleep(0.05)
    known = [follower.status.reason]
    follower.look()
    known.append(str(follower.endpoint))
    owner.write(Status("restarting", "It ended.", generation=1))
    follower.look()
    known.append(follower.status.reason)
    assert known == ["Triton is loading the model.", "127.0.0.1:1", "It ended."]
    await follower.stop()
    owner.leave()
    assert list((tmp_path / "run").iterdir()) == []


async def test_who_cannot_read_what_the_owner_told_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its streams are Triton's, not the folder's. It is said once."""
    monkeypatch.setattr(supervisor_module, "RETRY_S", 0.01)
    owner = RunFolder(tmp_path / "run/service")
    owner.join()
    assert owner.take()
    owner.write(Status("ready", "", address="127.0.0.1:1", generation=1, owner=os.getpid()))
    failed, enough = 0, asyncio.Event()

    class Exhausted(RunFolder):
        def read(self) -> Status | None:
            nonlocal failed
            if not failed or enough.is_set():
                failed = max(failed, 1)
                return super().read()
            failed += 1
            if failed > 10:
                enough.set()
            raise OSError(errno.EMFILE, "Too many open files")

    follower = Supervisor(lambda _: tmp_path, SETTINGS, folder=Exhausted(tmp_path / "run/service"))
    seen: list[str] = []
    follower.subscribe(lambda status: seen.append(status.state))
    await follower.start()
    await asyncio.wait_for(enough.wait(), LIMIT_S)
    owner.write(Status("restarting", "It ended.", generation=1))
    while follower.state == "ready":
        await asyncio.sleep(0.01)
    assert seen == ["ready", "restarting"]
    assert follower.reason == "It ended."
    assert len([record for record in caplog.records if "Too many open files" in record.message]) == 1
    await follower.stop()
    owner.leave()


async def test_no_triton_is_ready_whose_owner_is_gone(tmp_path: Path) -> None:
    """It can tell nobody, and whoever has the lock now has yet to say something."""
    owner = RunFolder(tmp_path / "run/service")
    owner.join()
    assert owner.take()
    follower = Supervisor(lambda _: tmp_path, SETTINGS, folder=RunFolder(tmp_path / "run/service"))
    await follower.start()
    await asyncio.wait_for(follower.launched.wait(), LIMIT_S)
    worker = subprocess.Popen(["sleep", "60"])
    seen: list[tuple[str, str | None]] = []
    follower.subscribe(lambda status: seen.append((status.state, status.address)))
    try:
        owner.write(Status("ready", "", address="127.0.0.1:1", generation=1, owner=worker.pid))
        follower.look()
        worker.kill()
        # Not reaped yet, and reaped.
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        follower.look()
        worker.wait()
        await asyncio.sleep(3 * supervisor_module.FOLLOW_S)
    finally:
        worker.kill()
        worker.wait()
    assert seen == [("ready", "127.0.0.1:1"), ("restarting", None)]
    assert follower.reason == supervisor_module.GONE
    await follower.stop()
    owner.leave()


async def test_who_kills_triton_does_not_call_it_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Killing takes a while, and a bug is waited out."""
    faults: list[Exception] = [OSError("no room"), RuntimeError("a bug")]
    at_kill: list[str] = []

    async def fail(*_: object, **__: object) -> str:
        if faults:
            raise faults.pop(0)
        await asyncio.Event().wait()
        return ""

    class Observed(TritonServer):
        async def kill(self) -> None:
            if self.returncode is None:
                at_kill.append(f"{supervisor.state}: {supervisor.reason}")
            await super().kill()

    monkeypatch.setattr(supervisor_module, "watch", fail)
    monkeypatch.setattr(supervisor_module, "TritonServer", Observed)
    monkeypatch.setattr(supervisor_module, "RETRY_S", 0.01)
    repository = tiny.repository(tmp_path / "repository")
    supervisor = Supervisor(lambda _: repository, SETTINGS, folder=RunFolder(tmp_path / "run/service"))
    ready = asyncio.Event()
    supervisor.subscribe(lambda status: ready.set() if status.generation == 3 else None)
    await supervisor.start()
    await asyncio.wait_for(ready.wait(), LIMIT_S)
    assert not any("takes over" in record.message for record in caplog.records)
    assert at_kill == [
        "restarting: The service cannot use its folder: no room",
        "restarting: The supervisor of Triton failed: see the server's log.",
    ]
    await supervisor.stop()


async def test_what_could_not_be_told_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many changes there were without room."""
    monkeypatch.setattr(supervisor_module, "RETRY_S", 0.2)
    settings = SETTINGS.model_copy(update={"restart_first_delay_s": 0.01, "restart_max_delay_s": 0.01})
    attempts = 0
    told: list[Status] = []
    blocked, enough, retold = True, asyncio.Event(), asyncio.Event()

    class Cramped(RunFolder):
        def write(self, status: Status) -> None:
            if blocked:
                raise OSError(errno.ENOSPC, "No space left on device")
            told.append(status)
            retold.set()
            super().write(status)

    async def place_nothing(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 10:
            enough.set()
            await asyncio.Event().wait()
        raise TritonError("There is no room.")

    monkeypatch.setattr(TritonServer, "start", place_nothing)
    supervisor = Supervisor(lambda _: tmp_path, settings, folder=Cramped(tmp_path / "run/service"))
    await supervisor.start()
    await asyncio.wait_for(enough.wait(), LIMIT_S)
    blocked = False
    await asyncio.wait_for(retold.wait(), LIMIT_S)
    await asyncio.sleep(2 * supervisor_module.RETRY_S)
    assert told == [supervisor.status]
    assert told[0].failures == 10
    await supervisor.stop()


async def test_stops_while_triton_still_loads(tmp_path: Path) -> None:
    repository = tiny.repository(tmp_path / "repository", initialize="time.sleep(600)")
    supervisor = Supervisor(lambda _: repository, SETTINGS, folder=RunFolder(tmp_path / "run/service"))
    await supervisor.start()
    await asyncio.wait_for(supervisor.launched.wait(), LIMIT_S)
    with suppress(TritonError):
        await supervisor.wait_ready(0.5)
    await asyncio.wait_for(supervisor.stop(), LIMIT_S)
    assert list((tmp_path / "run").iterdir()) == []


def test_workers_of_one_parent_share_a_folder_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    here = RunFolder.of_this_service("one")
    assert here.path == RunFolder.of_this_service("one").path
    assert here.path != RunFolder.of_this_service("two").path
    code = "from bento_trtllm.triton.process.run_folder import RunFolder as F; print(F.of_this_service('one').path)"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    children = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (path,) = {child.stdout.strip() for child in children}
    assert Path(path) != here.path
    assert here.path.parents[1].stat().st_mode & 0o777 == 0o700
