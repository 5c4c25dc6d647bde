"""Cores that this process may use: the one place that counts them, for workers, threads and steps.

A scheduler's affinity and a cgroup's quota both bound them; a container mostly has the latter. Copied beside the
models, which stand alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")


def cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Its affinity, or the least quota of its cgroups where that is less; a part of a core counts as one."""
    return max(1, min([len(os.sched_getaffinity(0)), *map(ceil, quotas(cgroups, membership))]))


def quotas(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[float]:
    """Cores that each of its cgroups allows, where there is a limit: cpu.max of v2, cpu.cfs_quota_us of v1.

    A group is bound by those above it too, so all are asked (Linux, Documentation/admin-guide/cgroup-v2.rst, "CPU
    Interface Files"; Documentation/scheduler/sched-bwc.rst). A container often sees its own group as the root, under a
    path that is the host's; then only the root is found, which is the one that counts.
    """
    for folder in groups("cpu", cgroups, membership):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text("utf-8").split()
            yield int(quota) / int(period)  # "max" is no number: no limit
        with suppress(OSError, ValueError):
            quota_us = int((folder / "cpu.cfs_quota_us").read_text("utf-8"))
            if quota_us > 0:  # -1: no limit
                yield quota_us / int((folder / "cpu.cfs_period_us").read_text("utf-8"))


def physical_cores(topology: Path = TOPOLOGY) -> int:
    """Physical cores of its affinity: two hardware threads of one count once."""
    allowed = os.sched_getaffinity(0)
    siblings = set()
    for cpu in allowed:
        with suppress(OSError):
            siblings.add((topology / f"cpu{cpu}/topology/thread_siblings_list").read_text("utf-8").strip())
    return len(siblings) or len(allowed)


def groups(controller: str, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """The folders of its cgroups that bound it in what a controller of v1 is for, from its own up to the root."""
    lines = [":: /"]
    with suppress(OSError):
        lines = membership.read_text("utf-8").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # v2, alone or beside v1
            roots = [cgroups, cgroups / "unified"]
        elif controller in controllers.split(","):
            roots = [cgroups / controllers, cgroups / controller]
        else:
            continue
        inside = PurePosixPath(path.strip()).relative_to("/") if path.startswith("/") else PurePosixPath()
        for root in roots:
            for group in (inside, *inside.parents):
                if ".." not in group.parts:
                    yield root / group
