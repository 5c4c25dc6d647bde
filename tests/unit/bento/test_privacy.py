"""Modes of files, in a process that keeps what it writes to itself."""

import os
import subprocess
import sys
import tempfile

from bento_trtllm.bento.privacy import keep_private
from tests.support.strangers import as_a_stranger, needs_root

LOOK = """
import os, sys, tempfile
from bento_trtllm.bento.privacy import keep_private
keep_private()
with tempfile.TemporaryDirectory() as folder:
    modes = []
    for mode in (0o644, 0o640, 0o600, 0o755):
        made = os.open(f"{folder}/{mode}", os.O_CREAT | os.O_RDWR, 0o666)
        os.fchmod(made, mode)
        modes.append(oct(os.fstat(made).st_mode & 0o777))
    os.chmod(f"{folder}/{0o640}", 0o644)
    modes.append(oct(os.stat(f"{folder}/{0o640}").st_mode & 0o777))
print(*modes)
"""


def test_only_what_boost_does_is_left_undone() -> None:
    """And in the processes that are started from there."""
    code = "import subprocess, sys\nfrom bento_trtllm.bento.privacy import keep_private\nkeep_private()\n"
    code += f"LOOK = {LOOK!r}\n"
    code += "sys.exit(subprocess.run([sys.executable, '-c', LOOK.replace('keep_private()', '')]).returncode)"
    for program in (LOOK, code):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split() == ["0o600", "0o640", "0o600", "0o755", "0o644"]
        assert not done.stderr


def modes() -> list[int]:
    keep_private()
    with tempfile.TemporaryFile() as file:
        found = []
        for mode in (0o644, 0o640):
            os.fchmod(file.fileno(), mode)
            found.append(os.fstat(file.fileno()).st_mode & 0o777)
        return found


@needs_root
def test_it_takes_no_root() -> None:
    assert as_a_stranger(modes) == [0o600, 0o640]
