"""The GGUF files that are written, run by OpenVINO GenAI itself and held against numpy and transformers."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
import pytest
from gguf import GGUFReader, TokenType

from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.engines import make_engine
from bento_trtllm.errors import CheckpointError
from tests.support.checkpoints import byte_alphabet, encode, write_checkpoint, write_llama3_8b, write_safetensors
from tests.support.checkpoints import write_smollm2_135m as write_smollm2
from tests.support.reference import Llama

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent

# Plain f32 arithmetic. By default OpenVINO takes bf16 where the CPU has it, an 8-bit KV cache for q8_0, and
# rounds activations to 8 bits before it multiplies them by 8-bit weights.
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


def build(checkpoint: Path, directory: Path, precision: str = "f16") -> Path:
    """Check the checkpoint, build it, and return the GGUF file."""
    prepared = make_engine("openvino", precision=precision).prepare(find_checkpoint(str(checkpoint)))
    directory.mkdir()
    prepared.write(directory, directory)
    planned = prepared.plan()["files"]
    assert [file.name for file in directory.iterdir()] == list(planned) == ["model.gguf"]
    # The plan counts the tensors; the vocabulary and the header come on top.
    assert 0 <= (directory / "model.gguf").stat().st_size - planned["model.gguf"] < 6_000_000
    return directory / "model.gguf"


def generate(file: Path, prompts: list[list[int]], count: int) -> list[list[int]]:
    """The `count` tokens that OpenVINO GenAI decodes greedily after each prompt, all in one batch."""
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = 200
    scheduler.dynamic_split_fuse = True
    scheduler.max_num_batched_tokens = 512
    pipeline = genai.ContinuousBatchingPipeline(str(file), scheduler, "CPU", EXACT)
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = count, True, False
    tensors = [ov.Tensor(np.array([ids], dtype=np.int64)) for ids in prompts]
    handles = [pipeline.add_request(i, tensor, config) for i, tensor in enumerate(tensors)]
    answers: list[list[int]] = [[] for _ in prompts]
    while pipeline.has_non_finished_requests():
        pipeline.step()
        for handle, answer in zip(handles, answers, strict=True):
            if handle.can_read():
                (output,) = handle.read().values()
                answer.extend(output.generated_ids)
    return answers


def check_against_numpy(checkpoint: Path, file: Path, precision: str, lengths: tuple[int, ...]) -> None:
    """Every token must be numpy's first choice, but where numpy's choice is a close call."""
    model = Llama.load(checkpoint, precision)
    random = np.random.default_rng(1)
    prompts = [random.integers(0, model.config["vocab_size"], length).tolist() for length in lengths]
    for prompt, answer in zip(prompts, generate(file, prompts, 30), strict=True):
        assert len(answer) == 30
        logits = model.logits(prompt + answer[:-1], start=len(prompt) - 1)
        behind = logits.max(-1) - logits[np.arange(len(answer)), answer]
        # The weights are random and the scores spread by 1.5: an error anywhere puts most tokens behind.
        assert behind.max() < 0.01, behind
        assert np.count_nonzero(behind) <= 2, behind


CASES: dict[str, dict[str, Any]] = {
    "grouped heads, untied": {},
    "tied": {"tied": True},
    "one head each": {"kv_heads": 4},
    "another head_dim": {"head_dim": 32},
    "f32": {"dtype": "F32"},
    "f16, sharded": {"dtype": "F16", "shards": 3},
    "another rope": {"rope_theta": 10000.0, "seed": 3},
    "smollm": {"family": "smollm", "tied": True},
}


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
@pytest.mark.parametrize("case", CASES)
def test_tokens_are_those_of_numpy(case: str, precision: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny", **CASES[case])
    file = build(checkpoint, tmp_path / "engine", precision)
    check_against_numpy(checkpoint, file, precision, (1, 7, 600))


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smollm2(tmp_path_factory.mktemp("checkpoints") / "smollm2")


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_smollm2_in_full_size(precision: str, smollm2: Path, tmp_path: Path) -> None:
    file = build(smollm2, tmp_path / "engine", precision)
    check_against_numpy(smollm2, file, precision, (5, 300))


def test_llama3_8b_scaled_down(tmp_path: Path) -> None:
    checkpoint = write_llama3_8b(tmp_path / "llama3")
    file = build(checkpoint, tmp_path / "engine")
    check_against_numpy(checkpoint, file, "f16", (5, 300))
    types = GGUFReader(file).fields["tokenizer.ggml.token_type"].contents()
    assert types[127999:128002] == [TokenType.NORMAL, TokenType.CONTROL, TokenType.CONTROL]


def test_demo_answers_as_transformers_does(tmp_path: Path) -> None:
    demo, fixture = ROOT / "assets" / "demo-llama", json.loads((ROOT / "tests/data/greedy.json").read_text())
    weights = hashlib.sha256((demo / "model.safetensors").read_bytes()).hexdigest()
    assert weights == fixture["weights_sha256"], "the demo has changed: run scripts/make_greedy_fixture.py"
    cases = fixture["cases"]
    assert max(len(case["input_ids"]) for case in cases) >= 600
    answers = generate(build(demo, tmp_path / "engine"), [case["input_ids"] for case in cases], 64)
    assert answers == [case["output_ids"] for case in cases]


@pytest.mark.parametrize("family", ["llama3", "smollm"])
def test_vocabulary(family: str, tmp_path: Path) -> None:
    # 40 rows more than tokens, as in checkpoints whose embedding is rounded up.
    checkpoint = write_checkpoint(tmp_path / "tiny", family=family, vocab=512)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    padded = write_checkpoint(tmp_path / "padded", family=family, vocab=552)
    (padded / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    fields = GGUFReader(build(padded, tmp_path / "engine")).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    assert len(tokens) == len(types) == 552
    expected = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    assert {token: i for i, token in enumerate(tokens[:512])} == expected
    assert set(tokens[:512]) >= set(byte_alphabet())
    special = {token["id"] for token in tokenizer["added_tokens"]}
    assert {i for i, kind in enumerate(types) if kind == TokenType.CONTROL} == special
    assert types[512:] == [TokenType.UNUSED] * 40
    assert tokens[512] == "[PAD512]"
    assert fields["tokenizer.ggml.merges"].contents()[0] == "e e"
    assert fields["tokenizer.ggml.pre"].contents() == ("llama-bpe" if family == "llama3" else "smollm")


def test_structured_output_knows_the_text_of_every_token(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny")
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = 20
    file = build(checkpoint, tmp_path / "engine")
    pipeline = genai.ContinuousBatchingPipeline(str(file), scheduler, "CPU", EXACT)
    config = genai.GenerationConfig()
    config.max_new_tokens, config.do_sample = 60, False
    config.structured_output_config = genai.StructuredOutputConfig(regex=r"\[[a-c]{3}, é\]")
    config.stop_token_ids = {489}
    handle = pipeline.add_request(0, ov.Tensor(np.array([[480, 5, 6]])), config)
    answer: list[int] = []
    while pipeline.has_non_finished_requests():
        pipeline.step()
        if handle.can_read():
            answer += next(iter(handle.read().values())).generated_ids
    tokens = GGUFReader(file).fields["tokenizer.ggml.tokens"].contents()
    values = {text: byte for byte, text in enumerate(byte_alphabet())}
    text = bytes(values[char] for i in answer if i != 489 for char in tokens[i]).decode()
    assert text[0] == "[" and set(text[1:4]) <= set("abc") and text[4:] == ", é]"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (70000.0, "holds 69632, beyond f16's 65504: pack with --precision q8_0"),
        (-1e30, "beyond f16's 65504"),
        (float("inf"), "infinite or not a number"),
        (float("nan"), "infinite or not a number"),
    ],
)
def test_values_that_do_not_fit(value: float, message: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny", dtype="BF16")
    tensors = find_checkpoint(str(path)).tensors
    arrays = {name: ("BF16", np.array(tensor.open())) for name, tensor in tensors.items()}
    arrays["model.layers.1.mlp.up_proj.weight"][1][7, 9] = encode(np.array([value], np.float32), "BF16")[0]
    write_safetensors(path / "model.safetensors", arrays)
    with pytest.raises(CheckpointError, match=f"model.layers.1.mlp.up_proj.weight .*{message}"):
        build(path, tmp_path / "f16")
    if abs(value) == 70000.0:
        build(path, tmp_path / "q8_0", "q8_0")


MEASURE = """
import resource, sys
from pathlib import Path
from bento_trtllm.engines import make_engine
from bento_trtllm.checkpoint.huggingface import find_checkpoint
checkpoint = find_checkpoint(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make_engine("openvino").prepare(checkpoint).write(Path(sys.argv[2]), Path(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_checkpoint(smollm2: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, str(smollm2), str(tmp_path)]
    megabytes = int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    # The largest tensor, mapped, is 57 MB of the file's 269; the rest are slices and the vocabulary.
    assert megabytes < 200
