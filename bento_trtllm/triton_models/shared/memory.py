"""Memory that this process can still have: the machine's, or what its cgroups leave it where that is less.

Copied beside the models, which stand alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
LEAST = 2**28
"""An engine cannot do with less, whatever a cgroup says."""
# The limit, what is used, and how much of that are files not used lately, which are given up first.
V2 = "memory.max", "memory.current", "inactive_file"
V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"


def free_memory(groups: Iterable[Path], meminfo: Path = MEMINFO) -> int:
    """Bytes that can still be had. `groups` are the folders of its cgroups, `cores.groups("memory")`."""
    return max(LEAST, min([_available(meminfo), *_left(groups)]))


def _available(meminfo: Path) -> int:
    with suppress(OSError):
        for line in meminfo.read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left(groups: Iterable[Path]) -> Iterator[int]:
    """What each of its groups leaves it: its own, and those above it, which bind it too.

    Files in the page cache are counted as used (Linux, Documentation/admin-guide/cgroup-v2.rst, "memory.current"), a
    model that was just read among them.
    """
    for folder in groups:
        for limit, used, reclaimable in (V2, V1):
            # "max" is no number: no limit. That of v1 is so large that the machine has less.
            with suppress(OSError, ValueError):
                left = int((folder / limit).read_text("utf-8")) - int((folder / used).read_text("utf-8"))
                statistics = (folder / "memory.stat").read_text("utf-8").splitlines()
                yield left + sum(int(line.split()[1]) for line in statistics if line.split()[0] == reclaimable)
