"""The LoRA adapters of a pack: which ones, and what they need. Packing writes it, service and engine read it.

engine/adapters/index.json    Adapters
engine/adapters/NAME/         adapter_config.json, adapter_model.safetensors
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER, INDEX = "adapters", "index.json"


@dataclass(frozen=True)
class Adapters:
    """`modules` are those that any of them changes, by TensorRT-LLM's names; `rank` is the highest."""

    names: tuple[str, ...] = ()
    rank: int = 0
    modules: tuple[str, ...] = ()

    @classmethod
    def read(cls, engine: Path) -> Adapters:
        """The adapters in an engine's folder; empty where there are none."""
        file = engine / FOLDER / INDEX
        if not file.is_file():
            return cls()
        data = json.loads(file.read_text("utf-8"))
        return cls(tuple(data["names"]), data["rank"], tuple(data["modules"]))

    def text(self) -> str:
        """Of the index."""
        return json.dumps(asdict(self)) + "\n"

    @property
    def numbers(self) -> dict[str, int]:
        """What requests to the engine call each, from 1 on."""
        return {name: number for number, name in enumerate(self.names, 1)}
