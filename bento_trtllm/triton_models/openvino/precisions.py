"""What the engine computes in which type, by its parameters. Needs nothing but Python: the service asks it, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Precisions:
    """What is computed in which type. Empty, or None, is OpenVINO's own choice for this CPU."""

    inference: str
    kv_cache: str
    quantization_group: int | None
    """Activations that share a scale; 0 rounds none."""

    @classmethod
    def read(cls, text: Mapping[str, str]) -> Precisions:
        """What the parameters say, and what follows from that for the rest."""
        exact = text["exact"] == "true"
        inference = text["inference_precision"] or ("f32" if exact else "")
        cache = text["kv_cache_precision"] or ("f32" if exact and inference == "f32" else "u8")
        # A cache in one of these two goes only with arithmetic in the same.
        inference = inference or (cache if cache in ("f32", "bf16") else "")
        group = text["dynamic_quantization_group_size"] or ("0" if exact else "")
        return cls(inference, cache, int(group) if group else None)

    def properties(self) -> dict[str, Any]:
        """As OpenVINO's properties."""
        found: dict[str, Any] = {"KV_CACHE_PRECISION": self.kv_cache}
        if self.inference:
            found["INFERENCE_PRECISION_HINT"] = self.inference
        if self.quantization_group is not None:
            found["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = self.quantization_group
        return found
