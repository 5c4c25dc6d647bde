"""What the workers of a service know about swaps: files in a run folder of the service's own.

    swaps           the names of the models, where the service has several
    seats/<name>/   what follows, for each of them; where there is one, the folder itself has it

    wanted.json     the pack to serve, written by `bento-trtllm swap`
    progress.json   how far that is, written by the leader
    serving.json    the pack that new requests go to; none before the first swap

The leader is the worker that owns the folder (run_folder.py): when it dies, another one goes on from what is written.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar

from bento_trtllm.errors import TritonError
from bento_trtllm.manifest import tag_of
from bento_trtllm.triton.process.installation import temporary_folder

Stage = Literal["loading", "pausing", "moving", "done", "failed"]
ALONE = "the old engine has ended"
"""Why a new engine loads that has none beside it. As a part of the progress, workers in others' places know it."""


@dataclass(frozen=True)
class Pack:
    """A pack to serve: where it is, and the seal of its manifest."""

    path: str
    seal: str

    @property
    def tag(self) -> str:
        """As the model store has it."""
        return tag_of(Path(self.path))


@dataclass(frozen=True)
class Wanted(Pack):
    """What somebody asked for."""

    serial: int


@dataclass(frozen=True)
class Progress:
    """How far a swap is.

    loading: the new engine starts, beside the old one unless there was a pause. pausing: the old one ends first, since
    both do not fit, and new requests wait. moving: new requests go to the new engine, the old one finishes its
    answers. done: the old one has ended. failed: the old one serves on.
    """

    serial: int
    stage: Stage
    reason: str = ""
    """Why it failed, or why there is a pause, as a sentence."""

    def is_pause(self) -> bool:
        """Whether neither engine takes requests, since both do not fit."""
        return self.stage == "pausing" or (self.stage, self.reason) == ("loading", ALONE)


T = TypeVar("T", Wanted, Progress, Pack)
FILES: dict[type, str] = {Wanted: "wanted.json", Progress: "progress.json", Pack: "serving.json"}


class Orders:
    """Reads and writes those files in one service's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, service: Path, name: str) -> "Orders":
        """Those for the model of that name in a service's own folder; without a name, for its only one."""
        return cls(service / SEATS / name if name else service)

    @classmethod
    def for_pack(cls, service: Path, name: str) -> "Orders":
        """Those for the model whose place a pack of that name takes. Raises TritonError if it can be none's."""
        names = (service / MARK).read_text().split()
        if names and name not in names:
            served = ", ".join(names)
            raise TritonError(
                f"the service has the models {served}, and a pack takes the place of the one with its name: {name} is "
                "none of them"
            )
        return cls.of(service, name if names else "")

    def read(self, kind: type[T]) -> T | None:
        """The latest; None if there is none."""
        try:
            return kind(**json.loads((self.folder / FILES[kind]).read_bytes()))
        except FileNotFoundError:
            return None

    def write(self, what: Wanted | Progress | Pack) -> None:
        """Write it, whole or not at all. Raises OSError."""
        place = self.folder / FILES[type(what)]
        draft = place.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(asdict(what)))
        draft.replace(place)


def mark(service: Path, names: Sequence[str]) -> None:
    """Have the command find the service; `names` are those of its models if it has several. Raises OSError."""
    draft = service / f"{MARK}.{os.getpid()}"
    draft.write_text("\n".join(names))
    draft.replace(service / MARK)


def services() -> dict[int, Path]:
    """The folders of this user's services that run on this machine, by the process id of their `bentoml serve`."""
    found = {}
    for mark in (temporary_folder() / f"bento-trtllm-{os.getuid()}" / "run").glob(f"*/{MARK}"):
        parent = int(mark.parent.name.split("-")[0])
        if mark.stat().st_uid == os.getuid() and Path(f"/proc/{parent}").exists():
            found[parent] = mark.parent
    return found


SEATS, MARK = "seats", "swaps"
"""The file that tells a service's own folder from that of a Triton."""
