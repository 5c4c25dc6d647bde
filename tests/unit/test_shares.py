"""Tests that share a service are shared out together: pytest-xdist's scheduler asks for what is ours."""

from types import SimpleNamespace
from typing import Any

from tests.support.launcher import ROOT
from tests.support.shares import LONGEST, Shares, later

TESTS = [
    "tests/service/test_ends.py::test_end[openvino]",
    "tests/service/test_ends.py::test_end[tensorrt-1.x]",
    "tests/service/test_ends.py::test_end[pytorch-whole]",
    "tests/service/test_chat.py::test_chat[openvino-1]",
    "tests/service/test_chat.py::test_chat[tensorrt-1.x-1]",
    "tests/service/test_chat.py::test_chat[openvino-2]",
    "tests/service/test_chat.py::test_chat[a-tensorrt-1.x]",
    "tests/service/test_chat.py::test_chat[tensorrt-0.10-2]",
    "tests/unit/test_pack.py::test_pack[tensorrt-1.x]",
    "tests/unit/test_pack.py::test_pack[pytorch]",
]


def test_the_longest_files_come_first() -> None:
    assert all((ROOT / file).is_file() for file in LONGEST)
    tests = ["tests/unit/test_a.py::test_b[x::y]", *(f"{file}::test_c[1]" for file in LONGEST)]
    assert sorted(tests, key=later) == [*tests[1:], tests[0]]


class Process:
    """A worker of xdist's, to the eye of its scheduler: what it was sent are indexes of tests."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self) -> None:
        self.sent: list[list[int]] = []

    def send_runtest_some(self, indexes: list[int]) -> None:
        self.sent.append(indexes)

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_file_is_of_one_process_and_so_is_another_engine() -> None:
    config: Any = SimpleNamespace(
        getvalue=lambda name: ["2*popen"], option=SimpleNamespace(loadscopereorder=False), hook=None
    )
    processes: Any = [Process(), Process()]
    shares = Shares(config)
    for process in processes:
        shares.add_node(process)
        shares.add_node_collection(process, TESTS)
    shares.schedule()
    for process in processes:  # each has done what it was sent, again and again
        for sent in process.sent:
            for index in sent:
                shares.mark_test_complete(process, index)
    assert shares.tests_finished
    units = sorted(unit for process in processes for unit in process.sent)
    assert units == [[0], [1, 4, 6], [2], [3, 5], [7], [8, 9]]
