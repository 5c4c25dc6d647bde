"""Paths in NVIDIA's Triton container, and the environment that its programs need.

The service runs in a virtual environment of its own. The container's software (Triton, tensorrt_llm, torch,
transformers) must not see it, and finds its packages through the first python3 on PATH: the system's, or from 26.03 on
that of /opt/venv-tritonserver, which the image puts at the front of PATH without naming it in VIRTUAL_ENV
(dockerfile/Dockerfile.triton.trt_llm_backend of tensorrtllm_backend).
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

TRITON = Path("/opt/tritonserver")
PYTHON = Path("/opt/venv-tritonserver")

FOREIGN = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
"""Variables for our Python that the container's must not see."""


def environment(base: Mapping[str, str], python: Path = PYTHON) -> dict[str, str]:
    """`base`, this process's environment, without our Python, and with the container's own first if there is one."""
    env = {name: value for name, value in base.items() if name not in FOREIGN}
    ours = {base.get("VIRTUAL_ENV"), sys.prefix if sys.prefix != sys.base_prefix else None}
    hidden = {str(Path(folder, "bin")) for folder in ours if folder}
    first = str(python / "bin") if (python / "bin/python3").exists() else None
    path = [folder for folder in base.get("PATH", os.defpath).split(":") if folder not in {*hidden, first}]
    env["PATH"] = ":".join([first, *path] if first else path)
    return env
