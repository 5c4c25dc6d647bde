"""Requests to NVIDIA's ensemble, text in and text out, over plain tritonclient."""

import queue
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient

from bento_trtllm.text.prompt import PROMPT_TEMPLATE, SYSTEM_PROMPT


def tensor(name: str, value: Any, dtype: str) -> grpcclient.InferInput:
    array = np.array([[value]], dtype=object if dtype == "BYTES" else {"INT32": np.int32, "BOOL": bool}[dtype])
    entry = grpcclient.InferInput(name, [1, 1], dtype)
    entry.set_data_from_numpy(array)
    return entry


def text_input(prompt: str) -> str:
    """What the ensemble takes: the whole prompt, without the first token, which preprocessing adds."""
    text = PROMPT_TEMPLATE.format(system_prompt=SYSTEM_PROMPT, user_prompt=prompt)
    return text.removeprefix("<|begin_of_text|>")


def ask(address: str, texts: list[str], *, stream: bool = True, max_tokens: int = 1024) -> list[list[bytes]]:
    """All texts at once over one connection; the responses to each, in the order they came."""
    replies: queue.Queue[Any] = queue.Queue()
    with grpcclient.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: replies.put((result, error)))
        for i, text in enumerate(texts):
            inputs = [
                tensor("text_input", text.encode(), "BYTES"),
                tensor("max_tokens", max_tokens, "INT32"),
                tensor("stream", stream, "BOOL"),
            ]
            client.async_stream_infer("ensemble", inputs, request_id=str(i), enable_empty_final_response=True)
        pieces: list[list[bytes]] = [[] for _ in texts]
        open_streams = len(texts)
        while open_streams:
            result, error = replies.get(timeout=60)
            assert error is None, error
            response = result.get_response()
            output = result.as_numpy("text_output")
            if output is not None:
                pieces[int(response.id)].append(output.reshape(-1)[0])
            open_streams -= response.parameters["triton_final_response"].bool_param
        client.stop_stream()
    return pieces
