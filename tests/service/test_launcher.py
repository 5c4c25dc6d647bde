"""The launcher of the tests' services: what it starts does not outlive it. And what such a start does without."""

import subprocess
import sys
from pathlib import Path

from tests.support.launcher import ROOT
from tests.support.processes import left_over
from tests.support.serving import environment
from tests.support.tiny import until

TESTS = """
import subprocess, sys, time
from pathlib import Path
from tests.support.launcher import bound
from tests.support.serving import environment, serve
if __name__ == "__main__":
    home, folder = map(Path, sys.argv[1:])
    marked = {"MARKED": str(folder)}
    subprocess.Popen(bound(["sleep", "600"]), env=environment(home, **marked))
    with serve(home, folder / "log.txt", **marked) as service:
        service.wait_ready()
        print("ready", flush=True)
        time.sleep(600)
"""


def test_a_service_ends_when_its_tests_are_killed(home: Path, tmp_path: Path) -> None:
    """As a fork of a process that has the imports, and as a process of its own."""
    argv = [sys.executable, "-c", TESTS, str(home), str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout
        assert tests.stdout.readline() == "ready\n", (tmp_path / "log.txt").read_text()
        assert {process.name() for process in left_over(str(tmp_path))} >= {"sleep", "tritonserver"}
        tests.kill()
    until(lambda: not left_over(str(tmp_path)), 60)


PARENT = """
import sys
import service
of_workers = "fastapi", "uvicorn.config", "tokenizers", "grpc", "numpy"
of_workers += "bento_trtllm.llm", "bento_trtllm.generation.generator"
early = [name for name in of_workers if name in sys.modules]
(mounted, _, _), = service.TRTLLM.mount_apps
print(*early, len(mounted.routes) > 0, len(service.front().middlewares))
"""


def test_what_workers_serve_is_not_imported_where_nobody_serves(home: Path) -> None:
    argv = [sys.executable, "-c", PARENT]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment(home, TRTLLM_MODEL="demo-llama:test"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True 6\n", done.stderr
