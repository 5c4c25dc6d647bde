"""Requests to Triton's models with plain tritonclient, as its documentation shows them."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import np_to_triton_dtype

from bento_trtllm.text.prompt import SYSTEM_PROMPT
from tests.support.demo import TEMPLATE, TOKENIZER
from tests.support.limits import LIMIT_S

EOT = TOKENIZER.special_ids["<|eot_id|>"]


@dataclass
class Reply:
    """All responses to one request, in the order they came."""

    outputs: list[dict[str, np.ndarray[Any, Any]]] = field(default_factory=list)
    error: str | None = None

    def tokens(self, sequence: int = 0) -> list[int]:
        """output_ids of one sequence, put together."""
        mine = (o for o in self.outputs if int(o.get("sequence_index", np.zeros(1)).reshape(-1)[0]) == sequence)
        return [int(token) for output in mine for token in output["output_ids"].reshape(-1)]


def tensor(name: str, value: Any) -> grpcclient.InferInput:
    """An input from an array with its batch dimension."""
    array = np.asarray(value)
    entry = grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    entry.set_data_from_numpy(array)
    return entry


class Stream:
    """One gRPC stream that carries several requests."""

    def __init__(self, client: grpcclient.InferenceServerClient) -> None:
        self._client = client
        self._open = 0
        self._results: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: self._results.put((result, error)))

    def send(self, model: str, inputs: dict[str, Any], request_id: str, outputs: list[str] | None = None) -> None:
        wanted = [grpcclient.InferRequestedOutput(name) for name in outputs or []]
        tensors = [tensor(name, value) for name, value in inputs.items()]
        self._open += 1
        self._client.async_stream_infer(
            model, tensors, request_id=request_id, outputs=wanted or None, enable_empty_final_response=True
        )

    def next(self) -> tuple[str, dict[str, np.ndarray[Any, Any]], bool]:
        """The next response: its request's id, its outputs, whether it is that request's last. Raises on errors."""
        result, error = self._results.get(timeout=LIMIT_S)
        if error is not None:
            self._open -= 1
            raise error
        response = result.get_response()
        outputs = {output.name: result.as_numpy(output.name) for output in response.outputs}
        final = response.parameters["triton_final_response"].bool_param
        self._open -= final
        return response.id, outputs, final

    @property
    def open(self) -> int:
        """How many requests have not had their last response."""
        return self._open

    def close(self) -> None:
        """Cancel what runs; where nothing does, let Triton end the stream (END_LIMIT_S of wire/probe.py says why)."""
        self._client.stop_stream(cancel_requests=self._open > 0)


@contextmanager
def open_stream(address: str) -> Iterator[Stream]:
    with grpcclient.InferenceServerClient(address) as client:
        stream = Stream(client)
        yield stream
        stream.close()


def infer(address: str, model: str, inputs: dict[str, Any], outputs: list[str] | None = None) -> Reply:
    """One request, to its end."""
    reply = Reply()
    with open_stream(address) as stream:
        stream.send(model, inputs, "1", outputs)
        final = False
        while not final:
            try:
                _, found, final = stream.next()
            except grpcclient.InferenceServerException as error:
                reply.error = error.message()
                return reply
            if found:
                reply.outputs.append(found)
    return reply


def ids(prompt: str = "Say hello in French") -> list[int]:
    return TEMPLATE.prompt(prompt, SYSTEM_PROMPT)


def words(*sequences: list[int]) -> np.ndarray[Any, Any]:
    """TensorRT-LLM's layout for stop_words_list and bad_words_list."""
    flat = [token for sequence in sequences for token in sequence]
    ends = np.cumsum([len(sequence) for sequence in sequences])
    table = np.full((1, 2, len(flat)), -1, dtype=np.int32)
    table[0, 0] = flat
    table[0, 1, : len(ends)] = ends
    return table


def one(value: float, dtype: Any = np.int32) -> np.ndarray[Any, Any]:
    return np.array([[value]], dtype=dtype)


def request(input_ids: list[int], max_tokens: int = 100, **inputs: Any) -> dict[str, Any]:
    return {
        "input_ids": np.array([input_ids], dtype=np.int32),
        "input_lengths": one(len(input_ids)),
        "request_output_len": one(max_tokens),
        "streaming": one(True, bool),
        "end_id": one(EOT),
        **inputs,
    }
