"""What OpenVINO's arithmetic depends on in a machine: it uses other instructions on another CPU."""

from importlib.metadata import version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16",
)  # fmt: skip
"""What it chooses its kernels by, as Linux calls them."""
LIBRARIES = ("openvino", "openvino-genai")


def machine() -> str:
    """The CPU's name, which of those instructions it has, and the libraries' versions. How many cores there are, or how
    fast they are, changes no result."""
    facts = _facts()
    has = facts.get("flags", "").split()
    cpu = f"{facts.get('model name', 'a CPU')} ({', '.join(each for each in INSTRUCTIONS if each in has)})"
    return ", ".join([cpu, *(f"{name} {version(name)}" for name in LIBRARIES)])


def instructions() -> set[str]:
    """All that the CPU has, as Linux calls them."""
    return set(_facts().get("flags", "").split())


def _facts() -> dict[str, str]:
    """Of the first core."""
    lines = (line.partition(":") for line in CPUINFO.read_text("utf-8", "replace").split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
