#!/usr/bin/env python3
"""Pack a Hugging Face checkpoint into the BentoML model store, ready for scripts/serve; or check a packed model."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from bento_trtllm.engines import ENGINES, make_engine, make_tensorrt
from bento_trtllm.engines.tensorrt.releases import DEFAULT
from bento_trtllm.errors import BentoTRTLLMError, EngineError

if TYPE_CHECKING:
    from bento_trtllm.engines.base import Engine


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pack_model.py", description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, help="what Triton runs the model with")
    parser.add_argument("--checkpoint", metavar="DIR_OR_HF_ID", help="a directory, or a Hugging Face id")
    parser.add_argument("--revision", help="the branch, tag or commit of a Hugging Face id")
    parser.add_argument(
        "--tag", help="name or name:version in the store; without a version, or a tag, a new version is made"
    )
    parser.add_argument(
        "--precision", help="of the engine's weights: f16 (the default) or q8_0, half the size, for openvino"
    )
    _add_tensorrt(parser)
    parser.add_argument("--force", action="store_true", help="replace a model of the same tag")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan as JSON, and pack nothing"
    )
    parser.add_argument(
        "--check", metavar="TAG", help="read every byte of a packed model, and compare it with what was packed"
    )
    options = parser.parse_args(arguments)
    for name in ("engine", "checkpoint"):
        if options.check is None and getattr(options, name) is None:
            parser.error(f"--{name} is needed to pack, or --check TAG to check what is packed")
        if options.check is not None and getattr(options, name) is not None:
            parser.error(f"--check takes the tag of a packed model, and no --{name}")
    return options


def _add_tensorrt(parser: argparse.ArgumentParser) -> None:
    """The settings of bento_trtllm/engines/tensorrt/settings.py that are worth an option; None is not given."""
    group = parser.add_argument_group("with --engine tensorrt", "What is not given comes from the preset.")
    group.add_argument("--release", metavar="TAG", help=f"of NVIDIA's container: {DEFAULT} (the default), 24.06, …")
    group.add_argument("--preset", choices=("tutorial", "throughput", "latency"), help="default: tutorial")
    group.add_argument("--dtype", choices=("bfloat16", "float16"), help="of what is not quantised")
    group.add_argument("--quantization", choices=("none", "fp8", "int4_awq", "nvfp4"), help="of the weights")
    group.add_argument("--kv-cache-dtype", choices=("auto", "fp8"), help="auto: fp8 with fp8 and nvfp4, else dtype")
    group.add_argument("--calibration-dataset", metavar="NAME_OR_DIR", help="to quantise with")
    group.add_argument("--calibration-samples", type=int, metavar="N")
    group.add_argument("--tp", type=int, dest="tp_size", metavar="N", help="GPUs that share each layer")
    group.add_argument("--pp", type=int, dest="pp_size", metavar="N", help="GPUs that share the layers out")
    group.add_argument("--max-batch-size", type=int, metavar="N", help="requests at once, at most")
    group.add_argument("--max-input-len", type=int, metavar="N", help="tokens of a prompt")
    group.add_argument("--max-seq-len", type=int, metavar="N", help="tokens of a prompt and its answer")
    group.add_argument("--max-num-tokens", type=int, metavar="N", help="tokens of one step")
    group.add_argument("--gpu", metavar="NAME", help="with --dry-run: plan for this GPU, such as L40S")


TENSORRT_OPTIONS = (
    "release",
    "preset",
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "calibration_dataset",
    "calibration_samples",
    "tp_size",
    "pp_size",
    "max_batch_size",
    "max_input_len",
    "max_seq_len",
    "max_num_tokens",
)


def _engine(options: argparse.Namespace) -> "Engine":
    values = {name: getattr(options, name) for name in TENSORRT_OPTIONS}
    if options.engine == "tensorrt":
        from bento_trtllm.bento.store import home  # noqa: PLC0415

        if options.precision is not None:
            raise EngineError("--precision is for openvino: take --dtype and --quantization with --engine tensorrt")
        return make_tensorrt(values, home() / "tensorrt", options.gpu)
    if given := [name for name in (*TENSORRT_OPTIONS, "gpu") if getattr(options, name) is not None]:
        option = given[0].removesuffix("_size") if given[0] in ("tp_size", "pp_size") else given[0].replace("_", "-")
        raise EngineError(f"--{option} is for --engine tensorrt: leave it out with --engine {options.engine}")
    return make_engine(options.engine, options.precision)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for an error, 130 and 143 when interrupted."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # Imported here: --help answers at once.
        if options.check is not None:
            from bento_trtllm.bento.store import check  # noqa: PLC0415

            print(check(options.check))
            return 0
        from bento_trtllm.packing.pack import pack, plan  # noqa: PLC0415

        engine = _engine(options)
        names = {"tag": options.tag, "revision": options.revision, "force": options.force}
        if options.dry_run:
            print(json.dumps(plan(options.checkpoint, engine, **names), indent=2, ensure_ascii=False))
            return 0
        tag = pack(options.checkpoint, engine, **names)
    except (BentoTRTLLMError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"packed {tag}\nserve it with: {engine.serve_command(tag)}")
    return 0


def _terminate(signum: int, frame: FrameType | None) -> None:
    # An exception, so that everything is cleaned up on the way out.
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
