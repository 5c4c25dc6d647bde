"""The gauges of the KV cache, of what each engine tells Triton."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bento_trtllm.metrics.adapters import adapters
from bento_trtllm.metrics.inference_pool import kv_cache


def told(**blocks: float) -> str:
    """As Triton writes it."""
    name = "nv_trt_llm_kv_cache_block_metrics"
    return "".join(
        f'{name}{{kv_cache_block_type="{kind}",model="tensorrt_llm",version="1"}} {n:f}\n' for kind, n in blocks.items()
    )


@pytest.mark.parametrize(
    ("blocks", "values"),
    [
        ({"max": 64, "free": 48, "used": 16, "tokens_per": 32, "fraction": 0.25}, (0.25, 64, 32)),  # NVIDIA's backend
        ({"max": 64, "tokens_per": 32}, (0, 64, 32)),  # ours, before its first request
        ({"max": 64, "used": 48, "tokens_per": 32}, (0.75, 64, 32)),
    ],
)
def test_all_engines_have_the_three(blocks: dict[str, float], values: tuple[float, float, float]) -> None:
    lines = [line for line in kv_cache(told(**blocks)).splitlines() if not line.startswith("#")]
    names = ("utilization", "max_blocks", "tokens_per_block")
    assert lines == [f"trtllm_kv_cache_{name} {value:g}" for name, value in zip(names, values, strict=True)]


def test_an_engine_that_does_not_know_yet_says_nothing_wrong() -> None:
    assert kv_cache("") == ""
    assert kv_cache(told(max=0, tokens_per=0)) == ""


def test_adapters_are_told_as_vllm_tells_them() -> None:
    """Of the extension's proposal 003: a gauge with the time, and lists in three labels."""
    for ready, running, waiting in ((True, "loud,quiet", ""), (False, "", "loud,quiet")):
        (family,) = text_string_to_metric_families(adapters(("quiet", "loud"), ready=ready, now=1764201600.5))
        ((name, labels, value, *_),) = family.samples
        assert (family.type, name, value) == ("gauge", "trtllm_lora_requests_info", 1764201600.5)
        assert labels == {"max_lora": "2", "running_lora_adapters": running, "waiting_lora_adapters": waiting}
    assert adapters((), ready=True, now=0) == ""
