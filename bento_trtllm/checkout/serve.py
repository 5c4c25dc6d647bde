"""What scripts/serve runs, with .venv's Python: installs what is missing, packs the demo or a checkpoint, and serves.

`python -m bento_trtllm.checkout.serve FOLDER OPTION...`, in the checkout; FOLDER is where scripts/serve was started.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento_trtllm.checkout.environment import compile_all, enter, install
from bento_trtllm.checkout.once import packed
from bento_trtllm.choice import chosen, named
from bento_trtllm.errors import BentoTRTLLMError, SettingsError

USAGE = """\
Usage: scripts/serve [--model TAG | --checkpoint DIR_OR_HF_ID [--precision P]] [--port N] [--workers N] [OPTION...]

Serves on http://localhost:3000 until Ctrl-C. The first time it makes .venv and installs what it needs.

  --model TAG     a packed model of the BentoML model store (default: the demo model, packed on the way), or several:
                  TAG,TAG
  --checkpoint C  a directory or a Hugging Face id, packed for the CPU the first time
  --precision P   of its weights: int8 (default), int4, f16, bf16 or f32
  --port N        default 3000
  --workers N     processes between HTTP and Triton (default: 1 up to 7 cores, then 2)
  OPTION...       goes to `bentoml serve`: --host, --timeout, --arg NAME=VALUE for any setting of bento_trtllm/config.py
                  (--arg model=TAG and $TRTLLM_MODEL do what --model does)

$PYTHON names the Python to use (3.10 to 3.12), $BENTOML_HOME the place of the model store, $HF_TOKEN an account at
Hugging Face for models that ask for one.
"""


@dataclass(frozen=True)
class ServeCommand:
    """A command line of scripts/serve; what is not given is empty."""

    model: str
    checkpoint: str
    precision: str
    options: tuple[str, ...]
    """Of `bentoml serve`."""

    def chooses(self, environment: Mapping[str, str]) -> bool:
        """Whether a setting, in the options or the environment, already says which model is served."""
        return chosen(self.options, environment)

    def serving(self, model: str) -> list[str]:
        """What serves a packed model, or several, as TAG,TAG; "" where a setting says it."""
        setting = "models" if "," in model else "model"
        argument = ["--arg", f"{setting}={model}"] if model else []
        return ["bentoml", "serve", "service:TRTLLM", *argument, *self.options]


def parse(arguments: Sequence[str], folder: Path) -> ServeCommand | None:
    """Read a command line, written in that folder; None asks for help. Raises SettingsError, in one sentence."""
    words, options = list(arguments), list[str]()
    values = dict.fromkeys(("--model", "--checkpoint", "--precision", "--workers"), "")
    while words:
        word = words.pop(0)
        name, given, value = word.partition("=")
        if word in ("-h", "--help"):
            return None
        if name not in values:
            options.append(word)
            continue
        if not given and not words:
            raise SettingsError(f"{name} needs a value")
        values[name] = value if given else words.pop(0)
        if name == "--workers":
            options += ["--arg", f"workers={values[name]}"]
    model, checkpoint, precision, _ = values.values()
    if model and (checkpoint or precision):
        raise SettingsError("--model names a packed model: leave it out, or --checkpoint and --precision")
    if precision and not checkpoint:
        raise SettingsError("--precision goes with --checkpoint")
    if (model or checkpoint) and named(options):
        raise SettingsError("--arg names a model as well: leave it out, or --model and --checkpoint")
    if checkpoint and (folder / checkpoint).is_dir():
        checkpoint = str((folder / checkpoint).resolve())
    return ServeCommand(model, checkpoint, precision, tuple(options))


def main(folder: str, *arguments: str) -> int:
    """Become `bentoml serve`; 2 with a sentence where that cannot be."""
    try:
        command = parse(arguments, Path(folder))
        if command is None:
            print(USAGE, end="")
            return 0
        install("cpu")
        enter(Path(sys.prefix), os.environ)
        os.environ["BENTOML_DO_NOT_TRACK"] = os.environ.get("BENTOML_DO_NOT_TRACK") or "True"
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            compile_all()
        model = command.model
        if command.checkpoint or not (model or command.chooses(os.environ)):
            model = packed(command.checkpoint, command.precision)
        serving = command.serving(model)
    except (BentoTRTLLMError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    os.execvp(serving[0], serving)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
