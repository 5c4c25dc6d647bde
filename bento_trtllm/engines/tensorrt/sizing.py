"""How much of a GPU an engine takes, and how many tokens of KV cache are left: an estimate, made before the build.

For the rank that takes most, in bytes:

    weights   its share of the matrices in the engine's precision; embeddings and lm_head stay at two bytes
    reserve   1 GiB for CUDA, NCCL and libraries
              + max_num_tokens x (4 hidden + (q + 2 kv + 3 inner) / tp) x 2     activations of one layer
              + max_batch_size x vocabulary x 4 x 2                             logits, and the sampler's copy
    KV cache  free fraction x (memory - weights - reserve), at
              2 x layers x kv heads x head size x bytes a value                 for each token

TensorRT-LLM divides GPU memory the same way (docs/source/reference/memory.md): weights, activations fixed at build
time from max_num_tokens, and a fraction of what is then free for the KV cache. The sizes of weights and KV cache
follow from the model's shape; the reserve is our estimate and was compared with no GPU.
"""

from dataclasses import dataclass
from math import ceil

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.engines.tensorrt.gpus import GIB, GPU
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings

RUNTIME_BYTES = GIB
AWQ_GROUP = 128
"""Weights that share a scale of two bytes; QuantConfig's default group_size."""
NVFP4_GROUP = 16
"""Weights that share a scale of one byte; FP4Linear's scaling_vector_size (quantization/layers.py)."""
WEIGHT_BYTES = {"none": 2.0, "fp8": 1.0, "int4_awq": 0.5 + 2 / AWQ_GROUP, "nvfp4": 0.5 + 1 / NVFP4_GROUP}


@dataclass(frozen=True)
class Size:
    """Bytes, and tokens where it says so. Memory figures are for the rank that needs most."""

    weights: int
    reserve: int
    kv_bytes_per_token: int
    engine: int
    """Weights of all ranks: about what the engine's files take on the disk."""

    def kv_tokens(self, gpu: GPU, fraction: float) -> int:
        """Tokens of KV cache on that GPU; `fraction` of the free memory is for it. 0 where nothing is free."""
        free = gpu.memory - self.weights - self.reserve
        return max(0, int(free * fraction) // self.kv_bytes_per_token)


def estimate(config: DecoderConfig, settings: TensorRTSettings) -> Size:
    """The size of an engine of this shape with these settings. Both are taken as checked."""
    tp, pp = settings.tp_size, settings.pp_size
    hidden, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
    layers = config.num_hidden_layers // pp
    # With more ranks than KV heads, each rank holds a whole one.
    kv_heads = ceil(config.num_key_value_heads / tp)
    queries, keys = config.num_attention_heads * dim, kv_heads * dim

    matrices = layers * (2 * hidden * (queries // tp) + 2 * hidden * keys + 3 * hidden * (inner // tp))
    norms = 2 * hidden * (2 * layers + 1)
    table = 2 * config.vocab_size * hidden
    head = 2 * ceil(config.vocab_size / tp) * hidden
    layer_bytes = int(matrices * WEIGHT_BYTES[settings.quantization]) + norms
    # The first rank of a pipeline has the embeddings, the last one lm_head, a tied one too.
    weights = layer_bytes + (table + head if pp == 1 else max(table, head))
    engine = tp * (pp * layer_bytes + table + head)

    activations = settings.max_num_tokens * (4 * hidden + queries // tp + 2 * keys + 3 * inner // tp) * 2
    logits = settings.max_batch_size * config.vocab_size * 4 * 2
    kv_bytes = 1 if settings.kv_cache_dtype == "fp8" else 2
    return Size(
        weights=weights,
        reserve=RUNTIME_BYTES + activations + logits,
        kv_bytes_per_token=2 * layers * keys * kv_bytes,
        engine=engine,
    )
