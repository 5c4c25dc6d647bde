"""What a router reads of each replica to pick one: the Gateway API Inference Extension's model server protocol.

The names are trtllm-serve's, which the extension knows (docs/proposals/003-model-server-protocol of
kubernetes-sigs/gateway-api-inference-extension). Requests that run and wait are in prometheus.py, the KV cache is here:
every engine tells Triton of it, in its own way.
"""

import re
from collections.abc import Mapping

PATH = "/prometheus/metrics"
"""Where trtllm-serve has them; here it is another name of /metrics."""
BLOCKS = re.compile(r'^nv_trt_llm_kv_cache_block_metrics\{[^}]*kv_cache_block_type="(\w+)"[^}]*\} (\S+)$', re.MULTILINE)
GAUGES = {
    "trtllm_kv_cache_utilization": "The share of the KV cache that is in use, from 0 to 1.",
    "trtllm_kv_cache_max_blocks": "Blocks of the KV cache.",
    "trtllm_kv_cache_tokens_per_block": "Tokens that a block of the KV cache holds.",
}


def kv_cache(triton: str) -> str:
    """The gauges, of Triton's own metrics; what the engine does not tell is left out."""
    blocks = {kind: float(number) for kind, number in BLOCKS.findall(triton)}
    return "\n".join(
        f"# HELP {name} {GAUGES[name]}\n# TYPE {name} gauge\n{name} {value:g}"
        for name, value in _values(blocks).items()
    )


def _values(blocks: Mapping[str, float]) -> dict[str, float]:
    values = {}
    if "fraction" in blocks:
        values["trtllm_kv_cache_utilization"] = blocks["fraction"]
    elif blocks.get("max"):
        values["trtllm_kv_cache_utilization"] = blocks.get("used", 0) / blocks["max"]
    if blocks.get("max"):
        values["trtllm_kv_cache_max_blocks"] = blocks["max"]
    if blocks.get("tokens_per"):
        values["trtllm_kv_cache_tokens_per_block"] = blocks["tokens_per"]
    return values
