"""The launcher of the tests' services: what it starts does not outlive it."""

import subprocess
import sys
from pathlib import Path

from tests.support.launcher import ROOT
from tests.support.processes import left_over
from tests.support.tiny import until

TESTS = """
import sys, time
from pathlib import Path
from tests.support.serving import serve
home, folder = map(Path, sys.argv[1:])
with serve(home, folder / "log.txt", TEST_MARKER=str(folder)) as service:
    service.wait_ready()
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_service_ends_when_its_tests_are_killed(home: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", TESTS, str(home), str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout
        assert tests.stdout.readline() == "ready\n", (tmp_path / "log.txt").read_text()
        assert len(left_over(str(tmp_path))) > 2
        tests.kill()
    until(lambda: not left_over(str(tmp_path)), 20)
