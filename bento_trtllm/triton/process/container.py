"""Where NVIDIA's Triton container has its own things, and the environment that its programs want.

The service runs in a virtual environment of its own. What the container brings (Triton, tensorrt_llm, torch,
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
"""What our Python goes by, and the container's must not."""


def environment(base: Mapping[str, str], python: Path = PYTHON) -> dict[str, str]:
    """`base`, the environment of this process, without our Python, and with the container's own first where it is."""
    env = {name: value for name, value in base.items() if name not in FOREIGN}
    ours = {base.get("VIRTUAL_ENV"), sys.prefix if sys.prefix != sys.base_prefix else None}
    hidden = {str(Path(folder, "bin")) for folder in ours if folder}
    first = str(python / "bin") if (python / "bin/python3").exists() else None
    path = [folder for folder in base.get("PATH", os.defpath).split(":") if folder not in {*hidden, first}]
    env["PATH"] = ":".join([first, *path] if first else path)
    return env
