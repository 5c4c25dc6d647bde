"""`bento-trtllm swap TAG`: have a service that runs on this machine serve another pack."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bento_trtllm.errors import BentoTRTLLMError, StoreError, TritonError
from bento_trtllm.swap.orders import Orders, Progress, Wanted, services

LOOK_S = 0.1
# A leader needs that long at most to begin; a new one, after the last has died, as well.
BEGIN_S = 15.0
SAID = {
    "loading": "the new engine is loading",
    "pausing": "both do not fit ({reason}): new requests wait until the old engine has ended and the new one is ready",
    "moving": "new requests go to it; the old engine finishes its answers",
    "done": "done: the old engine has ended",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for an error, after which the old model is served as before."""
    parser = argparse.ArgumentParser(prog="bento-trtllm", description="Work on a service that runs on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    swap = commands.add_parser("swap", help=__doc__.partition(": ")[2], description=__doc__)
    swap.add_argument("tag", metavar="TAG", help="the pack, in the model store that the service reads")
    swap.add_argument("--pid", type=int, help="the process of `bentoml serve`; needed where several serve")
    asked = parser.parse_args(arguments)
    try:
        order(asked.tag, asked.pid)
    except (BentoTRTLLMError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("the service goes on with the swap; the same command watches it again", file=sys.stderr)
        return 130
    return 0


def order(tag: str, pid: int | None) -> None:
    """Ask for the swap and print how it goes. Raises StoreError or TritonError, in one sentence, if it is not done."""
    from bento_trtllm.bento.store import find_model  # noqa: PLC0415  BentoML: --help answers at once
    from bento_trtllm.manifest import Manifest  # noqa: PLC0415

    service = _folder(pid)
    path = Path(find_model(tag).path)
    orders = Orders.for_pack(service, path.parent.name)
    manifest = Manifest.open(path)
    last, progress = orders.read(Wanted), orders.read(Progress)
    under_way = last and (
        progress is None or progress.serial != last.serial or progress.stage not in ("done", "failed")
    )
    wanted = Wanted(str(path), manifest.seal, time.time_ns())
    if last and under_way:
        if (last.path, last.seal) != (wanted.path, wanted.seal):
            raise TritonError(f"the service is being swapped to {last.tag}: wait until that is done")
        wanted = last
    else:
        orders.write(wanted)
    _watch(orders, wanted)


def _folder(pid: int | None) -> Path:
    found = services()
    if pid is not None:
        if pid not in found:
            raise TritonError(f"process {pid} is no service of yours: {_list(found)}")
        return found[pid]
    if len(found) != 1:
        raise TritonError(f"say which service, with --pid: {_list(found)}" if found else _list(found))
    return next(iter(found.values()))


def _list(found: dict[int, Path]) -> str:
    if not found:
        return "no service of yours runs on this machine, or in this $TMPDIR"
    return f"your services here have the process ids {', '.join(map(str, sorted(found)))}"


def _watch(orders: Orders, wanted: Wanted) -> None:
    said, heard = "", time.monotonic()
    while True:
        progress = orders.read(Progress)
        if progress and progress.serial == wanted.serial:
            heard = time.monotonic()
            if progress.stage == "failed":
                raise StoreError(f"{wanted.tag} is not served, the old model is: {progress.reason}")
            if progress.stage != said:
                said = progress.stage
                print(f"{wanted.tag}: {SAID[said].format(reason=progress.reason)}", flush=True)
            if said == "done":
                return
        if not orders.folder.exists() or time.monotonic() - heard > BEGIN_S:
            raise TritonError("the service has ended, or the worker that was to do it: look at its log")
        time.sleep(LOOK_S)
