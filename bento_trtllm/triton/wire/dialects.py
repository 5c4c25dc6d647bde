"""How the tensors of one TensorRT-LLM release differ from those of 1.x, which the repository is written in.

From the configurations of NVIDIA's inflight_batcher_llm at each release; tests/contract compares every name, dtype and
shape with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bento_trtllm.manifest import DialectName
from bento_trtllm.triton_models.shared.parameters import OUTPUTS, PARAMETERS

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInput, ModelOutput


RENAMED_BEFORE_1: Mapping[str, str] = {row.tensor: row.before_1 for row in PARAMETERS if row.before_1}
RENAMED: Mapping[DialectName, Mapping[str, str]] = {
    "0.10.0": RENAMED_BEFORE_1,
    "0.12.0": RENAMED_BEFORE_1,
    "0.15.0": RENAMED_BEFORE_1,
    "1.x": {},
}
"""Tensors of the 1.x dialect, which the rest of the project uses, and their names in other dialects."""


def _release(name: str) -> tuple[int, ...]:
    """A release, for comparison; 1.x counts as the first of its releases."""
    return tuple(int(part) for part in name.split(".") if part.isdigit())


def _later(dialect: DialectName) -> frozenset[str]:
    """Inputs and outputs that a dialect's first release, which it is named after, does not have."""
    first = _release(dialect)
    return frozenset(row.tensor for row in (*PARAMETERS, *OUTPUTS) if _release(row.since) > first)


@dataclass(frozen=True)
class Dialect:
    """The differences from 1.x, by the names of 1.x."""

    name: DialectName
    absent: frozenset[str] = frozenset()
    """Inputs and outputs of tensorrt_llm and ensemble that it lacks."""
    required: frozenset[str] = frozenset()
    """Inputs of tensorrt_llm that are optional in 1.x."""
    unshaped: frozenset[str] = frozenset()
    """Inputs of tensorrt_llm that keep their dimension of 1 in this dialect."""
    variable: frozenset[str] = frozenset()
    """Tensors of the other models whose dims are -1 rather than 1."""
    queue_size: bool = True
    """Whether upstream's configuration limits Triton's queue."""

    def call(self, name: str) -> str:
        """The name of a 1.x tensor in this dialect."""
        return RENAMED[self.name].get(name, name)

    def adapt(self, config: "ModelConfig") -> "ModelConfig":
        """Rewrite a model's configuration, in place, from 1.x to this dialect; returns it."""
        engine, shared = config.name == "tensorrt_llm", config.name in ("tensorrt_llm", "ensemble")
        for tensors in (config.input, config.output):
            kept = [each for each in tensors if not (shared and each.name in self.absent)]
            for each in kept:
                self._adapt_tensor(each, engine)
            del tensors[:]
            tensors.extend(kept)
        for step in config.ensemble_scheduling.step:
            inputs = {
                self.call(name): self.call(source)
                for name, source in step.input_map.items()
                if not (step.model_name == "tensorrt_llm" and name in self.absent)
            }
            outputs = {ours: target for ours, target in step.output_map.items() if ours not in self.absent}
            step.input_map.clear()
            step.input_map.update(inputs)
            step.output_map.clear()
            step.output_map.update(outputs)
        return config

    def _adapt_tensor(self, tensor: "ModelInput | ModelOutput", engine: bool) -> None:
        if engine and tensor.name in self.required:
            tensor.optional = False
        if engine and tensor.name in self.unshaped:
            tensor.ClearField("reshape")
        if not engine and tensor.name in self.variable:
            tensor.dims[:] = [-1]
        tensor.name = self.call(tensor.name)


_TEXT = ("text_input", "max_tokens", "QUERY", "REQUEST_OUTPUT_LEN", "END_ID", "PAD_ID", "OUT_END_ID", "OUT_PAD_ID")

DIALECTS: dict[DialectName, Dialect] = {
    "0.10.0": Dialect(
        "0.10.0",
        absent=_later("0.10.0"),
        required=frozenset({"input_ids"}),
        unshaped=frozenset({"request_output_len", "stop", "streaming"}),
        variable=frozenset(_TEXT),
        queue_size=False,
    ),
    # 0.14.0 has some of what is absent here, but NVIDIA's branch for its container, r24.10, does not.
    "0.12.0": Dialect("0.12.0", absent=_later("0.12.0"), required=frozenset({"input_ids"})),
    # The ensemble of 0.15.0 lacks it; a parameter of the model has the same effect for every request.
    "0.15.0": Dialect("0.15.0", absent=_later("0.15.0") | {"exclude_input_in_output"}),
    "1.x": Dialect("1.x", absent=_later("1.x")),
}
