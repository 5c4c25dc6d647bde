#!/usr/bin/env python3
"""Pack a Hugging Face checkpoint into the BentoML model store, ready for scripts/serve; or check a pack."""

import json
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from bento_trtllm.engines import make_engine
from bento_trtllm.errors import BentoTRTLLMError
from bento_trtllm.packing.command_line import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for an error, 130 and 143 when interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        print(_run(sys.argv[1:] if arguments is None else arguments))
    except (BentoTRTLLMError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _run(arguments: Sequence[str]) -> str:
    """Do what the arguments say, and return what to print."""
    command = parse(arguments)
    # Imported late so that --help answers at once.
    if command.packing is None:
        from bento_trtllm.bento.store import check  # noqa: PLC0415

        return check(command.check)
    from bento_trtllm.packing.pack import pack, plan  # noqa: PLC0415

    asked = command.packing
    engine = make_engine(command.engine, **command.options)
    if asked.dry_run:
        return json.dumps(plan(asked, engine), indent=2, ensure_ascii=False)
    tag = pack(asked, engine)
    return f"packed {tag}\nserve it with: {engine.serve_command(tag)}"


def _terminate(signum: int, frame: FrameType | None) -> None:
    # An exception, so that everything is cleaned up on exit.
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
