"""/metrics: one valid exposition, right over several workers."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asking import read_events, stream_events
from tests.support.demo import PROMPT
from tests.support.serving import ROOT, SSE, Service, serve

COUNT = 24
NAME = re.compile(r"((?:trtllm|gen_ai|nv)_\w+)\{")


@pytest.fixture(scope="module")
def two_workers(home: Path, slow_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with room for two streams, one a worker, and two more in line."""
    log = tmp_path_factory.mktemp("two-workers") / "log.txt"
    settings = {"model": slow_model, "workers": 2, "max_running_requests": 2, "max_waiting_requests": 2}
    options = [part for name, value in settings.items() for part in ("--arg", f"{name}={value}")]
    with serve(home, log, *options) as service:
        service.wait_ready()
        yield service


def scrape(service: Service) -> dict[str, Metric]:
    """The families by name. Fails on text that Prometheus would not take."""
    text = httpx.get(f"{service.url}/metrics", timeout=60).text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(names) == len(set(names)), "a family twice"
    families = list(text_string_to_metric_families(text))
    samples = [(s.name, *sorted(s.labels.items())) for family in families for s in family.samples]
    assert len(samples) == len(set(samples)), "a sample twice"
    return {family.name: family for family in families}


def value(families: dict[str, Metric], family: str, suffix: str = "", **labels: str) -> float:
    """The sum of a family's samples with these labels; 0 where there are none."""
    if family not in families:
        return 0.0
    samples = (s for s in families[family].samples if s.name == family + suffix)
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def test_counts_are_what_was_sent_whichever_worker_served(home: Path, tmp_path: Path) -> None:
    with serve(home, tmp_path / "log.txt", "--arg", "workers=2") as service:
        service.wait_ready()
        usages = []
        for _ in range(COUNT):  # each on a connection of its own, which the kernel gives to either worker
            text, finish = read_events(stream_events(service, {"prompt": PROMPT, "max_tokens": 20}))
            assert text
            usages.append(finish["usage"])
        families = scrape(service)
        shares = len(list((home / "prometheus_multiproc_dir").glob("counter_*.db")))
    assert shares >= 2, "only one worker has metrics"
    made = sum(usage["completion_tokens"] for usage in usages)
    assert value(families, "trtllm_requests", "_total", route="/generate", outcome="length") == COUNT
    assert value(families, "trtllm_requests", "_total") == COUNT
    assert value(families, "trtllm_prompt_tokens", "_total") == sum(usage["prompt_tokens"] for usage in usages)
    assert value(families, "trtllm_generation_tokens", "_total") == made
    assert value(families, "gen_ai_server_time_to_first_token_seconds", "_count") == COUNT
    assert value(families, "gen_ai_server_request_duration_seconds", "_count") == COUNT
    assert value(families, "gen_ai_server_time_per_output_token_seconds", "_count") == made - COUNT
    assert value(families, "trtllm_request_queue_time_seconds", "_count") == COUNT
    assert value(families, "trtllm_num_requests_running") == 0
    assert value(families, "trtllm_num_requests_waiting") == 0
    assert_dashboard(families)
    # BentoML's own stay, and agree.
    assert value(families, "bentoml_service_request", "_total", endpoint="/generate") == COUNT


async def test_engine_and_triton_are_in_it_once(service: Service) -> None:
    await asyncio.to_thread(stream_events, service, {"prompt": PROMPT, "max_tokens": 5})
    # Triton counts a request when it lets it go, a moment after its last response.
    families = await until(service, lambda now: value(now, "nv_inference_request_success", "_total") > 0)
    assert value(families, "trtllm_engine_restarts", "_total") == 0
    assert value(families, "trtllm_engine_state", state="ready") == 1
    assert value(families, "trtllm_engine_state") == 1
    assert value(families, "trtllm_engine_metrics_up") == 1
    assert value(families, "nv_inference_request_success", "_total", model="tensorrt_llm") > 0
    assert value(families, "nv_trt_llm_kv_cache_block_metrics", kv_cache_block_type="max") > 0


async def test_running_waiting_refused_and_cancelled(two_workers: Service) -> None:
    """More streams than there is room for; then their clients leave."""
    before = scrape(two_workers)
    body = {"prompt": PROMPT, "max_tokens": 1024}

    async def ask() -> int:
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream("POST", f"{two_workers.url}/generate", json=body, headers=SSE) as response,
        ):
            if response.status_code == 200:
                await asyncio.sleep(60)
            return response.status_code

    tasks = [asyncio.create_task(ask()) for _ in range(10)]
    try:
        # Which worker gets a connection is the kernel's choice: 2 to 4 are taken, 1 or 2 of them run.
        families = await until(two_workers, lambda now: value(now, "trtllm_requests", "_total") == refused(tasks) >= 6)
        taken = 10 - refused(tasks)
        running, waiting = (value(families, f"trtllm_num_requests_{state}") for state in ("running", "waiting"))
        assert 1 <= running <= 2
        assert running + waiting == taken
        assert value(families, "trtllm_requests", "_total", outcome="overloaded") == 10 - taken
    finally:
        for task in tasks:
            task.cancel()
    families = await until(two_workers, idle)
    assert value(families, "trtllm_num_requests_waiting") == 0
    cancelled = value(families, "trtllm_requests", "_total", outcome="cancelled")
    assert cancelled - value(before, "trtllm_requests", "_total", outcome="cancelled") == taken


def refused(tasks: list[asyncio.Task[int]]) -> int:
    return sum(task.done() and task.result() == 429 for task in tasks)


def idle(families: dict[str, Metric]) -> bool:
    return value(families, "trtllm_num_requests_running") == 0


async def until(service: Service, wanted: Callable[[dict[str, Metric]], bool]) -> dict[str, Metric]:
    """Scrape until the metrics are as wanted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if wanted(families := await asyncio.to_thread(scrape, service)):
            return families
        await asyncio.sleep(0.1)
    raise AssertionError("the metrics did not become as wanted")


def test_a_killed_worker_leaves_nothing_in_flight(two_workers: Service) -> None:
    body = {"prompt": PROMPT, "max_tokens": 1024}
    with httpx.stream("POST", f"{two_workers.url}/generate", json=body, headers=SSE, timeout=60) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data:")
        assert value(scrape(two_workers), "trtllm_num_requests_running") == 1
        for process in two_workers.process.children():
            if "_bentoml_impl.worker.service" in process.cmdline():
                process.kill()
    two_workers.wait_ready()
    asyncio.run(until(two_workers, idle))


def test_metrics_without_an_engine(home: Path, tmp_path: Path) -> None:
    """Triton is gone for a while: the rest of the metrics is there, and says so."""
    slow = ("--arg", "restart_first_delay_s=5")
    with serve(home, tmp_path / "log.txt", *slow) as service:
        service.wait_ready()
        (triton,) = service.tritons()
        triton.kill()
        deadline = time.monotonic() + 60
        while value(families := scrape(service), "trtllm_engine_state", state="restarting") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert value(families, "trtllm_engine_restarts", "_total") == 1
        assert value(families, "trtllm_engine_metrics_up") == 0
        assert "nv_inference_request_success" not in families


def assert_dashboard(families: dict[str, Metric]) -> None:
    """The Grafana dashboard asks for nothing that is not there."""
    # The parser adds _total to a counter without it, as Triton's are.
    names = {sample.name for family in families.values() for sample in family.samples} | families.keys()
    panels = json.loads((ROOT / "deploy" / "grafana.json").read_text("utf-8"))["panels"]
    asked = {name for panel in panels for target in panel.get("targets", []) for name in NAME.findall(target["expr"])}
    assert len(asked) > 10
    assert asked - names == set()
