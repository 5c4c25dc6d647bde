"""Token ids to text, for clients of the ensemble.

OUTPUT holds the raw bytes of the tokens: a character that spans two responses arrives in two parts, and
the responses of a request put together are its text, byte for byte. One instance runs, so they keep their
order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer
from vocabulary import token_bytes


class TritonPythonModel:
    """Tensors as in NVIDIA's inflight_batcher_llm."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        directory = Path(parameters["tokenizer_dir"]["string_value"])
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        skip = parameters["skip_special_tokens"]["string_value"] == "true"
        self._bytes = token_bytes(tokenizer, skip_special_tokens=skip)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
        # Said with numbers: TensorRT-LLM's last response has no tokens, int32 [1, 1, 0].
        beams = tokens.reshape(lengths.size, tokens.shape[-1])
        known = len(self._bytes)
        texts = [
            b"".join(self._bytes[i] for i in beam[:length].tolist() if i < known)
            for beam, length in zip(beams, lengths.reshape(-1).tolist(), strict=True)
        ]
        output = pb_utils.Tensor("OUTPUT", np.array([texts], dtype=np.object_))
        return pb_utils.InferenceResponse(output_tensors=[output])
