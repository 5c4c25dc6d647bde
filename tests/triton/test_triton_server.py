"""One real tritonserver: that it starts, says why it doesn't, and leaves nothing behind, however it ends."""

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process.door import Door
from bento_trtllm.triton.process.launch import Launch, Ports, Start, tritonserver
from bento_trtllm.triton.process.reaped import KILL_LIMIT_S
from bento_trtllm.triton.process.server import TritonServer
from tests.support import tiny
from tests.support.limits import LIMIT_S

SETTINGS = TritonSettings(startup_timeout_s=LIMIT_S, stop_timeout_s=LIMIT_S)
ROUNDS = 5
"""Of which the best counts, where a time is the claim."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where Tritons make their folders."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def make(repository: Path, folder: Path, settings: TritonSettings = SETTINGS) -> TritonServer:
    return TritonServer(lambda _: repository, settings, parent=folder)


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return tiny.repository(tmp_path / "repository")


def levels(caplog: pytest.LogCaptureFixture) -> dict[str, int]:
    """Of the messages so far."""
    return {record.getMessage(): record.levelno for record in list(caplog.records)}


async def test_serves_and_stops(
    echo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As when systemd runs the venv's bentoml: nothing on PATH leads to the packages of this Python.
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    caplog.set_level(logging.DEBUG, "bento_trtllm.triton")
    server = make(echo, folder)
    await server.start()
    try:
        assert await asyncio.to_thread(lambda: list(tiny.echo(server.address, [7, 8, 9]))) == [7, 8, 9]
        assert await server.answers(1)
        (triton,) = tiny.tritons(server.folder.name)
        listening = [c.laddr for c in triton.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert {address.port for address in listening} == {server.ports.grpc, server.ports.metrics}
        assert {address.ip for address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
        assert list(Path(triton.cwd()).iterdir()) == []
        lines = {
            "a line of the model's logger": logging.INFO,
            "a line that the model prints": logging.INFO,
            "successfully loaded 'echo'": logging.DEBUG,
        }
        # Read from Triton's output, which may be later than an answer.
        await asyncio.to_thread(tiny.until, lambda: lines.keys() <= levels(caplog).keys())
        assert levels(caplog).items() >= lines.items()
    finally:
        await server.stop()
    # By itself: at its exit timeout it ends with 1.
    assert await server.wait() == server.returncode == 0
    tiny.assert_gone(server.folder, 0)
    assert not tiny.listens(server.ports.grpc)
    assert [r for r in caplog.records if r.levelno > logging.INFO] == []
    await server.stop()  # again: nothing to do


NEEDED = {"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig"}
NEEDED |= {"ModelInfer", "ModelStreamInfer"}


async def test_only_what_is_needed_is_open(echo: Path, folder: Path) -> None:
    """Every other call of Triton's gRPC API wants the key, and does as it is told with it."""
    server = make(echo, folder)
    await server.start()
    name = f"triton-grpc-protocol-{server.folder.name}"
    (option,) = (a for a in triton_of(server).cmdline() if a.startswith("--grpc-restricted-protocol="))
    key = option.rpartition("=")[2]
    assert len(key) == 32
    closed = set(service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name) - NEEDED
    assert len(closed) == 12
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for method in closed:
                request = getattr(service_pb2, f"{method}Request")()
                for metadata in ((), ((name, "wrong"),), ((name, ""),)):
                    with pytest.raises(grpc.aio.AioRpcError, match="restricted"):
                        await getattr(stub, method)(request, timeout=LIMIT_S, metadata=metadata)
            asked = service_pb2.LogSettingsRequest()
            settings = await stub.LogSettings(asked, timeout=LIMIT_S, metadata=((name, key),))
            assert settings.settings
            about = await stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=LIMIT_S)
            assert about.name == server.folder.name
    finally:
        await server.kill()
    tiny.assert_gone(server.folder, 0)


async def test_waits_for_a_slow_model_and_is_quick_otherwise(tmp_path: Path, folder: Path) -> None:
    repository = tiny.repository(tmp_path / "repository", "slow", "time.sleep(1)")
    for _ in range(ROUNDS):
        server = make(repository, folder)
        began = time.monotonic()
        await server.start()
        took = time.monotonic() - began
        await server.kill()
        assert took > 1
        if took < 5:
            break
    else:
        pytest.fail(f"{took} s")


async def test_reports_the_models_own_message(tmp_path: Path, folder: Path) -> None:
    tiny.repository(tmp_path / "repository", "bad", "raise ValueError('no weights in /nowhere')")
    repository = tiny.repository(tmp_path / "repository", "slow", f"time.sleep({2 * LIMIT_S})")
    server = make(repository, folder, SETTINGS.model_copy(update={"startup_timeout_s": 4 * LIMIT_S}))
    began = time.monotonic()
    with pytest.raises(TritonError, match=r"model bad: ValueError: no weights in /nowhere$"):
        await server.start()
    assert time.monotonic() - began < LIMIT_S  # Triton itself waits for the slow one
    tiny.assert_gone(server.folder, 0)


async def test_reports_a_configuration_that_cannot_be_read(echo: Path, folder: Path) -> None:
    (echo / "echo/config.pbtxt").write_text("no_such_field: 1")
    server = make(echo, folder)
    with pytest.raises(TritonError, match=r"model echo: failed to read text proto"):
        await server.start()
    tiny.assert_gone(server.folder, 0)


async def test_refuses_a_folder_without_models(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(TritonError, match="is not a Triton model repository"):
        await make(tmp_path, folder).start()
    assert list(folder.iterdir()) == []


async def test_a_load_that_stands_still_is_noticed_before_the_startup_timeout(tmp_path: Path, folder: Path) -> None:
    repository = tiny.repository(tmp_path / "repository", "hangs", "time.sleep(600)")
    server = make(repository, folder, TritonSettings(startup_timeout_s=500, load_stall_limit_s=2))
    began = time.monotonic()
    with pytest.raises(TritonError, match=r"made no progress for .* s while it loaded \(load_stall_limit_s\)"):
        await server.start()
    assert time.monotonic() - began >= 2
    tiny.assert_gone(server.folder, 0)


@pytest.mark.parametrize(
    "work",
    [
        pytest.param("sum(range(10_000))", id="computes"),
        pytest.param("time.sleep(0.01); open('/dev/zero', 'rb').read(2**18)", id="reads"),
        pytest.param("time.sleep(0.5); print('on it', flush=True)", id="tells"),
    ],
)
async def test_a_load_that_does_anything_is_left_alone(tmp_path: Path, folder: Path, work: str) -> None:
    initialize = f"end = time.monotonic() + 8\n        while time.monotonic() < end: {work}"
    repository = tiny.repository(tmp_path / "repository", "slow", initialize)
    server = make(repository, folder, TritonSettings(startup_timeout_s=LIMIT_S, load_stall_limit_s=4))
    await server.start()
    await server.kill()


async def test_what_is_made_in_the_temporary_folder_goes_with_triton(tmp_path: Path, folder: Path) -> None:
    """As MPI does, which TensorRT-LLM initialises even for one rank; and it must start no server of its own then."""
    made = "os.path.join(tempfile.mkdtemp(prefix='ompi.'), 'isolated')"
    initialize = f"import tempfile; open({made}, 'w').write(os.getenv('OMPI_MCA_ess_singleton_isolated', ''))"
    server = make(tiny.repository(tmp_path / "repository", initialize=initialize), folder)
    await server.start()
    assert [path.read_text() for path in server.folder.glob("ompi.*/isolated")] == ["1"]
    await server.kill()
    tiny.assert_gone(server.folder, 0)


async def test_gives_up_after_the_startup_timeout(tmp_path: Path, folder: Path) -> None:
    repository = tiny.repository(tmp_path / "repository", "hangs", "time.sleep(60)")
    server = make(repository, folder, TritonSettings(startup_timeout_s=1.5))
    with pytest.raises(TritonError, match=r"not ready after 1\.5 s"):
        await server.start()
    tiny.assert_gone(server.folder, 0)


async def test_reports_a_program_that_cannot_run(echo: Path, folder: Path) -> None:
    def launcher(start: Start) -> Launch:
        launch = tritonserver(start)
        return Launch(("/nowhere/tritonserver", *launch.argv[1:]), launch.env, launch.cwd)

    server = TritonServer(lambda _: echo, SETTINGS, launcher=launcher, parent=folder)
    with pytest.raises(TritonError, match=r"code 127: /nowhere/tritonserver: No such file"):
        await server.start()
    tiny.assert_gone(server.folder, 0)


async def test_takes_other_ports_when_one_is_taken(echo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = Ports.free
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        offers = iter([Ports(port, free().metrics)])
        monkeypatch.setattr(Ports, "free", lambda: next(offers, None) or free())
        server = make(echo, folder)
        await server.start()
        assert server.ports.grpc != port
        assert await server.answers(1)
        await server.kill()
    assert list(folder.iterdir()) == []


async def test_ends_when_the_port_of_the_metrics_is_taken(
    echo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Triton opens this one last, when it is ready already: if it was quicker, the supervisor has to help.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = Ports(Ports.free().grpc, taken.getsockname()[1])
        monkeypatch.setattr(Ports, "free", lambda: ports)
        server = make(echo, folder)
        try:
            await server.start()
        except TritonError as error:
            assert "already in use" in str(error)
        else:
            assert await asyncio.wait_for(server.wait(), LIMIT_S) == 1
            assert "already in use" in server.why_ended()


@pytest.mark.parametrize("address", ["127.0.0.2", "::1", "::"])
async def test_listens_where_its_door_is(echo: Path, folder: Path, address: str) -> None:
    try:
        free = Ports.free().grpc
        server = make(echo, folder, door_settings(address, free))
        Door.of(server.settings).check()
    except TritonError:
        pytest.skip(f"this machine has no {address}")
    await server.start()
    try:
        assert server.ports.grpc == free
        assert await server.answers(1)
        with pytest.raises(grpc.RpcError, match="expecting header 'triton-grpc-protocol-infer-key'"):
            await asyncio.to_thread(lambda: list(tiny.echo(server.address, [7])))
    finally:
        await server.stop()
    tiny.assert_gone(server.folder, 0)


def door_settings(address: str, port: int) -> TritonSettings:
    given = {**SETTINGS.model_dump(exclude_unset=True), "grpc_port": port, "grpc_address": address, "grpc_key": "key"}
    return TritonSettings.model_validate(given)


async def test_takes_no_other_port_than_its_doors(echo: Path, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = make(echo, folder, door_settings("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(TritonError, match=r"Triton cannot listen at 127.* another program listens there"):
            await server.start()
    assert list(folder.iterdir()) == []


def triton_of(server: TritonServer) -> psutil.Process:
    return tiny.tritons(server.folder.name)[0]


def stub_of(server: TritonServer) -> psutil.Process:
    return tiny.stubs(server.folder.name)[0]


def reaper_of(server: TritonServer) -> psutil.Process:
    return tiny.reapers(server.folder.name)[0]


@pytest.mark.parametrize(
    ("victim", "number", "code"),
    [
        (triton_of, signal.SIGKILL, -signal.SIGKILL),
        (triton_of, signal.SIGINT, 0),
        (stub_of, signal.SIGKILL, 1),
        (reaper_of, signal.SIGKILL, -signal.SIGKILL),
    ],
)
async def test_notices_every_end_and_sweeps_up(
    echo: Path,
    folder: Path,
    victim: Callable[[TritonServer], psutil.Process],
    number: int,
    code: int,
) -> None:
    server = make(echo, folder)
    await server.start()
    assert tiny.stubs(server.folder.name)
    victim(server).send_signal(number)
    assert await asyncio.wait_for(server.wait(), LIMIT_S) == code
    tiny.assert_gone(server.folder, 0)
    await server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_reaper_is_not_for_triton(echo: Path, folder: Path, number: int) -> None:
    """`bentoml serve` signals the children of its workers, too, but only the worker knows when its streams are done."""
    server = make(echo, folder)
    await server.start()
    reaper_of(server).send_signal(number)
    await asyncio.sleep(0.5)
    assert server.returncode is None
    assert triton_of(server).is_running()
    await server.stop()
    assert server.returncode == 0


async def test_a_sigterm_to_all_is_not_for_triton(echo: Path, folder: Path) -> None:
    """systemd sends it to every process of a service at once."""
    server = make(echo, folder)
    await server.start()
    processes = [reaper_of(server), triton_of(server), *tiny.stubs(server.folder.name)]
    for process in processes:
        process.terminate()
    await asyncio.sleep(1)
    assert all(process.is_running() for process in processes)
    assert await asyncio.to_thread(lambda: list(tiny.echo(server.address, [7]))) == [7]
    await server.stop()
    assert server.returncode == 0


async def test_says_that_a_model_died(echo: Path, folder: Path) -> None:
    server = make(echo, folder)
    await server.start()
    stub_of(server).kill()
    await server.wait()
    assert server.why_ended() == "tritonserver ended with code 1: the process of a Python model died"


async def test_a_model_may_be_stopped_but_not_for_long(echo: Path, folder: Path) -> None:
    server = make(echo, folder, TritonSettings(startup_timeout_s=LIMIT_S, stall_limit_s=3))
    await server.start()
    stub = stub_of(server)
    stub.suspend()
    await asyncio.sleep(0.5)
    stub.resume()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(server.wait(), 1)
    assert await asyncio.to_thread(lambda: list(tiny.echo(server.address, [7]))) == [7]
    stub.suspend()
    await asyncio.wait_for(server.wait(), LIMIT_S)
    assert server.why_ended() == "tritonserver ended with code 1: the process of a Python model was stopped for 3 s"
    tiny.assert_gone(server.folder, 0)


async def test_a_stopped_model_loses_no_request(tmp_path: Path, folder: Path) -> None:
    """Triton alone gives it up after a second, and what it was asked with it, of which it dies when it is continued."""
    server = make(tiny.repository(tmp_path / "repository", pause_s=0.1), folder)
    await server.start()
    numbers = list(range(30))
    asked = [asyncio.create_task(asyncio.to_thread(lambda: list(tiny.echo(server.address, numbers))))]
    triton, stub = triton_of(server), stub_of(server)
    for stopped_s in (0.8, 1.2, 3):
        await asyncio.sleep(1)
        stub.suspend()
        asked.append(asyncio.create_task(asyncio.to_thread(lambda: list(tiny.echo(server.address, numbers)))))
        await asyncio.sleep(stopped_s)
        stub.resume()
    assert await asyncio.gather(*asked) == [numbers] * 4
    assert (triton, stub) == (triton_of(server), stub_of(server))
    await server.stop()
    assert server.returncode == 0


async def test_a_triton_that_is_stopped_with_its_model_can_be_ended(echo: Path, folder: Path) -> None:
    server = make(echo, folder, SETTINGS)
    await server.start()
    triton, stub = triton_of(server), stub_of(server)
    stub.suspend()
    deadline = time.monotonic() + LIMIT_S
    while triton.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert triton.status() == psutil.STATUS_STOPPED
    asyncio.get_running_loop().call_later(1, stub.resume)
    await server.stop()
    assert server.returncode == 0, "asked to end, it was continued at once"


def environment_of(triton: psutil.Process) -> Path:
    """The folder that its Python backend has made in /tmp, which only its memory tells from those of others."""
    for line in Path(f"/proc/{triton.pid}/maps").read_text().splitlines():
        span, access, _, _, _, *name = line.split()
        if not access.startswith("rw") or name not in ([], ["[heap]"]):
            continue
        start, end = (int(part, 16) for part in span.split("-"))
        with Path(f"/proc/{triton.pid}/mem").open("rb") as memory:
            memory.seek(start)
            if found := re.search(rb"/tmp/python_env_\w{6}", memory.read(min(end - start, 2**26))):
                return Path(found[0].decode())
    raise AssertionError("Triton's Python backend has made no folder in /tmp")


def is_done_with(environment: Path) -> bool:
    """Whether the folder is gone, or held for a Triton of somebody else's that started at the same time."""
    try:
        folder = os.open(environment, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


@pytest.mark.parametrize(
    "victims",
    [(), (triton_of,), (stub_of,), (reaper_of,), (triton_of, reaper_of)],
    ids=["stopped", "triton", "stub", "reaper", "both"],
)
async def test_nothing_stays_in_tmp(
    echo: Path, folder: Path, victims: tuple[Callable[[TritonServer], psutil.Process], ...]
) -> None:
    server = make(echo, folder)
    await server.start()
    environment = environment_of(triton_of(server))
    assert environment.is_dir()
    found = [victim(server) for victim in victims]
    if len(found) > 1:
        # The reaper first: it ends by itself once Triton has.
        for each in reversed(found):
            each.suspend()
    for each in found:
        each.kill()
    if not victims:
        await server.stop()
    await asyncio.wait_for(server.wait(), LIMIT_S)
    assert is_done_with(environment)
    tiny.assert_gone(server.folder, 0)


async def test_tritons_that_start_at_a_time_leave_each_other_alone(echo: Path, folder: Path) -> None:
    """Each may take the other's folder for its own, and a Triton whose folder is gone aborts at its end."""
    servers = [make(echo, folder) for _ in range(3)]
    await asyncio.gather(*(server.start() for server in servers))
    environments = [environment_of(triton_of(server)) for server in servers]
    assert len(set(environments)) == len(servers)
    killed, *others = servers
    triton_of(killed).kill()
    await killed.wait()
    assert all(environment.is_dir() for environment in environments[1:])
    for server in others:
        await server.stop()
        assert server.returncode == 0
    assert all(is_done_with(environment) for environment in environments)


async def test_a_triton_that_cannot_start_leaves_nothing_in_tmp(tmp_path: Path, folder: Path) -> None:
    repository = tiny.repository(tmp_path / "repository", "hangs", "time.sleep(600)")
    server = make(repository, folder, TritonSettings(startup_timeout_s=500, load_stall_limit_s=2))
    starting = asyncio.create_task(server.start())
    deadline = time.monotonic() + LIMIT_S
    while (not server.folder.name or not tiny.stubs(server.folder.name)) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    environment = environment_of(triton_of(server))
    assert environment.is_dir()
    with pytest.raises(TritonError, match="made no progress"):
        await starting
    assert is_done_with(environment)


async def test_says_that_triton_was_killed(echo: Path, folder: Path) -> None:
    server = make(echo, folder)
    await server.start()
    triton_of(server).kill()
    await server.wait()
    assert server.why_ended() == "tritonserver was killed by SIGKILL: it wrote nothing"


@pytest.mark.parametrize("victims", [(triton_of,), (triton_of, reaper_of), (triton_of, stub_of)])
async def test_stops_what_is_suspended(
    echo: Path, folder: Path, victims: tuple[Callable[[TritonServer], psutil.Process], ...]
) -> None:
    server = make(echo, folder)
    await server.start()
    for victim in victims:
        victim(server).suspend()
    await asyncio.wait_for(server.kill(), KILL_LIMIT_S + LIMIT_S)
    tiny.assert_gone(server.folder, 0)


@pytest.mark.parametrize(("length", "stop_timeout_s", "complete"), [(12, LIMIT_S, True), (6000, 3, False)])
async def test_stop_lets_streams_finish_and_cuts_endless_ones(
    tmp_path: Path, folder: Path, length: int, stop_timeout_s: float, complete: bool
) -> None:
    repository = tiny.repository(tmp_path / "repository", pause_s=0.1)
    server = make(repository, folder, TritonSettings(startup_timeout_s=LIMIT_S, stop_timeout_s=stop_timeout_s))
    await server.start()
    numbers = list(range(length))
    received: list[int] = []
    first = threading.Event()

    def read() -> None:
        with contextlib.suppress(grpc.RpcError, RuntimeError):
            for number in tiny.echo(server.address, numbers):
                received.append(number)
                first.set()

    reader = asyncio.create_task(asyncio.to_thread(read))
    assert await asyncio.to_thread(first.wait, LIMIT_S)
    await asyncio.wait_for(server.stop(), LIMIT_S)
    await reader
    assert (received == numbers) is complete
    tiny.assert_gone(server.folder, 0)


@pytest.mark.parametrize("after_s", [0, 0.05, 0.2, 0.5])
async def test_a_cancelled_start_leaves_nothing(tmp_path: Path, folder: Path, after_s: float) -> None:
    repository = tiny.repository(tmp_path / "repository", "slow", "time.sleep(5)")
    starting = asyncio.create_task(make(repository, folder).start())
    await asyncio.sleep(after_s)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert list(folder.iterdir()) == []
    assert tiny.family(str(folder)) == []


async def test_a_cancelled_stop_leaves_nothing(echo: Path, folder: Path) -> None:
    server = make(echo, folder)
    await server.start()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    tiny.assert_gone(server.folder, 0)


OWNER = """
import asyncio, os, sys, time
from pathlib import Path
from bento_trtllm.config import TritonSettings
from bento_trtllm.triton.process.reaped import KILL_LIMIT_S
from bento_trtllm.triton.process.server import TritonServer

async def main():
    server = TritonServer(lambda _: Path(sys.argv[1]), TritonSettings(), parent=Path(sys.argv[2]))
    await server.start()
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(60)  # keeps every pipe of the owner open
    print(server.folder, flush=True)
    if "exit" in sys.argv:
        os._exit(0)
    await server.wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGKILL, ""),
        (signal.SIGKILL, "fork"),
        (signal.SIGTERM, ""),
        (signal.SIGINT, ""),
        (None, "exit"),
    ],
)
def test_ends_with_its_owner(echo: Path, folder: Path, number: int | None, options: str) -> None:
    argv = [sys.executable, "-c", OWNER, str(echo), str(folder), options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout
        triton = Path(owner.stdout.readline().strip())
        children = psutil.Process(owner.pid).children() if number else []
        try:
            if number:
                assert tiny.stubs(triton.name)
                owner.send_signal(number)
            owner.wait(LIMIT_S)
            tiny.assert_gone(triton)
        finally:
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()  # the fork
