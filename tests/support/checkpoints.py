"""Checkpoints made up for tests: Hugging Face's files with random weights, written by numpy alone."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] "
    "+ '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>"]
SMOLLM_SPECIALS += ["<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>"]
SMOLLM_SPECIALS += ["<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>"]
SMOLLM_SPECIALS += ["<jupyter_script>", "<empty_output>"]


def llama3_specials(count: int = 256) -> list[str]:
    """Llama 3's special tokens in order; the rest are reserved ones."""
    named = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>"}
    named[9] = "<|eot_id|>"
    reserved = iter(range(count))
    return [named.get(i) or f"<|reserved_special_token_{next(reserved)}|>" for i in range(count)]


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(other)) for byte in range(256)]


def _merges() -> Iterator[tuple[str, str]]:
    # Every string over this alphabet is its prefix merged with its last letter: no two merges collide.
    letters = "etaoinsrhldcumfpgwybvkxjqzĠ"
    for length in range(1, 5):
        yield from (("".join(prefix), last) for *prefix, last in product(letters, repeat=length + 1))


def write_tokenizer(directory: Path, vocab: int, family: str = "llama3", specials: int = 256) -> None:
    """A byte-level BPE with `vocab` tokens: its tokenizer.json and the two configs beside it.

    `llama3` has its special tokens at the end, `smollm` at the start, as the real ones do.
    """
    names = SMOLLM_SPECIALS if family == "smollm" else llama3_specials(specials)
    merges: list[tuple[str, str]] = []
    words = byte_alphabet()
    for merge in _merges():
        if len(words) + len(names) == vocab:
            break
        merges.append(merge)
        words.append("".join(merge))
    tokens = [*names, *words] if family == "smollm" else [*words, *names]
    ids = {token: i for i, token in enumerate(tokens)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    first: dict[str, Any] = {"type": "Digits", "individual_digits": True}
    if family == "llama3":
        first = {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[name], "content": name, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for name in names
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [first, byte_level | {"use_regex": family == "smollm"}],
        },
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family == "llama3",
            "vocab": ids if family == "smollm" else {token: ids[token] for token in words},
            "merges": [" ".join(merge) for merge in merges] if family == "smollm" else merges,
        },
    }
    smollm = family == "smollm"
    bos, eos = ("<|im_start|>", "<|im_end|>") if smollm else ("<|begin_of_text|>", "<|eot_id|>")
    config = {"bos_token": bos, "eos_token": eos, "tokenizer_class": "PreTrainedTokenizerFast"}
    config["chat_template"] = CHATML_TEMPLATE if smollm else LLAMA3_TEMPLATE
    ends = ids[eos] if smollm else [ids["<|end_of_text|>"], ids[eos]]
    _write_json(directory / "tokenizer.json", tokenizer)
    _write_json(directory / "tokenizer_config.json", config)
    _write_json(directory / "generation_config.json", {"bos_token_id": ids[bos], "eos_token_id": ends})


def write_safetensors(path: Path, tensors: dict[str, tuple[str, NDArray[Any]]], *, hollow: bool = False) -> None:
    """A safetensors file of (dtype, array) by name; a BF16 tensor is given as the uint16 of its bits.

    A `hollow` one has zeros of those shapes, which take no space on the disk.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if hollow:
            file.truncate(file.tell() + offset)
            return
        for _, array in tensors.values():
            file.write(np.ascontiguousarray(array).data)


def encode(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """f32 values as safetensors stores them; BF16 by cutting off the low bits."""
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"F16": np.float16, "F32": np.float32}[dtype])


def write_checkpoint(
    directory: Path,
    *,
    hidden: int = 64,
    inner: int = 160,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int | None = None,
    vocab: int = 512,
    specials: int = 32,
    context: int = 2048,
    rope_theta: float = 500000.0,
    tied: bool = False,
    endless: bool = False,
    hollow: bool = False,
    dtype: str = "BF16",
    family: str = "llama3",
    shards: int = 1,
    seed: int = 0,
    config: dict[str, Any] | None = None,
) -> Path:
    """Write a random Llama into a directory and return it; `config` overrides keys of config.json.

    The weights are large enough for attention and every layer to decide the next token. An `endless` one (not
    tied) never ends its answer: the end tokens are never the likeliest. A `hollow` one, of one shard, is all zeros.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory, vocab, family, specials)
    generation = json.loads((directory / "generation_config.json").read_text())
    dim = head_dim or hidden // heads
    settings: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": rope_theta,
        "rope_scaling": None,
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "hidden_act": "silu",
        "torch_dtype": {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype],
        "bos_token_id": generation["bos_token_id"],
        "eos_token_id": generation["eos_token_id"],
    }
    if head_dim is not None:
        settings["head_dim"] = head_dim
    settings |= config or {}
    _write_json(directory / "config.json", settings)
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for i in range(layers):
        for name, shape in {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (heads * dim, hidden),
            "self_attn.k_proj": (kv_heads * dim, hidden),
            "self_attn.v_proj": (kv_heads * dim, hidden),
            "self_attn.o_proj": (hidden, heads * dim),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    shapes["model.norm.weight"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (vocab, hidden)
    if settings["architectures"] == ["Qwen3ForCausalLM"]:
        shapes |= {f"model.layers.{i}.self_attn.{x}_norm.weight": (dim,) for i in range(layers) for x in "qk"}
    if settings["architectures"] == ["Qwen2ForCausalLM"]:
        biased = [name for name in shapes if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]
        shapes |= {name.replace(".weight", ".bias"): shapes[name][:1] for name in biased}
    for key, part in (("attention_bias", ".self_attn."), ("mlp_bias", ".mlp.")):
        if (config or {}).get(key):
            biased = [name for name in shapes if part in name]
            shapes |= {name.replace(".weight", ".bias"): shapes[name][:1] for name in biased}
    tensors = {}
    for name, shape in shapes.items():
        if hollow:
            tensors[name] = (dtype, np.broadcast_to(encode(np.zeros(1, np.float32), dtype), shape))
            continue
        values = random.standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            values *= np.float32(1.5 / np.sqrt(shape[-1]))
        elif name.endswith(".weight"):
            values = 1 + values / 10
        if endless and name == "lm_head.weight":
            values[generation["eos_token_id"]] = 0
        tensors[name] = (dtype, encode(values, dtype))
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors, hollow=hollow)
        return directory
    places: dict[str, str] = {}
    for i, names in enumerate(np.array_split(list(tensors), shards), 1):
        file = f"model-{i:05d}-of-{shards:05d}.safetensors"
        write_safetensors(directory / file, {name: tensors[name] for name in names.tolist()})
        places |= dict.fromkeys(names.tolist(), file)
    _write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    return directory


def write_smollm2_135m(directory: Path, *, hollow: bool = False) -> Path:
    """SmolLM2-135M-Instruct's shape and tokenizer layout: BF16, tied, 9 heads over 3."""
    return write_checkpoint(
        directory, hidden=576, inner=1536, layers=30, heads=9, kv_heads=3, vocab=49152, context=8192,
        rope_theta=100000.0, tied=True, family="smollm", hollow=hollow,
    )  # fmt: skip


def write_llama3_8b(directory: Path) -> Path:
    """Llama 3 8B scaled down: 32 heads over 8, untied, all 128256 tokens, the special ones at the end."""
    return write_checkpoint(
        directory, hidden=64, inner=224, head_dim=8, heads=32, kv_heads=8, vocab=128256,
        specials=256, context=8192, shards=4,
    )  # fmt: skip


def write_steady(directory: Path) -> Path:
    """A step of some 2 ms alone and 20 ms for 64 sequences, so that 1024 tokens take seconds; never ends by itself."""
    return write_checkpoint(directory, hidden=256, inner=768, layers=6, context=4096, endless=True)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
