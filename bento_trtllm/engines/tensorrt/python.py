"""The Python of NVIDIA's container, which has tensorrt_llm; the service's own environment does not.

The service and pack_model.py run in a virtual environment. What TensorRT-LLM brings (torch, tensorrt, transformers)
belongs to the container's own Python: the first python3 on the PATH that container.py makes.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bento_trtllm.triton.process import container

ASK = "import importlib.metadata as m; print(m.version('tensorrt_llm'))"
ASK_LIMIT_S = 60


@dataclass(frozen=True)
class TensorRTPython:
    """An interpreter, and the environment for what runs on it."""

    executable: str
    environment: Mapping[str, str]

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ, python: Path = container.PYTHON) -> "TensorRTPython":
        """The container's Python, or the one of this machine; it may lack tensorrt_llm."""
        environment = container.environment(environ, python)
        executable = shutil.which("python3", path=environment["PATH"]) or sys.executable
        return cls(executable, environment)

    def version(self) -> str | None:
        """TensorRT-LLM's version there; None where it is not installed. Imports none of it."""
        try:
            asked = subprocess.run(
                [self.executable, "-c", ASK],
                env=dict(self.environment),
                capture_output=True,
                text=True,
                timeout=ASK_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return asked.stdout.strip() or None

    def command(self, name: str) -> str | None:
        """The path of a command that belongs to it, such as trtllm-build; None if there is none."""
        return shutil.which(name, path=self.environment["PATH"])
