"""How the processes of scripts/test share the tests out: a file each, or all of one engine's.

pytest-xdist's own `--dist loadgroup` marks groups in a test's id by an attribute that pytest 9.2 has no more
(`_nodeid`; xdist/remote.py, 3.8.0), and then shares each test out by itself: what a file's tests share is started in
each process.
"""

import re

from xdist.scheduler import LoadScopeScheduling

from tests.support.llmapi import place as llmapi
from tests.support.standin.place import ENGINES

FOLDERS = ("tests/service/", "tests/triton/")
"""Where a test may be of another engine than OpenVINO."""
LONGEST = (
    "tests/service/test_lifecycle.py",
    "tests/triton/test_triton_server.py",
    "tests/service/test_refusals.py",
    "tests/triton/test_supervisor.py",
    "tests/deploy/test_bentos.py",
)
"""Files that take one or two minutes, most of which is waiting: begun last, they would end alone."""
OTHER = re.compile(rf"[\[-]({'|'.join(map(re.escape, (*ENGINES, llmapi.ENGINE)))})[\]-]")


def share(test: str) -> str:
    """What a test, by its id, is one of: its file's, or those of one of the other engines.

    The machine of such an engine is made, its models are packed and its service is started in one process only.
    """
    file, _, name = test.partition("::")
    of_another = OTHER.search(name) if file.startswith(FOLDERS) else None
    return of_another[1] if of_another else file


def later(test: str) -> bool:
    """Whether a test, by its id, comes after those of the longest files."""
    return test.partition("::")[0] not in LONGEST


class Shares(LoadScopeScheduling):  # type: ignore[misc]
    """Of all tests, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid)
