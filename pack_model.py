#!/usr/bin/env python3
"""Pack a Hugging Face checkpoint into the BentoML model store, ready for scripts/serve."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from bento_trtllm.engines import ENGINES, make_engine
from bento_trtllm.errors import BentoTRTLLMError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pack_model.py", description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True, help="what Triton runs the model with")
    parser.add_argument("--checkpoint", required=True, metavar="DIR_OR_HF_ID", help="a directory, or a Hugging Face id")
    parser.add_argument("--revision", help="the branch, tag or commit of a Hugging Face id")
    parser.add_argument(
        "--tag", help="name or name:version in the store; without a version, or a tag, a new version is made"
    )
    parser.add_argument(
        "--precision", help="of the engine's weights: f16 (the default) or q8_0, half the size, for openvino"
    )
    parser.add_argument("--force", action="store_true", help="replace a model of the same tag")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan as JSON, and pack nothing"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for an error, 130 and 143 when interrupted."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # Imported here: --help answers at once.
        from bento_trtllm.pack import pack, plan  # noqa: PLC0415

        engine = make_engine(options.engine, options.precision)
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
    print(f"packed {tag}\nserve it with: scripts/serve --model {tag}")
    return 0


def _terminate(signum: int, frame: FrameType | None) -> None:
    # An exception, so that everything is cleaned up on the way out.
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
