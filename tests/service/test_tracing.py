"""Traces: from the caller's `traceparent` to Triton's own spans, at one collector."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.collector import Collected, Collector, collecting
from tests.support.serving import Service, serve

CHAT = {"model": "demo-llama", "messages": [{"role": "user", "content": "Say hello in French"}], "max_tokens": 6}
CALLER = "b7ad6b7169203331"
ONE, TWO, UNSAMPLED = (f"{n:032x}" for n in (0x0AF7, 0x0AF8, 0x0AF9))
PARTS = ["queue", "prefill", "decode"]
OF_TRITON = ["InferRequest", "tensorrt_llm", "compute"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(home: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It traces what its callers do, and nothing else."""
    log = tmp_path_factory.mktemp("traced") / "log.txt"
    options = ("--arg", f"trace_endpoint={collector.url}", "--arg", "trace_sample_rate=0")
    with serve(home, log, *options, OTEL_BSP_SCHEDULE_DELAY="100") as service:
        service.wait_ready()
        yield service


def ask(service: Service, trace: str, sampled: str = "01", **fields: object) -> dict[str, int]:
    headers = {"traceparent": f"00-{trace}-{CALLER}-{sampled}"}
    answer = httpx.post(f"{service.url}/v1/chat/completions", json={**CHAT, **fields}, headers=headers, timeout=60)
    usage: dict[str, int] = answer.raise_for_status().json()["usage"]
    return usage


def test_a_request_is_one_tree_from_its_caller_to_triton(traced: Service, collector: Collector) -> None:
    usage = ask(traced, ONE, temperature=0.5, seed=7)
    spans = {span.name: span for span in collector.of(ONE, 8)}
    assert set(spans) == {"POST /v1/chat/completions", "chat demo-llama", *PARTS, *OF_TRITON}
    http, chat, infer, model = (
        spans[name] for name in ("POST /v1/chat/completions", "chat demo-llama", *OF_TRITON[:2])
    )
    assert http.parent == CALLER and chat.parent == http.id
    assert {spans[name].parent for name in PARTS} == {chat.id} == {infer.parent}
    assert model.parent == infer.id
    assert {spans[name].service for name in OF_TRITON} == {"tritonserver"}
    assert {spans[name].service for name in PARTS} == {chat.service} == {"bento-trtllm"}
    in_turn(chat, *(spans[name] for name in PARTS))
    assert chat.begin <= infer.begin and http.begin <= chat.begin and chat.end <= http.end
    took = chat.attributes.pop("gen_ai.response.time_to_first_chunk")
    assert took == pytest.approx((spans["decode"].begin - chat.begin) / 1e9, abs=1e-5)
    assert chat.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "bento-trtllm",
        "gen_ai.request.model": "demo-llama",
        "gen_ai.response.model": "demo-llama",
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.response.finish_reasons": ["length"],
    }


def in_turn(whole: Collected, *parts: Collected) -> None:
    """One part begins where the last one ends, and together they are the whole."""
    assert [part.begin for part in parts] == [whole.begin, *(part.end for part in parts[:-1])]
    assert parts[-1].end == whole.end


def test_each_answer_has_spans_and_what_nobody_traces_has_none(traced: Service, collector: Collector) -> None:
    ask(traced, UNSAMPLED, sampled="00")
    assert httpx.get(f"{traced.url}/readyz").is_success
    ask(traced, TWO, n=2)
    spans = collector.of(TWO, 15)  # later than those of what was asked before
    two = Counter(dict.fromkeys(("chat demo-llama", *PARTS, *OF_TRITON), 2))
    assert Counter(span.name for span in spans) == two + Counter(["POST /v1/chat/completions"])
    assert {span.trace for span in collector.spans} <= {ONE, TWO}
