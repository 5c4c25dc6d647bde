"""What scripts/bench writes of a checkpoint on the OpenVINO engine: tables and JSON."""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark import shapes, sides, tables
from benchmark.report import VERSIONS, cpu_name
from benchmark.service import BenchError
from bento_trtllm.errors import BentoTRTLLMError
from bento_trtllm.triton_models.shared.cores import cores


def main(given: argparse.Namespace, say: Callable[[str], None]) -> int:
    """The arguments of scripts/bench, to an exit code."""
    wanted = sides.Wanted(
        given.checkpoint,
        given.precision,
        given.streams or [1, 8, 32],
        given.lengths,
        given.repeats or 3,
        given.llama_cpp,
    )
    model = given.shape or given.checkpoint.resolve().name

    def keep(found: sides.Sides) -> None:
        """Called after each precision: a run takes long."""
        if given.json:
            given.json.write_text(json.dumps(_as_json(model, found), indent=1) + "\n", "utf-8")

    try:
        if given.shape:
            say(f"writing {given.shape} ...")
            shapes.write(given.shape, given.checkpoint)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            found = sides.run(wanted, Path(folder), say, keep)
        print(_title(model))
        print(tables.text(sides.HEAD, sides.rows(found)))
        print(tables.text(sides.REST_HEAD, sides.rest_rows(found)))
    except (BenchError, BentoTRTLLMError) as error:
        say(f"error: {error}")
        return 1
    return 0


def _title(model: str) -> str:
    return f"{model}; {cores()} cores, {cpu_name()}; {time.strftime('%Y-%m-%d', time.gmtime())}"


def _as_json(model: str, found: sides.Sides) -> dict[str, Any]:
    return {
        "title": _title(model),
        "machine": {"cpu": cpu_name(), "cores": cores(), "python": platform.python_version()},
        "versions": {name: version(name) for name in VERSIONS},
        **json.loads(sides.as_json(found)),
    }
