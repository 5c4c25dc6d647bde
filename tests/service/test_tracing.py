"""Traces: from the caller's `traceparent` to Triton's own spans, at one collector."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.collector import Collected, Collector, collecting
from tests.support.serving import Service, serve

CHAT = {"model": "demo-llama", "messages": [{"role": "user", "content": "Say hello in French"}], "max_tokens": 6}
CALLER = "b7ad6b7169203331"
UNSAMPLED, *TRACES = (f"{n:032x}" for n in range(0x0AF7, 0x0AFE))
ONE, TWO = TRACES[:3], TRACES[3:]
PARTS = ["queue", "prefill", "decode"]
OF_TRITON = ["InferRequest", "tensorrt_llm", "compute"]
TOLD_S = 10


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


def whole(
    service: Service, collector: Collector, traces: list[str], ours: Counter[str], answers: int, **fields: object
) -> tuple[dict[str, int], list[Collected]]:
    """The usage and all spans of a request, which is asked again with another trace where Triton tells nothing of it.

    On a busy machine Triton 2.51 exports nothing of one request in sixty that came with a trace, whatever its schedule:
    the header was sent, the answer is right, and the next one's spans come (11 of 660 with both cores busy).
    """
    of_triton = Counter(dict.fromkeys(OF_TRITON, 1))
    for trace in traces:
        usage = ask(service, trace, "01", **fields)
        collector.of(trace, ours.total())
        with suppress(AssertionError):
            collector.of(trace, ours.total() + answers * len(OF_TRITON), TOLD_S)
        spans = [span for span in collector.spans if span.trace == trace]
        triton = Counter(span.name for span in spans) - ours
        told = triton.total() // len(OF_TRITON)
        assert triton == Counter({name: told * count for name, count in of_triton.items() if told})
        assert Counter(span.name for span in spans) == ours + triton
        if told == answers:
            return usage, spans
    raise AssertionError(f"Triton told nothing of {len(traces)} requests in a row")


def test_a_request_is_one_tree_from_its_caller_to_triton(traced: Service, collector: Collector) -> None:
    ours = Counter(["POST /v1/chat/completions", "chat demo-llama", *PARTS])
    usage, found = whole(traced, collector, ONE, ours, 1, temperature=0.5, seed=7)
    spans = {span.name: span for span in found}
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
    ours = Counter(["POST /v1/chat/completions", *2 * ["chat demo-llama", *PARTS]])
    whole(traced, collector, TWO, ours, 2, n=2)  # later than those of what was asked before
    assert {span.trace for span in collector.spans} <= {*ONE, *TWO}
