"""GPUs: the ones to plan for by name, and the ones of this machine."""

import os
import re
from dataclasses import dataclass
from typing import Any

from bento_trtllm.errors import EngineError


@dataclass(frozen=True)
class GPU:
    """One GPU. `memory` is in bytes, `capability` CUDA's compute capability as (major, minor)."""

    name: str
    memory: int
    capability: tuple[int, int]

    @property
    def sm(self) -> str:
        """The compute capability as NVIDIA writes it: 8.9."""
        return f"{self.capability[0]}.{self.capability[1]}"


GIB = 1 << 30

# Memory from NVIDIA's data sheets, capability from developer.nvidia.com/cuda-gpus. What a driver reports is a little
# less; a plan for a machine's own GPU takes that.
GPUS = {
    gpu.name: gpu
    for gpu in (
        GPU("T4", 16 * GIB, (7, 5)),
        GPU("A10", 24 * GIB, (8, 6)),
        GPU("A10G", 24 * GIB, (8, 6)),
        GPU("RTX-3090", 24 * GIB, (8, 6)),
        GPU("RTX-A6000", 48 * GIB, (8, 6)),
        GPU("A40", 48 * GIB, (8, 6)),
        GPU("A100-40GB", 40 * GIB, (8, 0)),
        GPU("A100-80GB", 80 * GIB, (8, 0)),
        GPU("L4", 24 * GIB, (8, 9)),
        GPU("RTX-4090", 24 * GIB, (8, 9)),
        GPU("RTX-6000-Ada", 48 * GIB, (8, 9)),
        GPU("L40S", 48 * GIB, (8, 9)),
        GPU("H100", 80 * GIB, (9, 0)),
        GPU("H200", 141 * 10**9, (9, 0)),
        GPU("B200", 180 * 10**9, (10, 0)),
        GPU("RTX-5090", 32 * GIB, (12, 0)),
    )
}


def named(name: str) -> GPU:
    """The GPU of that name, whatever its case and punctuation. Raises EngineError for one that is not in the table."""
    for gpu in GPUS.values():
        if _plain(gpu.name) == _plain(name):
            return gpu
    raise EngineError(f"there is no GPU {name} in the table: choose one of {', '.join(GPUS)} with --gpu")


def installed() -> list[GPU]:
    """The GPUs that this process may use, in CUDA's order; none where there is no driver.

    Asks the driver through nvidia-ml-py, which BentoML brings along. A CUDA_VISIBLE_DEVICES that lists numbers or
    UUIDs is respected, since Triton and TensorRT-LLM are.
    """
    # Imported here: only GPU machines need it.
    import pynvml  # noqa: PLC0415

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [
            GPU(
                _text(pynvml.nvmlDeviceGetName(handle)),
                int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
            )
            for handle in _visible(handles)
        ]
    except pynvml.NVMLError as error:
        raise EngineError(
            f"the NVIDIA driver does not say what GPUs there are ({error}): look at nvidia-smi"
        ) from error
    finally:
        pynvml.nvmlShutdown()


def _visible(handles: list[Any]) -> list[Any]:
    """As CUDA reads it: numbers, or beginnings of UUIDs. What follows one that is not there does not count."""
    import pynvml  # noqa: PLC0415

    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return handles
    by_number = {str(i): handle for i, handle in enumerate(handles)}
    uuids = [(_text(pynvml.nvmlDeviceGetUUID(handle)), handle) for handle in handles]
    found = []
    for name in map(str.strip, wanted.split(",")):
        matching = [handle for uuid, handle in uuids if name.startswith("GPU-") and uuid.startswith(name)]
        if name in by_number:
            matching = [by_number[name]]
        if len(matching) != 1:
            break
        found += matching
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]|nvidia|geforce|gb$", "", name.lower())
