"""Another user of this machine: not obeyed, and not shown what is asked and answered."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.demo import PROMPT
from tests.support.processes import left_over, triton_id, workers
from tests.support.serving import ROOT, SSE, Service, serve
from tests.support.strangers import as_a_stranger, listening, needs_root, obeying, readable

LONG = {"prompt": PROMPT, "max_tokens": 1024}


def family(service: Service) -> list[psutil.Process]:
    return [service.process, *service.process.children(recursive=True)]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into, as few of pytest's are."""
    folder = Path(tempfile.mkdtemp(prefix="bento-trtllm-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_root
def test_nobody_else_commands_or_reads(home: Path, slow_model: str, open_folder: Path) -> None:
    count = 2
    temporary, own_home = open_folder / "tmp", open_folder / "home"
    temporary.mkdir()
    own_home.mkdir()
    (own_home / "models").symlink_to(home / "models")
    options = ("--arg", f"model={slow_model}", "--arg", f"workers={count}")
    marker = str(open_folder)
    with serve(own_home, open_folder / "log.txt", *options, TMPDIR=str(temporary), TEST_MARKER=marker) as service:
        service.wait_ready()
        deadline = time.monotonic() + 60
        while len(workers(service)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        with httpx.stream("POST", f"{service.url}/generate", json=LONG, headers=SSE, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            pids = {process.pid for process in family(service)}
            places = listening(pids)
            assert f"tcp://127.0.0.1:{service.url.rpartition(':')[2]}" in places
            assert as_a_stranger(obeying, places) == []
            shared = [str(p) for p in Path("/dev/shm").iterdir() if p.name.startswith(triton_id(service))]
            metrics = [str(p) for p in (own_home / "prometheus_multiproc_dir").iterdir()]
            temporaries = [str(p) for p in temporary.rglob("*")]
            secrets = [f"/proc/{pid}/environ" for pid in pids]
            assert all((shared, metrics, temporaries, secrets))
            everything = [*shared, *metrics, *temporaries, *secrets]
            assert as_a_stranger(readable, everything) == []
            assert as_a_stranger(readable, [str(open_folder / "log.txt"), str(temporary)]), "a stranger sees nothing"
            assert next(lines) is not None
        assert service.stop() == 0
    assert left_over(marker) == []
    assert [p for p in temporary.rglob("*") if p.name not in (f"bento-trtllm-{os.getuid()}", "run")] == []


def test_nothing_but_triton_and_the_api_listens(service: Service) -> None:
    """Whoever runs the tests: circus has no port, and no socket that has no file."""
    (triton,) = service.tritons()
    ports = {int(a.rpartition("=")[2]) for a in triton.cmdline() if a.startswith(("--grpc-port=", "--metrics-port="))}
    ports.add(int(service.url.rpartition(":")[2]))
    assert listening({p.pid for p in family(service)}) == sorted(f"tcp://127.0.0.1:{port}" for port in ports)


def test_reload_still_reaches_circus(home: Path, tmp_path: Path) -> None:
    """The process that watches the files meets it in a folder that is its user's alone, and goes with it."""
    (temporary := tmp_path / "tmp").mkdir()
    with serve(home, tmp_path / "log.txt", "--reload", python=sys.executable, TMPDIR=str(temporary)) as service:
        service.wait_ready()
        commands, events = (place for place in listening({service.process.pid}) if place.startswith("ipc:"))
        folder = Path(commands.removeprefix("ipc://")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (commands, events) == (f"ipc://{folder}/commands", f"ipc://{folder}/events")
        before = workers(service)
        deadline = time.monotonic() + 60
        touched = 0.0
        while workers(service) & before and time.monotonic() < deadline:
            if time.monotonic() - touched > 10:  # each time that it is seen, all are started again
                (ROOT / "service.py").touch()
                touched = time.monotonic()
            time.sleep(0.1)
        assert not workers(service) & before
        service.wait_ready()
        assert service.stop(signal.SIGINT) == 0
    assert not folder.exists()
