"""The text face of the repository: NVIDIA's ensemble over plain tritonclient."""

from typing import Any

import numpy as np
import pytest

from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.demo import ANSWERS, PROMPT, SCRIPTS
from tests.support.ensemble import ask, text_input
from tests.support.inference import infer
from tests.support.serving import DEMO, Service

pytestmark = pytest.mark.engines
TOKENIZER = PromptTokenizer(DEMO)


def test_pieces_put_together_are_the_text(open_service: Service) -> None:
    """Of many streams at once, each in its order."""
    prompts = [*SCRIPTS.values(), PROMPT] * 2
    replies = ask(open_service.grpc_address(), [text_input(prompt) for prompt in prompts])
    for prompt, pieces in zip(prompts, replies, strict=True):
        assert len(pieces) > 1
        assert b"".join(pieces).decode() == ANSWERS[prompt]


def test_without_streaming_the_text_comes_in_one_response(open_service: Service) -> None:
    (pieces,) = ask(open_service.grpc_address(), [text_input(PROMPT)], stream=False)
    assert [piece.decode() for piece in pieces if piece] == [ANSWERS[PROMPT]]


def inputs(prompt: str, **others: Any) -> dict[str, Any]:
    return {
        "text_input": np.array([[text_input(prompt).encode()]], object),
        "max_tokens": np.array([[1024]], np.int32),
        "stream": np.array([[True]]),
        **others,
    }


@pytest.mark.parametrize("end", ["<|eot_id|>", "<|end_of_text|>"])
def test_an_answer_ends_well_by_whatever_ends_it(open_service: Service, end: str) -> None:
    """TensorRT-LLM's last response after its end token has no tokens, and after a stop word has one."""
    one = inputs(PROMPT, end_id=np.array([[TOKENIZER.special_ids[end]]], np.int32))
    reply = infer(open_service.grpc_address(), "ensemble", one, ["text_output"])
    assert reply.error is None
    assert b"".join(output["text_output"].reshape(-1)[0] for output in reply.outputs).decode() == ANSWERS[PROMPT]


def test_an_answer_that_nothing_ends_has_its_length(open_service: Service) -> None:
    endless = inputs(PROMPT, end_id=np.array([[-1]], np.int32), max_tokens=np.array([[400]], np.int32))
    reply = infer(open_service.grpc_address(), "ensemble", endless, ["text_output"])
    assert reply.error is None
    text = b"".join(output["text_output"].reshape(-1)[0] for output in reply.outputs).decode()
    assert text.startswith(ANSWERS[PROMPT]) and len(text) > len(ANSWERS[PROMPT])


@pytest.mark.engines("openvino", "tensorrt-1.x")  # 0.10.0 does not have it
def test_several_sequences(open_service: Service) -> None:
    two = inputs(PROMPT, num_return_sequences=np.array([[2]], np.int32))
    reply = infer(open_service.grpc_address(), "ensemble", two, ["text_output", "sequence_index"])
    assert reply.error is None
    texts = [b"", b""]
    for output in reply.outputs:
        texts[output["sequence_index"].item()] += output["text_output"].reshape(-1)[0]
    assert [text.decode() for text in texts] == [ANSWERS[PROMPT]] * 2


def test_several_prompts_are_refused(open_service: Service) -> None:
    two = {name: np.repeat(value, 2, 0) for name, value in inputs(PROMPT).items()}
    reply = infer(open_service.grpc_address(), "ensemble", two)
    assert str(reply.error).endswith("text_input holds 2 prompts: send one a request.")
