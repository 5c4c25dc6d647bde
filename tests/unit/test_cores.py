"""How many cores a process may use, by its affinity and by the quotas of its cgroups."""

import os
from pathlib import Path

import pytest

from bento_trtllm.triton_models.shared.cores import cores, physical_cores

AFFINITY = 16


@pytest.fixture(autouse=True)
def affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(AFFINITY)))


def tree(folder: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """A /sys/fs/cgroup and a /proc/self/cgroup; a file's name has __ for / and _DOT_ for a dot."""
    root, groups = folder / "cgroup", folder / "self"
    root.mkdir()
    groups.write_text(membership)
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root, groups


@pytest.mark.parametrize(
    ("quota", "counted"),
    [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 16)],
)
def test_quota_of_v2_in_a_container(tmp_path: Path, quota: str, counted: int) -> None:
    assert cores(*tree(tmp_path, "0::/\n", cpu_DOT_max=quota)) == counted


def test_a_group_above_binds_too(tmp_path: Path) -> None:
    quotas = {"pods__cpu_DOT_max": "300000 100000", "pods__mine__cpu_DOT_max": "800000 100000"}
    assert cores(*tree(tmp_path, "0::/pods/mine\n", **quotas)) == 3


@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "counted"), [("-1", 16), ("400000", 4), ("250000", 3)])
def test_quota_of_v1(tmp_path: Path, controllers: str, quota: str, counted: int) -> None:
    files = {
        f"{controllers}__mine__cpu_DOT_cfs_quota_us": quota,
        f"{controllers}__mine__cpu_DOT_cfs_period_us": "100000",
    }
    membership = f"5:memory:/mine\n3:cpuset:/other\n1:{controllers}:/mine\n"
    assert cores(*tree(tmp_path, membership, **files)) == counted


def test_a_container_that_sees_the_path_of_the_host(tmp_path: Path) -> None:
    """Docker with v1: the group's own folder is mounted as the root, and its path is the host's."""
    files = {"cpu__cpu_DOT_cfs_quota_us": "200000", "cpu__cpu_DOT_cfs_period_us": "100000"}
    assert cores(*tree(tmp_path, "4:cpu,cpuacct:/docker/5ad8ea60bf10\n", **files)) == 2


def test_a_group_outside_of_what_is_seen_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert cores(*tree(tmp_path, "0::/../..\n", cpu_DOT_max="500000 100000")) == 5


def test_hybrid_takes_the_least(tmp_path: Path) -> None:
    files = {
        "cpu__mine__cpu_DOT_cfs_quota_us": "700000",
        "cpu__mine__cpu_DOT_cfs_period_us": "100000",
        "unified__cpu_DOT_max": "600000 100000",
    }
    assert cores(*tree(tmp_path, "1:cpu:/mine\n0::/\n", **files)) == 6


def test_without_cgroups_it_is_the_affinity(tmp_path: Path) -> None:
    assert cores(tmp_path / "none", tmp_path / "neither") == AFFINITY


def test_hardware_threads_of_a_core_count_once(tmp_path: Path) -> None:
    assert physical_cores(tmp_path) == AFFINITY
    for cpu in range(AFFINITY):
        file = tmp_path / f"cpu{cpu}/topology/thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    assert physical_cores(tmp_path) == 8
