"""The command line of tritonserver, as a value: what is run, with which environment, in which folder.

A launcher is a pure function from a `Start` to a `Launch`, so that an engine may bring its own, for example several
ranks under mpirun. `tritonserver` is the launcher for one process.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bento_trtllm.config import TritonSettings
from bento_trtllm.triton.process import reaper
from bento_trtllm.triton.process.door import LOOPBACK, Door
from bento_trtllm.triton.process.installation import Installation

UNUSED_PROTOCOLS = "shared-memory,model-repository,statistics,trace,logging"
"""Parts of Triton's gRPC API that nothing here needs, and that could change a running server."""

TRACED_AS = "tritonserver"
"""The name of Triton's spans' service, beside that of ours."""


@dataclass(frozen=True)
class Ports:
    """What one Triton listens on: the metrics on 127.0.0.1, gRPC as its door says. HTTP is off."""

    grpc: int
    metrics: int

    @classmethod
    def free(cls) -> "Ports":
        """Ports that are free now; another process may still take them before Triton does."""
        with socket.socket() as first, socket.socket() as second:
            for each in (first, second):
                each.bind((LOOPBACK, 0))
            return cls(grpc=first.getsockname()[1], metrics=second.getsockname()[1])


@dataclass(frozen=True)
class Start:
    """Everything that a launcher may need."""

    installation: Installation
    repository: Path
    """Triton's model repository."""
    folder: Path
    """For this start only; its name is Triton's id, and marks what Triton creates elsewhere."""
    cwd: Path
    """An empty folder in it: a stub can import whatever is in its working directory."""
    ports: Ports
    key: str
    """Random and never given out: it locks the parts of the gRPC API that nothing needs, against accidents. Users of
    this machine can read it on the command line."""
    settings: TritonSettings
    gpu: bool
    """Whether the engine runs on GPUs."""
    environ: Mapping[str, str]
    """The environment of this process."""


@dataclass(frozen=True)
class Launch:
    """What to execute. `argv[0]` is an absolute path."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


Launcher = Callable[[Start], Launch]


def tritonserver(start: Start) -> Launch:
    """One tritonserver that loads the whole repository, serves it, and never changes it."""
    settings = start.settings
    argv = [
        str(start.installation.binary),
        f"--id={start.folder.name}",
        f"--model-repository={start.repository}",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--exit-on-error=true",
        "--strict-readiness=true",
        # One second less than the reaper grants, so that Triton ends by itself.
        f"--exit-timeout-secs={max(1, int(settings.stop_timeout_s) - 1)}",
        "--allow-http=false",
        *Door.of(settings).arguments(start.ports.grpc),
        f"--grpc-restricted-protocol={UNUSED_PROTOCOLS}:{start.folder.name}={start.key}",
        f"--metrics-address={LOOPBACK}",
        f"--metrics-port={start.ports.metrics}",
        f"--backend-config=python,shm-region-prefix-name={reaper.shm_prefix(str(start.folder))}",
        f"--log-verbose={settings.triton_log_verbose}",
        *_tracing(settings.traces_url, start.environ),
        *start.installation.arguments(),
    ]
    if not start.gpu:
        # Without a GPU, looking for one takes up to half a second and causes warnings.
        argv += ["--pinned-memory-pool-byte-size=0", "--allow-gpu-metrics=false"]
    env = start.installation.environment(start.environ)
    # Files of MPI, which TensorRT-LLM initialises even for one rank, and others are then removed with everything else.
    env["TMPDIR"] = str(start.folder)
    # Without mpirun, Open MPI starts a server of its own and waits until its pipe is closed. A Python stub that is
    # forked meanwhile keeps the pipe open, and loading hangs forever. Isolated, it starts none.
    env["OMPI_MCA_ess_singleton_isolated"] = "1"
    if not start.gpu:
        # Triton would open each GPU of the machine, take memory of it from those who compute there, and listen on a
        # socket of CUDA's (@cuda-uvmfd-…).
        env["CUDA_VISIBLE_DEVICES"] = ""
    return Launch(tuple(argv), env, start.cwd)


def _tracing(url: str, environ: Mapping[str, str]) -> list[str]:
    """Triton's spans of the requests that come with a trace context; of others it makes none, as `rate=0` says.

    From docs/user_guide/trace.md of triton-inference-server/server, r24.10.
    """
    if not url:
        return []
    settings = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=0", f"opentelemetry,url={url}"]
    settings.append(f"opentelemetry,resource=service.name={TRACED_AS}")
    # OpenTelemetry's own variable, which the service's exporter follows too; Triton's default is as long, 5 s.
    if (delay := environ.get("OTEL_BSP_SCHEDULE_DELAY", "")).isdigit():
        settings.append(f"opentelemetry,bsp_schedule_delay={delay}")
    return [f"--trace-config={each}" for each in settings]
