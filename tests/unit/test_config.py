"""Settings that depend on the machine."""

import os

import pytest

from bento_trtllm.config import OpenVINOSettings, Settings, cores, default_workers
from bento_trtllm.errors import EngineError


@pytest.mark.parametrize(
    ("count", "workers"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (16, 4), (32, 8), (64, 8), (192, 8)]
)
def test_default_workers(count: int, workers: int) -> None:
    assert default_workers(count) == workers


def test_workers_are_the_machines_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRTLLM_WORKERS", raising=False)
    assert Settings().workers == default_workers(cores())
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("TRTLLM_WORKERS", "3")
    assert Settings().workers == 3


@pytest.mark.parametrize("inference", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("cache", ["f32", "bf16", "f16", "u8"])
def test_precisions_that_the_engine_cannot_combine_are_refused(inference: str, cache: str) -> None:
    values = {"inference_precision": inference, "kv_cache_precision": cache}
    if cache in ("f16", "u8") or cache == inference:
        assert OpenVINOSettings.model_validate(values).parameters()["kv_cache_precision"] == cache
    else:
        with pytest.raises(ValueError, match=f"kv_cache_precision={cache} does not go with inference_precision="):
            OpenVINOSettings.model_validate(values)


@pytest.mark.parametrize("value", ["0", "0.5", "-1", "2.5"])
def test_cancellations_are_looked_for_every_whole_millisecond(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-LLM's backend reads an int, and what it reads as 0 keeps a core busy."""
    monkeypatch.setenv("TRTLLM_CANCELLATION_CHECK_PERIOD_MS", value)
    with pytest.raises(ValueError, match="cancellation_check_period_ms"):
        Settings()
    monkeypatch.setenv("TRTLLM_CANCELLATION_CHECK_PERIOD_MS", "1")
    assert Settings().overrides("tensorrt") == {"cancellation_check_period_ms": "1"}
    assert Settings().overrides("openvino")["cancellation_check_period_ms"] == "1"


def test_openvinos_prefix_cache_is_off_and_refused() -> None:
    assert OpenVINOSettings().parameters()["enable_kv_cache_reuse"] == "false"
    with pytest.raises(
        EngineError, match=r"enable_kv_cache_reuse=true is refused with the OpenVINO engine: .*leave it"
    ):
        Settings(enable_kv_cache_reuse=True).overrides("openvino")


def test_a_proxy_has_room_for_all_requests() -> None:
    for running, waiting in ((1, 0), (256, 256), (4000, 100)):
        settings = Settings(max_running_requests=running, max_waiting_requests=waiting)
        in_all, of_an_address = settings.connections()
        assert of_an_address >= 2 * (running + waiting)
        assert in_all >= 4 * of_an_address >= 4096
    assert Settings(max_connections=5, max_connections_per_address=3).connections() == (5, 3)
