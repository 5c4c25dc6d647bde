"""How much memory a process may still have, by the machine and by its cgroups."""

from pathlib import Path

import pytest

from bento_trtllm.triton_models.shared.cores import groups
from bento_trtllm.triton_models.shared.memory import LEAST, free_memory

MIB = 2**20


def free(folder: Path, membership: str, **files: str | int) -> int:
    """In MiB, on a machine with 8192; a file's name has __ for / and _DOT_ for a dot."""
    root, member, meminfo = folder / "cgroup", folder / "self", folder / "meminfo"
    root.mkdir()
    member.write_text(membership)
    meminfo.write_text(f"MemTotal: 99999999 kB\nMemAvailable:    {8192 * 1024} kB\n")
    for name, value in files.items():
        file = root / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value * MIB if isinstance(value, int) else value}\n")
    return free_memory(groups("memory", root, member), meminfo) // MIB


def limited(group: str, limit: str | int, used: int, inactive: int = 0) -> dict[str, str | int]:
    """A group of v2; `group` ends with __, or is empty."""
    stat = f"anon 1\ninactive_file {inactive * MIB}\nactive_file 99"
    return {
        f"{group}memory_DOT_max": limit,
        f"{group}memory_DOT_current": used,
        f"{group}memory_DOT_stat": stat,
    }


@pytest.mark.parametrize(
    ("limit", "used", "inactive", "left"),
    [("max", 1000, 0, 8192), (4096, 1024, 0, 3072), (4096, 3072, 2048, 3072), (99999, 1, 0, 8192)],
)
def test_limit_of_v2_in_a_container(tmp_path: Path, limit: str | int, used: int, inactive: int, left: int) -> None:
    """A file that was read and is not in use counts as free: the model itself."""
    assert free(tmp_path, "0::/\n", **limited("", limit, used, inactive)) == left


def test_a_group_above_binds_too(tmp_path: Path) -> None:
    files = {**limited("pods__", 3000, 1000), **limited("pods__mine__", 6000, 500)}
    assert free(tmp_path, "0::/pods/mine\n", **files) == 2000


def test_limit_of_v1(tmp_path: Path) -> None:
    files: dict[str, str | int] = {
        "memory__mine__memory_DOT_limit_in_bytes": 2048,
        "memory__mine__memory_DOT_usage_in_bytes": 1024,
        "memory__mine__memory_DOT_stat": f"inactive_file 5\ntotal_inactive_file {512 * MIB}",
    }
    assert free(tmp_path, "5:cpu:/other\n4:memory:/mine\n", **files) == 1536


def test_an_engine_gets_a_little_where_a_group_is_full(tmp_path: Path) -> None:
    assert free(tmp_path, "0::/\n", **limited("", 1024, 1020)) * MIB == LEAST
