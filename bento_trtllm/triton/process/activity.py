"""What a command and all processes below it have done so far: CPU time, bytes read."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from bento_trtllm.triton.process import reaper

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Activity:
    """Sums over the processes that exist now. Children that have ended count in their parents' time."""

    cpu_s: float
    read_bytes: int
    """By calls of read, and from disks for mapped memory; 0 if the kernel does not say."""

    @classmethod
    def below(cls, ancestor: int) -> "Activity":
        """Of all processes below this one. It reads every process of the machine: do not call it often."""
        ticks = read = 0
        for pid, _ in reaper.descendants(ancestor):
            with contextlib.suppress(OSError, ValueError, KeyError, IndexError):  # it has ended meanwhile
                # utime, stime, cutime, cstime: proc(5), /proc/pid/stat, fields 14 to 17.
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
                said = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
                read += int(said["rchar"]) + int(said["read_bytes"])
        return cls(ticks / TICKS, read)
