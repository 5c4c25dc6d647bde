"""The models under test: the demo packed as users pack it, and for the free engine another `tensorrt_llm` in it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from google.protobuf import text_format

from bento_trtllm.manifest import Manifest
from bento_trtllm.text.prompt import PROMPT_TEMPLATE, SYSTEM_PROMPT
from bento_trtllm.text.tokenizer import PromptTokenizer
from bento_trtllm.triton.process.repository import read_config
from bento_trtllm.triton_models.shared.cores import cores
from tests.support import launcher
from tests.support.launcher import DEMO

FREE = Path(__file__).parent / "models" / "free" / "model.py"
TAG = "bench-llama:bench"
# Long enough for a request of 100,000 tokens; the free engine has no context of its own.
CONTEXT_LENGTH = 131_072
# Threads that send, as in TensorRT-LLM's backend, and no more than Python's lock lets be useful.
THREADS = 4
CORES_PER_INSTANCE = 3
"""One instance, a process, sends 14,000 tokens a second at most: with six on 16 cores it is the service that limits."""

EngineName = Literal["free", "openvino"]


@dataclass(frozen=True)
class Model:
    """A packed model, and what is known of its answers. `tokens` is what the free engine says, over and over."""

    engine: EngineName
    directory: Path
    rate_file: Path
    tokens: tuple[int, ...]

    def set_rate(self, tokens_per_s: float) -> None:
        """How fast each stream that begins from now on gets its tokens; 0 is as fast as can be."""
        self.rate_file.write_text(str(tokens_per_s))


def pack(home: Path, engine: EngineName, tokens_per_message: int = 1) -> Model:
    """Pack the demo model into the store at `home` as TAG."""
    launcher.pack(home, TAG)
    directory = home / "models" / TAG.replace(":", "/")
    rate_file = home / "rate"
    rate_file.write_text("0")
    if engine == "openvino":
        return Model(engine, directory, rate_file, ())
    manifest = Manifest.read(directory)
    tokens = speech(PromptTokenizer(DEMO))
    _replace(directory / "repository" / "tensorrt_llm", tokens, rate_file, tokens_per_message)
    manifest.model_copy(update={"context_length": CONTEXT_LENGTH}).write(directory)
    return Model(engine, directory, rate_file, tuple(tokens))


def instances(cores: int) -> int:
    """How many free engines run beside each other, leaving cores for what is measured."""
    return -(-cores // CORES_PER_INSTANCE)


def speech(tokenizer: PromptTokenizer) -> list[int]:
    """Some thousand tokens of the demo's answers, in many scripts: characters that span tokens are among them."""
    files = (DEMO.parent / "demo-corpus" / f"{name}.jsonl" for name in ("superconductors", "languages", "science"))
    lines = (line for file in files for line in file.read_text("utf-8").splitlines())
    return tokenizer.encode(tokenizer.protect(" ".join(json.loads(line)["answer"] for line in lines)))[:4096]


def question(prompt: str) -> str:
    """A prompt as the ensemble takes it; BOS is left out, since the ensemble adds it."""
    text = PROMPT_TEMPLATE.format(system_prompt=SYSTEM_PROMPT, user_prompt=prompt)
    return text.removeprefix("<|begin_of_text|>")


def _replace(model: Path, tokens: list[int], rate_file: Path, tokens_per_message: int) -> None:
    values = {
        "tokens": " ".join(map(str, tokens)),
        "rate_file": str(rate_file),
        "sending_threads": str(THREADS),
        "tokens_per_message": str(tokens_per_message),
    }
    # The tensors are the packed engine's, whatever they are: the same contract.
    config = read_config(model)
    config.instance_group[0].count = instances(cores())
    for name, value in values.items():
        config.parameters[name].string_value = value
    shutil.rmtree(model)
    (model / "1").mkdir(parents=True)
    shutil.copyfile(FREE, model / "1" / "model.py")
    (model / "config.pbtxt").write_text(text_format.MessageToString(config), "utf-8")
