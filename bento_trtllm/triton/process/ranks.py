"""Several tritonservers as one: the ranks of a tensor- or pipeline-parallel engine, under mpirun.

As upstream's triton_backend/scripts/launch_triton_server.py does it (TensorRT-LLM 1.x; tensorrtllm_backend's
scripts/launch_triton_server.py in 0.10.0): rank 0 serves the whole repository, every other loads `tensorrt_llm`
alone, and each has its own prefix for shared memory. Unlike upstream's, the others open no port.

The reaper's child is mpirun: the death of any rank ends it (Open MPI aborts the job), and the supervisor starts all
of them again.
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

MODEL = "tensorrt_llm"
SERVED = ("--allow-http=", "--grpc-", "--metrics-", "--model-control-mode=", "--backend-config=python,shm-region")
"""What rank 0 has and the others have otherwise, or not at all."""


def launcher(world_size: int) -> Launcher:
    """The launcher of an engine with that many ranks."""
    return tritonserver if world_size == 1 else partial(mpirun, world_size=world_size)


def mpirun(start: Start, world_size: int) -> Launch:
    """One tritonserver a rank. Raises TritonError where there is no mpirun on PATH."""
    program = shutil.which("mpirun", path=start.environ.get("PATH"))
    if program is None:
        raise TritonError(
            f"The engine has {world_size} ranks, and there is no mpirun on PATH to start them: "
            "run inside NVIDIA's container, with scripts/in_container."
        )
    return _under(program, start, world_size)


def launch_plan(world_size: int) -> list[list[str]]:
    """What would be started in NVIDIA's container, a list a rank; in capitals what only a start knows."""
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
    # Inside a container, cores are no measure of ranks; and by default Open MPI binds each of two ranks to one core.
    argv = [program, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    # A rank that waits for the first one's next request, in MPI_Bcast (executorImpl.cpp, getNewReqWithIds), looks for
    # it without pause. So at least it leaves its core to whoever wants it.
    argv += ["--mca", "mpi_yield_when_idle", "1"]
    argv += ["-n", "1", *_path(first, start), *first.argv]
    for rank in range(1, world_size):
        argv += [":", "-n", "1", *_path(first, start), *_other(first, start, rank)]
    env = {name: value for name, value in first.env.items() if not name.startswith("OMPI_MCA_ess_")}
    return Launch(tuple(argv), env, first.cwd)


def _path(first: Launch, start: Start) -> list[str]:
    """Sets PATH again where the first python3 on it matters: Open MPI 4 puts its own bin folder before it."""
    return ["/usr/bin/env", f"PATH={first.env['PATH']}"] if start.installation.python else []


def _other(first: Launch, start: Start, rank: int) -> list[str]:
    kept = [argument for argument in first.argv if not argument.startswith(SERVED)]
    return [
        *kept,
        "--allow-http=false",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--model-control-mode=explicit",
        f"--load-model={MODEL}",
        f"--backend-config=python,shm-region-prefix-name={reaper.shm_prefix(str(start.folder))}{rank}-",
    ]
