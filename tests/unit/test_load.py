"""The benchmark's load is the same whether one process puts it on or several do."""

import pytest

from benchmark.load import Load
from benchmark.rounds import shares

LOAD = Load("sse", "triton", "http", 64, 1, 40, 40, 100, "prompt", "text", [1], [2], stagger_s=2.0)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_streams_begin_one_by_one_whichever_process_has_them(count: int) -> None:
    """Else each gap had as many as there are processes, all in one moment: who came last waited for the others."""
    parts = shares(LOAD, count)
    begun = sorted(part.begins_s(number) for part in parts for number in range(part.streams))
    assert begun == pytest.approx([LOAD.begins_s(number) for number in range(LOAD.streams)])
