"""The two steps from a checkpoint to an engine, as processes: convert (or quantise), then trtllm-build.

Each step works in a folder of its own under the workspace, named by a hash of all that goes in, and renamed into
place when it has succeeded. So a folder that is there is finished, and is not made again: an interrupted build goes
on with the step it was in, and another preset of the same checkpoint shares the conversion.

    WORKSPACE/checkpoint-<hash>/   rank<N>.safetensors, config.json     beside it checkpoint-<hash>.log
    WORKSPACE/engine-<hash>/       rank<N>.engine, config.json          beside it engine-<hash>.log
    WORKSPACE/timing-<hash>.cache  what TensorRT measured, for the next build by the same version on the same GPU
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.tensorrt import calibration
from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.engines.tensorrt.releases import Release
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings
from bento_trtllm.errors import EngineError

CONVERT = Path(__file__).with_name("convert.py")
MODELS = {"LlamaForCausalLM": "LLaMAForCausalLM"}
"""Classes of tensorrt_llm.models, by the architecture that they convert."""
QUANT_ALGO = {"none": None, "fp8": "FP8", "int4_awq": "W4A16_AWQ", "nvfp4": "NVFP4"}
"""Names of tensorrt_llm.quantization.QuantAlgo."""
TELLING = ("error", "exception", "out of memory", "assert")


@dataclass(frozen=True)
class ConvertCall:
    """The last argument of convert.py, as JSON."""

    api: str
    checkpoint: str
    output: str
    dtype: str
    tp_size: int
    pp_size: int
    quant_algo: str | None
    kv_cache_quant_algo: str | None
    calib_dataset: str
    calib_batches: int
    load_by_shard: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint, settings: TensorRTSettings, release: Release, output: str) -> "ConvertCall":
        return cls(
            api=release.version.conversion,
            checkpoint=str(checkpoint.path),
            output=output,
            dtype=settings.dtype,
            tp_size=settings.tp_size,
            pp_size=settings.pp_size,
            quant_algo=QUANT_ALGO[settings.quantization],
            kv_cache_quant_algo=_kv_cache(settings, release),
            calib_dataset=calibration.dataset(settings),
            calib_batches=settings.calibration_samples,
        )


def _kv_cache(settings: TensorRTSettings, release: Release) -> str | None:
    if settings.kv_cache_dtype != "fp8":
        return None
    return "fp8" if release.version.fp8_cache_as_text else "FP8"


def timing_argv(read: str, write: str) -> list[str]:
    """Options for the cache of what TensorRT measured; without them trtllm-build leaves model.cache where it runs.

    A cache to read that is not there is ignored.
    """
    return ["--input_timing_cache", read, "--output_timing_cache", write]


def build_argv(settings: TensorRTSettings, release: Release, checkpoint: str, output: str) -> list[str]:
    """The command line of trtllm-build. Options of plugins take enable and disable."""
    flags: dict[str, object] = {
        "checkpoint_dir": checkpoint,
        "output_dir": output,
        "workers": settings.world_size,
        "gpt_attention_plugin": settings.dtype,
        "gemm_plugin": settings.dtype if settings.gemm_plugin == "auto" else "disable",
        "max_batch_size": settings.max_batch_size,
        "max_input_len": settings.max_input_len,
        "max_num_tokens": settings.max_num_tokens,
        "multiple_profiles": _switch(settings.multiple_profiles),
        # Deprecated from 0.12 on and still understood; the newer kv_cache_type is not there in 0.10.0.
        "paged_kv_cache": "enable",
        "use_paged_context_fmha": _switch(settings.use_paged_context_fmha),
    }
    if settings.max_seq_len is not None:
        if release.version.max_seq_len_flag:
            flags["max_seq_len"] = settings.max_seq_len
        else:
            flags["max_output_len"] = settings.max_seq_len - settings.max_input_len
    return ["trtllm-build", *(part for name, value in flags.items() for part in (f"--{name}", str(value)))]


class Builder:
    """Builds in a workspace, on the disk of the model store if engines are to be linked rather than copied."""

    def __init__(self, workspace: Path, python: TensorRTPython | None = None) -> None:
        self.workspace = workspace
        self._python = python or TensorRTPython.find()

    def build(
        self, checkpoint: Checkpoint, settings: TensorRTSettings, release: Release, gpu: str, directory: Path
    ) -> None:
        """Put the engine's files into an existing directory, linked where it is on the same disk.

        Raises EngineError for a step that fails, with the place of its log, and OSError where the disk does.
        """
        self.workspace.mkdir(parents=True, exist_ok=True)
        call = ConvertCall.of(checkpoint, settings, release, "")
        weights = checkpoint.revision or checkpoint.checksum
        inputs: list[object] = [release.tensorrt_llm, weights, asdict(replace(call, checkpoint=""))]
        inputs += filter(None, [calibration.contents(settings)])
        converted = self.workspace / f"checkpoint-{_digest(inputs)}"
        with _step(converted) as draft:
            if draft:
                model = MODELS[checkpoint.config.architecture]
                words = [str(CONVERT), model, json.dumps(asdict(replace(call, output=str(draft))))]
                self._run("convert", [self._python.executable, *words], converted)
        flags = build_argv(settings, release, "", "")
        built = self.workspace / f"engine-{_digest([*inputs, flags, gpu])}"
        known = self.workspace / f"timing-{_digest([release.tensorrt_llm, gpu])}.cache"
        with _step(built) as draft:
            if draft:
                # Written apart and renamed: builds may run side by side.
                measured = built.with_name(f"{built.name}.cache")
                argv = build_argv(settings, release, str(converted), str(draft))
                argv += timing_argv(str(known), str(measured))
                argv[0] = self._python.command(argv[0]) or argv[0]
                try:
                    self._run("trtllm-build", argv, built)
                    if measured.exists():
                        measured.replace(known)
                finally:
                    measured.unlink(missing_ok=True)
        for file in sorted(path for path in built.iterdir() if path.is_file()):
            try:
                os.link(file, directory / file.name)
            except OSError:
                shutil.copyfile(file, directory / file.name)

    def _run(self, name: str, argv: Sequence[str], folder: Path) -> None:
        log = folder.with_name(f"{folder.name}.log")
        print(f"{name}: its log is {log}", file=sys.stderr)
        try:
            code, telling = _logged(argv, self._python.environment, log, name)
        except OSError as error:
            raise EngineError(
                f"{name} cannot be started ({error}): run inside NVIDIA's container, with scripts/in_container"
            ) from error
        if code:
            raise EngineError(f"{name} ended with code {code} ({telling}): the whole log is {log}")


def _logged(argv: Sequence[str], environment: Mapping[str, str], log: Path, name: str) -> tuple[int, str]:
    """Run a command to its end with its output in a log; its exit code, and the line that tells most."""
    telling = last = "it wrote nothing"
    with (
        log.open("w", encoding="utf-8") as file,
        tqdm(desc=name, bar_format="{desc} {elapsed} {postfix}", disable=None) as bar,
    ):
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            assert process.stdout
            for line in process.stdout:
                file.write(line)
                file.flush()
                if text := line.strip():
                    last = text[:200]
                    telling = last if any(word in text.lower() for word in TELLING) else telling
                    bar.set_postfix_str(last[:80], refresh=False)
                    bar.update()
            code = process.wait()
        finally:
            # Also when interrupted: the workers of a build hold the GPU's memory.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, telling if telling != "it wrote nothing" else last


@contextmanager
def _step(folder: Path) -> Iterator[Path | None]:
    """A draft to fill, which becomes the folder; None where the folder is finished. One process at a time."""
    lock = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            print(f"{folder.name} is finished already", file=sys.stderr)
            yield None
            return
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            yield draft
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(lock)


def _digest(inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _switch(value: bool) -> str:
    return "enable" if value else "disable"
