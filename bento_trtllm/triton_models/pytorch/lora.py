"""LoRA adapters in the terms of TensorRT-LLM's LLM API.

LoraConfig and LoRARequest: tensorrt_llm/lora_helper.py and executor/request.py (1.3.0rc3; in the same places at 1.1.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters import FOLDER, Adapters
from faults import RequestError
from request import EngineRequest
from tensorrt_llm.llmapi import LoRARequest

TENSOR = "lora_task_id"


class Lora:
    """The adapters beside an engine's checkpoint. TensorRT-LLM reads each for its first request, and keeps all."""

    def __init__(self, engine: Path) -> None:
        self._packed = Adapters.read(engine)
        self._requests = {
            number: LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(engine / FOLDER / name))
            for name, number in self._packed.numbers.items()
        }

    @property
    def requests(self) -> tuple[LoRARequest, ...]:
        """A LoRARequest for each."""
        return tuple(self._requests.values())

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of LLM, besides those of arguments.py."""
        if not self._requests:
            return {}
        # Here, since it lies elsewhere in 1.3.0rc26, which no container has.
        from tensorrt_llm.lora_helper import LoraConfig  # noqa: PLC0415

        config = LoraConfig(
            # No directory: of a single one the tokenizer would be taken, too (_try_load_tokenizer in llmapi/llm.py).
            lora_target_modules=list(self._packed.modules),
            max_lora_rank=self._packed.rank,
            max_loras=len(self._requests),
            max_cpu_loras=len(self._requests),
        )
        return {"lora_config": config}

    def check(self, request: EngineRequest) -> None:
        """Raise RequestError for an adapter that is not there: TensorRT-LLM would answer without any."""
        number = _number(request)
        if number and number not in self._requests:
            raise RequestError(TENSOR, f"{TENSOR} is {number}: the pack has {len(self._requests)} adapters.")

    def of(self, request: EngineRequest) -> LoRARequest | None:
        """The adapter that a request asks for."""
        return self._requests.get(_number(request))


def _number(request: EngineRequest) -> int:
    """Of its adapter; 0 is none."""
    return int(request.own.get(TENSOR, 0))
