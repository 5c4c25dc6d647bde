"""The modules of our Triton model around TensorRT-LLM's LLM API, without TensorRT-LLM and without Triton."""

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.support.llmapi.api import RECORDS, VERSIONS, api

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "bento_trtllm/triton_models"
FOLDERS = [MODELS / "pytorch", MODELS / "shared"]
CONTRACT = ROOT / "tests/support/llmapi/module/contract.py"
NAMES = (
    *("contract", "settings", "arguments", "sampling", "active", "outbox", "pacing", "guide", "faults", "request"),
    *("adapters", "lora", "iterations", "streams"),
)


@pytest.fixture(scope="module", params=VERSIONS)
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The modules of our Triton model, beside classes that have upstream's fields."""
    folder = tmp_path_factory.mktemp("contract")
    shutil.copy(CONTRACT, folder)
    (folder / "api.json").write_text(json.dumps(api(request.param)))
    before, path = dict(sys.modules), sys.path[:]
    sys.path[:0] = map(str, (*FOLDERS, folder))
    for name in (*NAMES, "words", "parameters"):
        sys.modules.pop(name, None)
    try:
        contract = importlib.import_module("contract")
        package, llmapi, torch = (ModuleType(name) for name in ("tensorrt_llm", "tensorrt_llm.llmapi", "torch"))
        lora = ModuleType("tensorrt_llm.lora_helper")
        vars(lora)["LoraConfig"] = contract.record("LoraConfig")
        contract.exported("llmapi", *RECORDS, "CapacitySchedulerPolicy")
        vars(llmapi).update({name: contract.record(name) for name in RECORDS})
        vars(llmapi)["CapacitySchedulerPolicy"] = contract.enumeration("CapacitySchedulerPolicy")
        vars(package)["__version__"] = request.param
        vars(package)["SamplingParams"] = vars(llmapi)["SamplingParams"]
        vars(torch)["from_numpy"] = lambda array: SimpleNamespace(array=array)
        vars(llmapi)["RequestError"] = type("RequestError", (RuntimeError,), {})
        # What knows Triton.
        reply, metrics = ModuleType("reply"), ModuleType("metrics")
        vars(reply)["Reply"] = vars(metrics)["EngineMetrics"] = object
        sys.modules |= {"tensorrt_llm": package, "tensorrt_llm.llmapi": llmapi, "torch": torch}
        sys.modules |= {"reply": reply, "metrics": metrics}
        sys.modules["tensorrt_llm.lora_helper"] = lora
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules |= before
