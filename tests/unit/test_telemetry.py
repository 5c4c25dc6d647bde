"""Counting, without a service. Each case in a process of its own: prometheus_client reads its folder once."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bento_trtllm.metrics.exposition import merge
from bento_trtllm.metrics.stream_count import BETWEEN_S, StreamCount

WORKER = """
import asyncio, sys
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.metrics.prometheus import Telemetry

async def main():
    admission = Admission(OwnSlots(4), 4)
    telemetry = Telemetry()
    observer = telemetry.of("demo-llama", admission)
    for tokens in (1, 5):
        count = observer.began(GenerationRequest([1] * 10, 5, Sampling()))
        async with admission.slot(1):
            count.admitted()
            for _ in range(tokens):
                count.arrived(2)
        count.ended("stop")
    if "die" in sys.argv:
        slot = admission.slot(1)
        await slot.__aenter__()
        import os
        os._exit(1)

asyncio.run(main())
"""
ENDS = """
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.metrics.prometheus import Telemetry
from bento_trtllm.metrics.routes import ROUTE

observer = Telemetry().of("demo-llama", Admission(OwnSlots(4), 4))
for route, outcome, tokens in (
    ("/v1/completions", "length", 3),
    ("/v1/messages", "engine_unavailable", 2),
    ("/v1/messages", "cancelled", 4),
    ("/v1/messages", "timeout", 0),
):
    ROUTE.set(route)
    count = observer.began(GenerationRequest([1] * 10, 5, Sampling()))
    for _ in range(tokens):
        count.arrived(1)
    count.ended(outcome)
"""
SHOW = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def run(folder: Path, code: str, *arguments: str) -> str:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    argv = [sys.executable, "-c", code, *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60).stdout


def samples(text: str) -> dict[str, float]:
    """The sum of each, over all labels; buckets left out."""
    sums: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += sample.value if "le" not in sample.labels else 0
    return sums


def test_workers_add_up(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, WORKER)
    found = samples(run(tmp_path, SHOW))
    assert found["trtllm_prompt_tokens_total"] == 2 * 2 * 10
    assert found["trtllm_generation_tokens_total"] == 2 * 12
    assert found["gen_ai_server_time_per_output_token_seconds_count"] == 2 * (1 + 9)
    assert found["gen_ai_server_request_duration_seconds_count"] == 2 * 2
    assert found["trtllm_num_requests_running"] == 0


def test_times_say_what_was_asked_and_how_it_failed(tmp_path: Path) -> None:
    """In the labels of OpenTelemetry's conventions; those of tokens count whatever came, however the stream ended."""
    run(tmp_path, ENDS)
    counted: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(run(tmp_path, SHOW)):
        for sample in family.samples:
            if sample.name.startswith("gen_ai_") and sample.name.endswith("_count"):
                labels = tuple(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                counted[family.name][labels] = sample.value
    chat, completion = (
        (
            f"gen_ai_operation_name={operation}",
            "gen_ai_provider_name=bento-trtllm",
            "gen_ai_request_model=demo-llama",
        )
        for operation in ("chat", "text_completion")
    )
    assert counted == {
        "gen_ai_server_request_duration_seconds": {
            ("error_type=", *completion): 1,
            ("error_type=engine_unavailable", *chat): 1,
            ("error_type=cancelled", *chat): 1,
            ("error_type=timeout", *chat): 1,
        },
        "gen_ai_server_time_to_first_token_seconds": {completion: 1, chat: 2},
        "gen_ai_server_time_per_output_token_seconds": {completion: 2, chat: 1 + 3},
    }


def test_the_next_worker_forgets_what_a_killed_one_had_in_flight(tmp_path: Path) -> None:
    run(tmp_path, WORKER, "die")
    assert samples(run(tmp_path, SHOW))["trtllm_num_requests_running"] == 1
    run(tmp_path, WORKER)
    assert samples(run(tmp_path, SHOW))["trtllm_num_requests_running"] == 0


def test_tokens_that_come_together_share_the_wait() -> None:
    count = StreamCount(1, lambda count: None)
    count.arrived(1)
    count.last_at -= 0.24
    count.arrived(4)
    ((bucket, tokens),) = [(i, n) for i, n in enumerate(count.counts) if n]
    assert tokens == 4
    assert BETWEEN_S[bucket - 1] < 0.24 / 4 < BETWEEN_S[bucket]


def test_merge_keeps_a_family_once() -> None:
    ours = "# HELP a A.\n# TYPE a counter\na_total 1\n"
    theirs = "# HELP a Theirs.\n# TYPE a counter\na_total 2\n# HELP b B.\n# TYPE b gauge\nb 3\n"
    assert merge(ours, "", theirs) == ours + "# HELP b B.\n# TYPE b gauge\nb 3\n"
