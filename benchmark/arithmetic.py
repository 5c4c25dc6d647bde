"""What a step of a packed engine takes in each arithmetic: `python -m benchmark.arithmetic ENGINE_DIR [PROPERTIES …]`.

Without the service and without GenAI's scheduler: the model alone, as ContinuousBatchingPipeline has it compiled, on
steps of made-up tokens. PROPERTIES are OpenVINO's, as JSON; left out, those of CANDIDATES.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino._offline_transformations import paged_attention_transformation

from benchmark.library import BLOCK_TOKENS
from bento_trtllm.engines.openvino.fastest import WHOLE_TOKEN

CANDIDATES: list[dict[str, Any]] = [
    {},
    {"INFERENCE_PRECISION_HINT": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": WHOLE_TOKEN},
    *({"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": group} for group in (32, 128, 256)),
]


@dataclass(frozen=True)
class Step:
    """So many sequences, each with so many new tokens after so many that are in the KV cache."""

    sequences: int
    new: int
    cached: int

    @property
    def blocks(self) -> int:
        """Of a sequence."""
        return -(-(self.new + self.cached) // BLOCK_TOKENS)


STEPS = (Step(1, 1, 160), Step(8, 1, 160), Step(32, 1, 160), Step(1, 128, 0), Step(8, 128, 0), Step(1, 2048, 0))


class Model:
    """An engine, compiled with some of OpenVINO's properties."""

    def __init__(self, engine: Path, properties: Mapping[str, Any]) -> None:
        core = ov.Core()
        model = core.read_model(engine / "openvino_model.xml")
        paged_attention_transformation(model)
        compiled = core.compile_model(model, "CPU", {"KV_CACHE_PRECISION": "u8", **properties})
        self._names = {name for each in compiled.inputs for name in each.names}
        self._request = compiled.create_infer_request()
        blocks = max(step.sequences * step.blocks for step in STEPS)
        for each in compiled.inputs:
            if each.get_any_name().startswith(("key_cache", "value_cache")):
                _, *rest = each.partial_shape
                shape = [blocks, *(dimension.get_length() for dimension in rest)]
                self._request.set_tensor(each.get_any_name(), ov.Tensor(each.element_type, shape))

    def make(self, step: Step) -> tuple[float, float]:
        """Wall and CPU time of it, in milliseconds."""
        each = np.arange(step.sequences + 1, dtype=np.int32)
        self._put("input_ids", 300 + np.arange(step.sequences * step.new, dtype=np.int64) * 7919 % 20_000)
        positions = np.arange(step.cached, step.cached + step.new, dtype=np.int64)
        self._put("position_ids", np.tile(positions, step.sequences))
        self._put("past_lens", np.full(step.sequences, step.cached, np.int32))
        self._put("subsequence_begins", each * step.new)
        self._put("block_indices", np.arange(step.sequences * step.blocks, dtype=np.int32))
        self._put("block_indices_begins", each * step.blocks)
        self._put("max_context_len", np.array(step.cached + step.new, np.int32))
        cpu, began = _cpu_s(), time.perf_counter()
        self._request.infer()
        return 1000 * (time.perf_counter() - began), 1000 * (_cpu_s() - cpu)

    def _put(self, name: str, values: NDArray[Any]) -> None:
        if name in self._names:
            self._request.set_tensor(name, ov.Tensor(values))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def least(model: Model, step: Step) -> tuple[float, float]:
    """Of some rounds, each by itself: what other programs take only adds."""
    model.make(step)
    rounds = [model.make(step) for _ in range(20 if step.new == 1 else 3)]
    return min(wall for wall, _ in rounds), min(cpu for _, cpu in rounds)


def main(engine: str, properties: Sequence[str]) -> None:
    heads = [f"{step.sequences} × {step.new}" for step in STEPS]
    print("| properties |", *(f"{head} |" for head in heads), "(new tokens: ms, and ms of CPU time)")
    print("|---|", *("---:|" for _ in heads), sep="")
    for each in [json.loads(text) for text in properties] or CANDIDATES:
        model = Model(Path(engine), each)
        cells = ("{:,.1f} ({:,.0f})".format(*least(model, step)) for step in STEPS)
        print(f"| {json.dumps(each)} |", *(f"{cell} |" for cell in cells), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
