"""Some prompts that go through an engine and through the numpy reference, and how far apart their results are.

Packing writes what the reference found, CASES, beside the engine; another machine needs no checkpoint to hold its own
results against it. Of a large model some layers are taken, evenly spaced and both ends among them, with the embedding,
the last norm and the whole head (shortened.py): that bounds time and memory.

    python -m bento_trtllm.engines.openvino.trial ENGINE PRECISIONS

prints the largest difference: PRECISIONS are those of Precisions, as JSON.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import openvino as ov
from pydantic import BaseModel

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.openvino.options import Precision
from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.engines.openvino.shortened import shorten
from bento_trtllm.errors import CheckpointError, EngineError
from bento_trtllm.triton_models.openvino.precisions import Precisions

CASES = "proof.json"
LENGTHS = (2, 17, 150)
"""Lengths of the prompts, in tokens: the longest is read in parts, and fills several blocks of the KV cache."""
STEP_TOKENS = 64
BLOCK_TOKENS = 32
LAYERS_WEIGHTS = 1 << 30
"""The most weights of the layers that are computed, which are two at least: all those of a 1B, and 4 of an 8B's 32."""


class Cases(BaseModel):
    """Prompts, and the reference's log probability of each of their tokens but the first, and of the likeliest after
    the last."""

    layers: list[int]
    tokens: list[list[int]]
    log_probs: list[list[float]]


def write_cases(checkpoint: Checkpoint, precision: Precision, engine: Path) -> None:
    """Write CASES. Raises CheckpointError for weights that make no numbers."""
    config = checkpoint.config
    layers = chosen_layers(config)
    random = np.random.default_rng(0)
    tokens, log_probs = [], []
    for length in LENGTHS:
        prompt = random.integers(0, config.vocab_size, max(1, min(length, config.max_position_embeddings - 1)))
        prompt = prompt.tolist()
        with np.errstate(all="ignore"):
            found = Reference(checkpoint, precision, layers).log_probs(prompt)
        if not np.isfinite(found).all():
            raise CheckpointError(f"{checkpoint.source} gives tokens no probabilities: its weights are damaged")
        tokens.append(prompt)
        log_probs.append([*found[np.arange(len(prompt) - 1), prompt[1:]].tolist(), float(found[-1].max())])
    cases = Cases(layers=layers, tokens=tokens, log_probs=log_probs)
    (engine / CASES).write_text(cases.model_dump_json(), "utf-8")


def chosen_layers(config: DecoderConfig) -> list[int]:
    """Which layers are computed."""
    count = config.num_hidden_layers
    of_a_layer = sum(prod(shape) for name, shape in config.shapes().items() if name.startswith("model.layers.0."))
    return sorted(
        {*np.linspace(0, count - 1, min(count, max(2, LAYERS_WEIGHTS // of_a_layer))).round().astype(int).tolist()}
    )


def measure(engine: Path, precisions: Precisions) -> float:
    """The largest error of an engine's log probabilities, infinite where one is not a number. Raises EngineError."""
    import openvino_genai as genai  # noqa: PLC0415  packing does without it until here

    cases = Cases.model_validate_json((engine / CASES).read_bytes())
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = sum(len(prompt) // BLOCK_TOKENS + 2 for prompt in cases.tokens)
    scheduler.max_num_batched_tokens = STEP_TOKENS
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = False
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.echo, config.logprobs = 1, True, True, 1
    with ExitStack() as stack:
        place = engine
        if len(cases.layers) <= cases.layers[-1]:
            place = Path(stack.enter_context(TemporaryDirectory()))
            shorten(engine, cases.layers, place)
        try:
            pipeline = genai.ContinuousBatchingPipeline(
                str(place), genai.Tokenizer(str(place)), scheduler, "CPU", **precisions.properties()
            )
            handles = [
                pipeline.add_request(i, ov.Tensor(np.array([prompt], np.int64)), config)
                for i, prompt in enumerate(cases.tokens)
            ]
            while pipeline.has_non_finished_requests():
                pipeline.step()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run the engine: {' '.join(str(error).split())[-300:]}") from error
        found = [handle.read_all()[0].generated_log_probs for handle in handles]
    # The first value of each is none: nothing comes before the first token.
    off = [np.abs(np.array(given[1:]) - np.array(wanted)) for given, wanted in zip(found, cases.log_probs, strict=True)]
    largest = float(np.concatenate(off).max())
    return largest if np.isfinite(largest) else float("inf")


def main(arguments: Sequence[str]) -> int:
    engine, precisions = arguments
    try:
        print(measure(Path(engine), Precisions(**json.loads(precisions))))
    except EngineError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
