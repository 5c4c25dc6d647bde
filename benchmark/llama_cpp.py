"""llama.cpp's own figures on the same weights, by its llama-batched-bench, which is not built here."""

import json
import subprocess
from pathlib import Path

from benchmark import gguf
from benchmark.library import Batch, Timing
from benchmark.service import BenchError
from bento_trtllm.checkpoint.checkpoint import read_checkpoint
from bento_trtllm.triton_models.shared.cores import cores

TYPES = {"f16": "F16", "int8": "Q8_0", "int4": "Q4_0"}
"""Its types with as many bits per weight, by our precisions."""
LIMIT_S = 1800


class LlamaCpp:
    """`program` is llama-batched-bench; llama-quantize is beside it."""

    def __init__(self, program: Path, checkpoint: Path, folder: Path) -> None:
        self._program, self._checkpoint, self._folder = program, checkpoint, folder

    def prepare(self, precision: str) -> bool:
        """Write its file, unless it is there; False for a precision that it lacks. Raises BenchError."""
        return precision in TYPES and self._file(precision).exists()

    def put_on(self, precision: str, batch: Batch) -> Timing:
        """One batch; its program makes a short step right before. Raises BenchError."""
        argv = [str(self._program), "-m", str(self._file(precision))]
        argv += ["-c", str(batch.streams * (batch.prompt + batch.tokens)), "-b", "2048", "-t", str(cores())]
        argv += ["-npp", str(batch.prompt), "-ntg", str(batch.tokens), "-npl", str(batch.streams)]
        lines = [line for line in self._run([*argv, "--output-format", "jsonl"]).splitlines() if line.startswith("{")]
        if not lines:
            raise BenchError(f"{self._program} told no figures")
        return _timing(json.loads(lines[0]))

    def _file(self, precision: str) -> Path:
        whole = self._folder / "F16.gguf"
        if not whole.exists():
            gguf.write(read_checkpoint(self._checkpoint, str(self._checkpoint)), whole)
        kind = TYPES[precision]
        file = self._folder / f"{kind}.gguf"
        if not file.exists():
            self._run([str(self._program.with_name("llama-quantize")), str(whole), str(file), kind])
        return file

    def _run(self, argv: list[str]) -> str:
        try:
            return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            raise BenchError(f"{argv[0]} failed: {said[-1] if said else error}") from error


def _timing(found: dict[str, float]) -> Timing:
    """It computes all prompts, then all answers, a token of each at a time."""
    made = found["pl"] * found["tg"]
    return Timing(made / found["t"], found["speed_tg"], found["t_pp"] + found["t_tg"] / found["tg"])
