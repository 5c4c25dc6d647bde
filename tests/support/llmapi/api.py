"""What TensorRT-LLM's LLM API has at a version, from tests/contract/llm-api-VERSION.json.

The newest was read out of a checkout by tests/contract/read_llm_api.py, whole. The versions in NVIDIA's containers were
read by hand, and their files hold what was read: whatever they do not speak of, a class or a part of one, is as in the
newest.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "contract"
NEWEST = "1.3.0rc3"
VERSIONS = ("1.1.0", "1.2.1", NEWEST)
RECORDS = (
    *("KvCacheConfig", "SchedulerConfig", "NGramDecodingConfig", "EagleDecodingConfig"),
    *("GuidedDecodingParams", "SamplingParams", "LoRARequest"),
)
"""Classes of fields alone, which our Triton model makes."""


def api(version: str) -> dict[str, Any]:
    """Of one of VERSIONS. A class whose fields were read has no others; methods of it that were not read are there."""
    newest, read = _file(NEWEST), _file(version)
    return newest | read | {"classes": newest["classes"] | _merged(newest["classes"], read["classes"])}


def _file(version: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"llm-api-{version}.json").read_text("utf-8")))


def _merged(newest: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    return {
        name: newest[name] | each | {"methods": newest[name]["methods"] | each.get("methods", {})}
        for name, each in read.items()
    }
