"""Where a TensorRT engine comes from, as manifest.json keeps it."""

from pydantic import BaseModel, ConfigDict


class Provenance(BaseModel):
    """What a TensorRT engine was built with and for: it runs on nothing else. Lengths are in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    tensorrt_llm: str
    gpu: str
    compute_capability: str
    tp_size: int
    pp_size: int
    preset: str
    dtype: str
    quantization: str
    kv_cache_dtype: str
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
