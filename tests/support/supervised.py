"""A worker of a service, reduced to its Supervisor: `python -m tests.support.supervised REPOSITORY FOLDER SETTINGS`.

It prints every change of the status as a line of JSON, and stops on SIGTERM.
"""

import asyncio
import json
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from bento_trtllm.config import TritonSettings
from bento_trtllm.triton.process.run_folder import RunFolder, Status
from bento_trtllm.triton.process.supervisor import Supervisor


def show(status: Status) -> None:
    print(json.dumps(asdict(status)), flush=True)


async def main(repository: str, folder: str, settings: str) -> None:
    supervisor = Supervisor(
        lambda _: Path(repository),
        TritonSettings.model_validate_json(settings),
        folder=RunFolder(Path(folder)),
    )
    supervisor.subscribe(show)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await supervisor.start()
    await stop.wait()
    await supervisor.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
