"""Writing a checkpoint as a GGUF file, a few rows at a time.

Names and keys are llama.cpp's (convert_hf_to_gguf.py); what OpenVINO GenAI reads of them is in
its src/cpp/src/gguf_utils/gguf.cpp. Memory stays bounded whatever the size of the checkpoint: the tensors
are memory-mapped, and converted in slices of some megabytes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import quant_shape_to_byte_shape, quantize
from numpy.typing import NDArray
from tqdm import tqdm

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import Tensor
from bento_trtllm.engines.openvino.vocabulary import Vocabulary
from bento_trtllm.errors import CheckpointError

FILE_TYPES = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
MATRIX_TYPES = {"f16": GGMLQuantizationType.F16, "q8_0": GGMLQuantizationType.Q8_0}

# The largest magnitudes: q8_0 stores a block's, divided by 127, as f16.
LIMITS = {
    GGMLQuantizationType.F32: float(np.finfo(np.float32).max),
    GGMLQuantizationType.F16: 65504.0,
    GGMLQuantizationType.Q8_0: 127 * 65504.0,
}


@dataclass(frozen=True)
class Family:
    """What llama.cpp calls an architecture and, by Hugging Face's names, the tensors of its layers."""

    name: str
    layers: Mapping[str, str]
    reordered: frozenset[str] = frozenset()
    """Tensors of a layer whose rows come in pairs (rotary_order)."""


FAMILIES = {
    # LlamaModel in convert_hf_to_gguf.py.
    "LlamaForCausalLM": Family(
        "llama",
        {
            "input_layernorm": "attn_norm",
            "self_attn.q_proj": "attn_q",
            "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v",
            "self_attn.o_proj": "attn_output",
            "post_attention_layernorm": "ffn_norm",
            "mlp.gate_proj": "ffn_gate",
            "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down",
        },
        frozenset({"self_attn.q_proj", "self_attn.k_proj"}),
    )
}
"""By Hugging Face's name of the architecture."""
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}

SLICE_ELEMENTS = 1 << 22


def gguf_name(name: str, family: Family) -> str:
    """llama.cpp's name of one of Hugging Face's tensors: blk.3.attn_q.weight."""
    if name in NAMES:
        return NAMES[name]
    layer, inner = _within_layer(name)
    return f"blk.{layer}.{family.layers[inner]}.weight"


def _within_layer(name: str) -> list[str]:
    """A layer's number and what its tensor is called in there."""
    return name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)


@dataclass(frozen=True)
class Converted:
    """A tensor on its way into the file; GGUFWriter takes it for an array, of which it uses these two names.

    `kind` is what it becomes; `head_dim` is 0 but for q and k, whose rows are reordered.
    """

    name: str
    tensor: Tensor
    kind: GGMLQuantizationType
    head_dim: int
    written: Callable[[int], Any] = lambda count: None

    @property
    def nbytes(self) -> int:
        """Bytes in the file, before padding."""
        if self.kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            return prod(self.tensor.shape) * (4 if self.kind == GGMLQuantizationType.F32 else 2)
        return prod(quant_shape_to_byte_shape(self.tensor.shape, self.kind))

    def tofile(self, file: BinaryIO) -> None:
        """Convert and write; raises CheckpointError for a value that does not fit."""
        for part in self._slices():
            largest = float(np.abs(part).max(initial=0))
            # Not the other way round: NaN compares as false.
            if not largest <= LIMITS[self.kind]:
                raise CheckpointError(self._does_not_fit(largest))
            converted = quantize(part, self.kind)
            # ndarray.tofile would report a full disk without its errno.
            file.write(np.ascontiguousarray(converted).data)
            self.written(converted.nbytes)

    def _slices(self) -> Iterator[NDArray[np.float32]]:
        source = self.tensor.open()
        rows = source.shape[0]
        step = max(1, SLICE_ELEMENTS * rows // max(1, source.size))
        order = rotary_order(rows, self.head_dim) if self.head_dim else None
        for start in range(0, rows, step):
            part = source[start : start + step] if order is None else source[order[start : start + step]]
            yield widen(part)

    def _does_not_fit(self, largest: float) -> str:
        where = f"{self.tensor.shard}: {self.name}"
        if isfinite(largest):
            way_out = ": pack with --precision q8_0" if self.kind == GGMLQuantizationType.F16 else ""
            limit = f"{self.kind.name.lower()}'s {LIMITS[self.kind]:g}"
            return f"{where} holds {largest:g}, beyond {limit}{way_out}"
        return f"{where} holds a value that is infinite or not a number: the checkpoint is damaged"


def rotary_order(rows: int, head_dim: int) -> NDArray[np.intp]:
    """Where each row of GGUF's q and k comes from: pairs (i, i + head_dim/2) of a head side by side."""
    pairs = np.arange(rows).reshape(-1, 2, head_dim // 2)
    return pairs.swapaxes(1, 2).reshape(rows)


def widen(part: NDArray[Any]) -> NDArray[np.float32]:
    """f16 or f32 values, or bf16's bits as uint16, as f32: exact."""
    if part.dtype == np.uint16:
        return (part.astype(np.uint32) << 16).view(np.float32)
    return part.astype(np.float32, copy=False)


def convert(checkpoint: Checkpoint, precision: str) -> list[Converted]:
    """What becomes of each tensor: vectors F32, matrices of the precision."""
    reordered = FAMILIES[checkpoint.config.architecture].reordered
    return [
        Converted(
            name,
            tensor,
            MATRIX_TYPES[precision] if len(tensor.shape) > 1 else GGMLQuantizationType.F32,
            checkpoint.config.head_dim if _within_layer(name)[-1] in reordered else 0,
        )
        for name, tensor in checkpoint.tensors.items()
    ]


def write_gguf(checkpoint: Checkpoint, vocabulary: Vocabulary, precision: str, path: Path) -> None:
    """Write the file. Raises CheckpointError for a weight that the precision cannot hold, or OSError.

    `precision` is a key of MATRIX_TYPES.
    """
    family = FAMILIES[checkpoint.config.architecture]
    writer = GGUFWriter(path, family.name)
    tensors = convert(checkpoint, precision)
    try:
        _add_config(writer, checkpoint.config, precision)
        _add_tokenizer(writer, checkpoint, vocabulary)
        for tensor in tensors:
            # The dtype is not looked at where raw_dtype is given, as long as it is not uint8.
            shape, dtype = tensor.tensor.shape, np.dtype(np.float32)
            writer.add_tensor_info(gguf_name(tensor.name, family), shape, dtype, tensor.nbytes, tensor.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total = sum(tensor.nbytes for tensor in tensors)
        with tqdm(total=total, desc=path.name, unit="B", unit_scale=True, disable=None) as bar:
            for tensor in tensors:
                streamed = Converted(tensor.name, tensor.tensor, tensor.kind, tensor.head_dim, bar.update)
                writer.write_tensor_data(cast("NDArray[Any]", streamed))
    finally:
        writer.close()


def _add_config(writer: GGUFWriter, config: DecoderConfig, precision: str) -> None:
    writer.add_file_type(FILE_TYPES[precision])
    writer.add_quantization_version(2)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tokenizer(writer: GGUFWriter, checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    if checkpoint.bos_id is not None:
        writer.add_bos_token_id(checkpoint.bos_id)
    if checkpoint.eos_ids:
        writer.add_eos_token_id(checkpoint.eos_ids[0])
