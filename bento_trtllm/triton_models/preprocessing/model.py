"""Text to token ids, for clients of the ensemble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer
from words import join_words

Ids = np.ndarray[Any, np.dtype[np.int32]]


class TritonPythonModel:
    """Tensors as in NVIDIA's inflight_batcher_llm; one prompt a request."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        directory = Path(parameters["tokenizer_dir"]["string_value"])
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        # The file may hold the truncation and padding of training; prompts are read whole.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._add_special_tokens = parameters["add_special_tokens"]["string_value"] == "true"
        self._end_id = int(parameters["end_id"]["string_value"])
        self._stop_ids = [int(i) for i in parameters["stop_ids"]["string_value"].split(",") if i]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            return pb_utils.InferenceResponse(output_tensors=self._tensors(request))
        except ValueError as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))

    def _tensors(self, request: Any) -> list[Any]:
        if (count := len(pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy())) > 1:
            raise ValueError(f"text_input holds {count} prompts: send one a request.")
        (query,) = texts(request, "QUERY") or [""]
        ids = self._tokenizer.encode(query, add_special_tokens=self._add_special_tokens).ids
        length = pb_utils.get_input_tensor_by_name(request, "REQUEST_OUTPUT_LEN").as_numpy()
        end_id = scalar(request, "END_ID", self._end_id)
        # All of the model's end tokens end an answer, whichever the request names; with -1, none does.
        ends = [i for i in (self._end_id, *self._stop_ids) if i != end_id] if end_id >= 0 else []
        stops = [[i] for i in ends] + self._word_ids(request, "STOP_WORDS_DICT")
        return [
            pb_utils.Tensor("INPUT_ID", np.array([ids], dtype=np.int32)),
            pb_utils.Tensor("REQUEST_INPUT_LEN", np.array([[len(ids)]], dtype=np.int32)),
            pb_utils.Tensor("REQUEST_OUTPUT_LEN", length.astype(np.int32)),
            pb_utils.Tensor("STOP_WORDS_IDS", word_list(stops)),
            pb_utils.Tensor("BAD_WORDS_IDS", word_list(self._word_ids(request, "BAD_WORDS_DICT"))),
            pb_utils.Tensor("OUT_END_ID", np.array([[end_id]], dtype=np.int32)),
            pb_utils.Tensor("OUT_PAD_ID", np.array([[scalar(request, "PAD_ID", end_id)]], dtype=np.int32)),
        ]

    def _word_ids(self, request: Any, name: str) -> list[list[int]]:
        return [self._tokenizer.encode(word, add_special_tokens=False).ids for word in texts(request, name)]


def scalar(request: Any, name: str, default: int) -> int:
    """The one value of an input, or the default where the request has none."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else int(tensor.as_numpy().reshape(-1)[0])


def texts(request: Any, name: str) -> list[str]:
    """The non-empty strings of an input. Raises ValueError (UnicodeDecodeError) if one is not UTF-8."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [] if tensor is None else [item.decode() for item in tensor.as_numpy().reshape(-1) if item]


def word_list(words: list[list[int]]) -> Ids:
    """int32 [1, 2, n]; where there is no word, n is 1 and its end is missing."""
    flat, ends = join_words(words)
    return np.array([[flat or [0], ends or [-1]]], dtype=np.int32)
