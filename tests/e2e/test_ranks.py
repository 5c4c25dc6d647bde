"""The ranks of an engine under a real mpirun, with real tritonservers; their `tensorrt_llm` is a Python model here."""

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton import ranks
from bento_trtllm.triton.installation import Installation
from bento_trtllm.triton.launch import Ports, Start, tritonserver
from bento_trtllm.triton.server import TritonServer
from tests.e2e import tiny

SETTINGS = TritonSettings(startup_timeout_s=40, stop_timeout_s=6)
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
            numbers = await asyncio.to_thread(lambda model=model: list(tiny.echo(server.address, [7, 8], model)))
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


def tiny_stubs(rank: psutil.Process) -> list[psutil.Process]:
    return [p for p in rank.children(recursive=True) if p.name().startswith("triton_python_b")]


@pytest.mark.parametrize("victim", ["first", "second", "mpirun"])
async def test_the_death_of_one_ends_all(repository: Path, folder: Path, victim: str) -> None:
    server = make(repository, folder, 2)
    await server.start()
    first, second = sorted(tiny.tritons(server.folder.name), key=lambda p: "--load-model=tensorrt_llm" in p.cmdline())
    {"first": first, "second": second, "mpirun": first.parent()}[victim].kill()
    await asyncio.wait_for(server.wait(), 10)
    tiny.assert_gone(server.folder)
    assert list(folder.iterdir()) == []


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
    groups: list[list[str]] = [[]]
    for argument in argv[5:]:
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
