"""The worker's end."""

import subprocess
import sys

LATE = """
import asyncio, os, signal
from bento_trtllm.bento import shutdown
reading, writing = os.pipe()
os.close(writing)
os.environ[shutdown.STOPPING] = str(reading)

async def main():
    told = asyncio.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    shutdown.Drain(lambda: print("begins"), lambda: None, lambda: True, 60).listen()
    await told.wait()
    print("ends")

asyncio.run(main())
"""


def test_a_worker_whose_parent_died_before_it_listened_ends() -> None:
    """The kernel tells of a parent's death only who asked before it."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "begins\nends\n"
