"""The text face of the repository: NVIDIA's ensemble over plain tritonclient."""

import queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from bento_trtllm.text.prompt import PROMPT_TEMPLATE, SYSTEM_PROMPT
from tests.e2e.serving import Service
from tests.e2e.test_generate import ANSWERS, PROMPT, SCRIPTS


def tensor(name: str, value: Any, dtype: str) -> grpcclient.InferInput:
    array = np.array([[value]], dtype=object if dtype == "BYTES" else {"INT32": np.int32, "BOOL": bool}[dtype])
    entry = grpcclient.InferInput(name, [1, 1], dtype)
    entry.set_data_from_numpy(array)
    return entry


def ask(address: str, prompts: list[str], *, stream: bool = True, max_tokens: int = 1024) -> list[list[bytes]]:
    """All prompts at once over one connection; the responses of each, in the order they came."""
    replies: queue.Queue[Any] = queue.Queue()
    with grpcclient.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: replies.put((result, error)))
        for i, prompt in enumerate(prompts):
            text = PROMPT_TEMPLATE.format(system_prompt=SYSTEM_PROMPT, user_prompt=prompt)
            text = text.removeprefix("<|begin_of_text|>")  # preprocessing adds it
            inputs = [
                tensor("text_input", text.encode(), "BYTES"),
                tensor("max_tokens", max_tokens, "INT32"),
                tensor("stream", stream, "BOOL"),
            ]
            client.async_stream_infer("ensemble", inputs, request_id=str(i), enable_empty_final_response=True)
        pieces: list[list[bytes]] = [[] for _ in prompts]
        open_streams = len(prompts)
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


@pytest.mark.parametrize("prompt", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_pieces_put_together_are_the_text(service: Service, prompt: str) -> None:
    (pieces,) = ask(service.grpc_address(), [prompt])
    assert len(pieces) > 1
    assert b"".join(pieces).decode() == ANSWERS[prompt]


def test_many_streams_keep_their_order(service: Service) -> None:
    prompts = [*SCRIPTS.values(), PROMPT] * 3
    for prompt, pieces in zip(prompts, ask(service.grpc_address(), prompts), strict=True):
        assert b"".join(pieces).decode() == ANSWERS[prompt]


def test_without_streaming_the_text_comes_in_one_response(service: Service) -> None:
    (pieces,) = ask(service.grpc_address(), [PROMPT], stream=False)
    assert [piece.decode() for piece in pieces if piece] == [ANSWERS[PROMPT]]
