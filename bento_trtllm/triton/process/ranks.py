"""Several tritonservers as one: the ranks of a tensor- or pipeline-parallel engine, under mpirun.

Like upstream's triton_backend/scripts/launch_triton_server.py (TensorRT-LLM 1.x; tensorrtllm_backend's
scripts/launch_triton_server.py in 0.10.0): rank 0 serves the whole repository, every other loads only `tensorrt_llm`,
and each has its own prefix for shared memory. Unlike upstream's, the other ranks open no port.

The reaper's child is mpirun: the death of any rank ends it (Open MPI aborts the job), and the supervisor restarts them
all.
"""

import shutil
from functools import partial
from pathlib import Path

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process import reaper
from bento_trtllm.triton.process.container import TRITON
from bento_trtllm.triton.process.installation import Installation
from bento_trtllm.triton.process.launch import Launch, Launcher, Ports, Start, tritonserver
from bento_trtllm.triton.wire.model_config import ENGINE

SERVED = ("--allow-http=", "--grpc-", "--metrics-", "--model-control-mode=", "--backend-config=python,shm-region")
"""Arguments of rank 0 that are different for the others, or absent."""


def launcher(world_size: int) -> Launcher:
    """The launcher of an engine with that many ranks."""
    return tritonserver if world_size == 1 else partial(mpirun, world_size=world_size)


def mpirun(start: Start, world_size: int) -> Launch:
    """One tritonserver per rank. Raises TritonError if there is no mpirun on PATH."""
    program = shutil.which("mpirun", path=start.environ.get("PATH"))
    if program is None:
        raise TritonError(
            f"The engine has {world_size} ranks, and there is no mpirun on PATH to start them: "
            "run inside NVIDIA's container, with scripts/in_container."
        )
    return _under(program, start, world_size)


def launch_plan(world_size: int) -> list[list[str]]:
    """What would be started in NVIDIA's container, one list per rank; values known only at a start are in capitals."""
    start = Start(
        installation=Installation(TRITON / "bin/tritonserver", "container", backends=TRITON / "backends"),
        repository=Path("REPOSITORY"),
        folder=Path("FOLDER"),
        cwd=Path("CWD"),
        ports=Ports(grpc=0, metrics=0),
        key="KEY",
        settings=TritonSettings(),
        gpu=True,
        environ={},
    )
    if world_size == 1:
        return [list(tritonserver(start).argv)]
    argv = _under("mpirun", start, world_size).argv
    ends = [i for i, argument in enumerate(argv) if argument == ":"]
    return [list(argv[a:b]) for a, b in zip([0, *ends], [*ends, len(argv)], strict=True)]


def _under(program: str, start: Start, world_size: int) -> Launch:
    first = tritonserver(start)
    # In a container, the number of cores says nothing about ranks; and by default Open MPI binds each of two ranks to a
    # core.
    argv = [program, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    # A rank that waits for the first one's next request, in MPI_Bcast (executorImpl.cpp, getNewReqWithIds), polls
    # without a pause. With this it at least yields its core to other processes.
    argv += ["--mca", "mpi_yield_when_idle", "1"]
    argv += ["-n", "1", *_path(first, start), *first.argv]
    for rank in range(1, world_size):
        argv += [":", "-n", "1", *_path(first, start), *_other(first, start, rank)]
    env = {name: value for name, value in first.env.items() if not name.startswith("OMPI_MCA_ess_")}
    return Launch(tuple(argv), env, first.cwd)


def _path(first: Launch, start: Start) -> list[str]:
    """Sets PATH again if the first python3 on it matters: Open MPI 4 puts its own bin folder first."""
    return ["/usr/bin/env", f"PATH={first.env['PATH']}"] if start.installation.python else []


def _other(first: Launch, start: Start, rank: int) -> list[str]:
    kept = [argument for argument in first.argv if not argument.startswith(SERVED)]
    return [
        *kept,
        "--allow-http=false",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--model-control-mode=explicit",
        f"--load-model={ENGINE}",
        f"--backend-config=python,shm-region-prefix-name={reaper.shm_prefix(str(start.folder))}{rank}-",
    ]
