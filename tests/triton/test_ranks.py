"""The ranks of an engine under a real mpirun, with real tritonservers; their `tensorrt_llm` is a Python model here."""

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import grpc
import psutil
import pytest

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process import installation, ranks
from bento_trtllm.triton.process.installation import Installation
from bento_trtllm.triton.process.launch import Ports, Start, tritonserver
from bento_trtllm.triton.process.server import TritonServer
from tests.support import tiny
from tests.support.limits import LIMIT_S

SETTINGS = TritonSettings(startup_timeout_s=LIMIT_S, stop_timeout_s=6)
IN = Path("/opt/tritonserver/bin/tritonserver")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    tiny.repository(tmp_path / "repository", "ensemble")
    return tiny.repository(tmp_path / "repository", "tensorrt_llm")


def make(repository: Path, folder: Path, world_size: int) -> TritonServer:
    return TritonServer(lambda _: repository, SETTINGS, launcher=ranks.launcher(world_size), parent=folder)


@pytest.fixture(autouse=True)
def mpirun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mpirun of this Python's environment, where the container has its own on PATH."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


async def test_ranks_serve_as_one(repository: Path, folder: Path) -> None:
    server = make(repository, folder, 2)
    await server.start()
    try:
        for model in ("tensorrt_llm", "ensemble"):
            numbers = await asyncio.to_thread(list, tiny.echo(server.address, [7, 8], model))
            assert numbers == [7, 8]
        first, second = sorted(
            tiny.tritons(server.folder.name), key=lambda p: "--load-model=tensorrt_llm" in p.cmdline()
        )
        listening = [c for c in first.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert {c.laddr.port for c in listening} >= {server.ports.grpc, server.ports.metrics}
        # Two models in the first rank, one in the second, where only MPI may listen.
        assert [len(tiny_stubs(rank)) for rank in (first, second)] == [2, 1]
        assert "--model-control-mode=explicit" in second.cmdline()
        ports = {c.laddr.port for c in second.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert not ports & {server.ports.grpc, server.ports.metrics, 8000, 8001, 8002}
        # Neither is bound to a core.
        assert len(second.cpu_affinity()) == len(psutil.Process().cpu_affinity())
    finally:
        await server.stop()
    tiny.assert_gone(server.folder)


async def test_the_first_rank_has_the_door(repository: Path, folder: Path) -> None:
    """Its port and its key; the others open none."""
    door = {"grpc_port": Ports.free().grpc, "grpc_key": "key"}
    settings = TritonSettings.model_validate({**SETTINGS.model_dump(exclude_unset=True), **door})
    server = TritonServer(lambda _: repository, settings, launcher=ranks.launcher(2), parent=folder)
    await server.start()
    try:
        listening = [
            c.laddr.port
            for rank in tiny.tritons(server.folder.name)
            for c in rank.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN
        ]
        assert set(listening) >= {door["grpc_port"]}
        second = next(p for p in tiny.tritons(server.folder.name) if "--load-model=tensorrt_llm" in p.cmdline())
        assert not any("grpc-port" in argument or "infer-key" in argument for argument in second.cmdline())
        with pytest.raises(grpc.RpcError, match="restricted"):
            await asyncio.to_thread(lambda: list(tiny.echo(server.address, [7], "ensemble")))
        key = (("triton-grpc-protocol-infer-key", "key"),)
        numbers = await asyncio.to_thread(lambda: list(tiny.echo(server.address, [7], "ensemble", metadata=key)))
        assert numbers == [7]
    finally:
        await server.stop()
    tiny.assert_gone(server.folder)


def tiny_stubs(rank: psutil.Process) -> list[psutil.Process]:
    return [p for p in rank.children(recursive=True) if p.name().startswith("triton_python_b")]


@pytest.mark.parametrize("victim", ["first", "second", "mpirun"])
async def test_the_death_of_one_ends_all(repository: Path, folder: Path, victim: str) -> None:
    server = make(repository, folder, 2)
    await server.start()
    first, second = sorted(tiny.tritons(server.folder.name), key=lambda p: "--load-model=tensorrt_llm" in p.cmdline())
    mpirun = first.parent()
    assert mpirun
    {"first": first, "second": second, "mpirun": mpirun}[victim].kill()
    await asyncio.wait_for(server.wait(), 60)
    tiny.assert_gone(server.folder)
    assert list(folder.iterdir()) == []


async def test_stubs_find_their_python_where_mpirun_changes_the_path(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open MPI 4 puts its own bin folder first, which may have a python3; here a script does so around Open MPI 5."""
    real = shutil.which("mpirun")
    (bin_ := tmp_path / "mpi/bin").mkdir(parents=True)
    for name, text in {
        "mpirun": f'export PATH="{bin_}:$PATH"\nexec {real} "$@"\n',
        "python3": "exit 1\n",
    }.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{text}")
        (bin_ / name).chmod(0o755)
    told = tmp_path / "told"
    found = f"import shutil; open({str(told)!r}, 'a').write(shutil.which('python3') + chr(10))"
    repository = tiny.repository(tmp_path / "repository", "tensorrt_llm", initialize=found)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    server = make(repository, folder, 2)
    await server.start()
    await asyncio.to_thread(tiny.until, lambda: told.read_text().count("\n") >= 2)  # the second may be later
    await server.stop()
    wheel = installation.find().python
    assert wheel is not None
    assert told.read_text().splitlines() == [str(wheel / "python3")] * 2


# A rank in a program of its own: the first computes for a while, the second waits for it in a broadcast, as the ranks
# of TensorRT-LLM do. Both on one core. Each prints its number and its time on the core.
RANK = """#!{python}
import ctypes, os, time
mpi = ctypes.CDLL({library!r}, mode=ctypes.RTLD_GLOBAL)
mpi.MPI_Init(None, None)
symbols = (ctypes.c_char.in_dll(mpi, "ompi_mpi_" + name) for name in ("comm_world", "byte"))
world, byte = (ctypes.c_void_p(ctypes.addressof(symbol)) for symbol in symbols)
rank = ctypes.c_int()
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
buffer = ctypes.create_string_buffer(1)
mpi.MPI_Barrier(world)
before, began = time.process_time(), time.monotonic()
while rank.value == 0 and time.process_time() - before < 0.5 and time.monotonic() - began < 20:
    pass
mpi.MPI_Bcast(buffer, 1, byte, 0, world)
print(rank.value, time.process_time() - before, flush=True)
mpi.MPI_Finalize()
"""


def test_a_rank_that_waits_leaves_its_core_to_others(tmp_path: Path) -> None:
    """Without a word to mpirun it takes as much of the core as the other."""
    library = next(p for p in Path(sys.prefix, "lib").glob("libmpi.so.*") if p.stat().st_size > 100_000)
    program = tmp_path / "tritonserver"
    program.write_text(RANK.format(python=sys.executable, library=str(library)))
    program.chmod(0o755)
    begun = replace(
        start(tmp_path, os.environ["PATH"]),
        installation=Installation(program, "env"),
        environ=dict(os.environ),
    )
    begun.folder.mkdir()
    launch = ranks.mpirun(begun, 2)
    done = subprocess.run(launch.argv, env=dict(launch.env), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    times = {int(rank): float(took) for rank, took in map(str.split, done.stdout.splitlines())}
    assert times[0] >= 0.5
    assert times[1] < times[0] / 2


def start(tmp_path: Path, path: str) -> Start:
    return Start(
        installation=Installation(IN, "container", backends=Path("/opt/tritonserver/backends")),
        repository=Path("/repository"),
        folder=tmp_path / "triton-abc",
        cwd=tmp_path / "triton-abc/cwd",
        ports=Ports(grpc=1234, metrics=1235),
        key="secret",
        settings=SETTINGS,
        gpu=True,
        environ={"PATH": path, "VIRTUAL_ENV": "/app/.venv"},
    )


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "mpirun").write_text("#!/bin/sh\n")
    (tmp_path / "mpirun").chmod(0o755)
    launch = ranks.mpirun(start(tmp_path, f"/app/.venv/bin:{tmp_path}"), 4)
    argv = list(launch.argv)
    assert argv[:5] == [str(tmp_path / "mpirun"), "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    assert argv[5:8] == ["--mca", "mpi_yield_when_idle", "1"]
    groups: list[list[str]] = [[]]
    for argument in argv[8:]:
        if argument == ":":
            groups.append([])
        else:
            groups[-1].append(argument)
    assert [group[:3] for group in groups] == [["-n", "1", str(IN)]] * 4
    first, *others = groups
    assert first[2:] == list(tritonserver(start(tmp_path, "")).argv)
    prefixes = {argument for group in groups for argument in group if "shm-region-prefix-name" in argument}
    assert len(prefixes) == 4
    for group in others:
        assert group.count("--load-model=tensorrt_llm") == group.count("--model-control-mode=explicit") == 1
        assert "--disable-auto-complete-config" in group and "--exit-on-error=true" in group
        assert not any("port" in argument or "key" in argument or "secret" in argument for argument in group)
    # What mpirun leaves goes with the folder; the service's environment is not Triton's.
    assert launch.env == {"PATH": str(tmp_path), "TMPDIR": str(tmp_path / "triton-abc")}
    assert "--allow-gpu-metrics=false" not in argv


def test_one_rank_needs_no_mpi(tmp_path: Path) -> None:
    assert ranks.launcher(1) is tritonserver
    with pytest.raises(TritonError, match="there is no mpirun on PATH"):
        ranks.mpirun(start(tmp_path, str(tmp_path)), 2)
