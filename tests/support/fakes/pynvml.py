"""nvidia-ml-py as it is on a machine with the GPUs that $FAKE_GPUS names: name:GiB:major.minor, with commas between."""

import os
from types import SimpleNamespace


class NVMLError(Exception):
    pass


def _gpus() -> list[list[str]]:
    return [gpu.split(":") for gpu in os.environ.get("FAKE_GPUS", "").split(",") if gpu]


def nvmlInit() -> None:
    if not _gpus():
        raise NVMLError("Driver Not Loaded")


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetName(handle: int) -> str:
    return _gpus()[handle][0]


def nvmlDeviceGetUUID(handle: int) -> str:
    return f"GPU-{handle}"


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    return SimpleNamespace(total=int(_gpus()[handle][1]) << 30)


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    major, minor = _gpus()[handle][2].split(".")
    return int(major), int(minor)
