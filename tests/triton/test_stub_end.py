"""How the process of the OpenVINO engine ends, which Triton keeps to itself."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

from bento_trtllm.config import TritonSettings
from bento_trtllm.triton.process import installation
from bento_trtllm.triton.process.repository import place_repository
from bento_trtllm.triton.process.server import TritonServer


async def test_the_engines_process_ends_well(home: Path, tmp_path: Path) -> None:
    """Not by SIGSEGV, as where it gives its metrics back too late."""
    found = installation.find()
    assert found.backends
    backends, codes = tmp_path / "backends", tmp_path / "codes"
    shutil.copytree(found.backends, backends)
    stub = backends / "python" / "triton_python_backend_stub"
    real = stub.rename(stub.with_name("real"))
    # Triton first asks it something without an argument.
    stub.write_text(f'#!/bin/bash\n"{real}" "$@"\ncode=$?\n[ $# = 0 ] || echo $code >>"{codes}"\n')
    stub.chmod(0o755)
    (tmp_path / "run").mkdir()
    packed = home / "models" / "demo-llama" / "test"
    server = TritonServer(
        lambda folder: place_repository(packed, folder, {}, text=False),
        TritonSettings(startup_timeout_s=60, stop_timeout_s=60),
        found=replace(found, backends=backends),
        parent=tmp_path / "run",
    )
    await server.start()
    await server.stop()
    assert server.returncode == 0
    # Triton kills one that does not get to report to it for a second (UpdateHealth in stub_launcher.cc, 24.10).
    assert codes.read_text().split() in (["0"], [str(128 + signal.SIGKILL)])
