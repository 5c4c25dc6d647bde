"""A request as a message for Triton: what is sent, in which bytes, and that our engine models read the same again."""

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.triton.wire.codec import encode, probe
from bento_trtllm.triton_models.shared.words import join_words, split_words

sys.path.append(str(Path(__file__).parents[2] / "bento_trtllm/triton_models/shared"))

from request import EngineRequest, RequestReader

READER = RequestReader("tensorrt", "TensorRT", vocab_size=50, context_length=100, echo=False)
TYPES = {"INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32, "BOOL": np.bool_}
GUIDE = ("ebnf_grammar", 'root ::= "é"')


def arrays(message: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a message, as Triton hands them to a Python model."""
    found = {}
    for tensor, raw in zip(message.inputs, message.raw_input_contents, strict=True):
        if tensor.datatype == "BYTES":
            (length,) = struct.unpack_from("<I", raw)
            assert length == len(raw) - 4
            values = np.array([raw[4:]], np.object_)
        else:
            values = np.frombuffer(raw, TYPES[tensor.datatype])
        found[tensor.name] = values.reshape(tensor.shape)
    return found


def read(request: TokenRequest) -> EngineRequest:
    return READER.read(arrays(encode(request)).get)


def test_the_least_request_sends_no_more_than_it_says() -> None:
    sent = arrays(encode(TokenRequest([1, 2], 3)))
    assert {name: value.tolist() for name, value in sent.items()} == {
        "input_ids": [[1, 2]],
        "input_lengths": [[2]],
        "request_output_len": [[3]],
        "streaming": [[True]],
    }


@pytest.mark.parametrize("field", ["end_id", "temperature", "top_k", "top_p", "seed", "min_tokens"])
def test_zero_is_a_value(field: str) -> None:
    given: Any = {field: 0}
    plain, zero = encode(TokenRequest([1], 1)), encode(TokenRequest([1], 1, **given))
    assert len(zero.inputs) == len(plain.inputs) + 1


def test_engine_models_read_what_was_asked() -> None:
    request = TokenRequest(
        [1, 2, 3], 4, 9, [[5], [6, 7]], temperature=0.5, top_k=3, top_p=0.25, repetition_penalty=2.0,
        presence_penalty=0.5, frequency_penalty=-0.5, seed=2**64 - 1, min_tokens=2, bad_words=[[8], [1, 2, 3]],
        guide=GUIDE, log_probs=True,
    )  # fmt: skip
    found = read(request)
    assert found.prompt.tolist() == request.input_ids
    assert found.stop_words == ((5,), (6, 7)) and found.bad_words == ((8,), (1, 2, 3))
    assert found.guide is not None and (found.guide.kind, found.guide.text) == GUIDE
    assert found.streaming
    for name in ("max_tokens", "end_id", "temperature", "top_k", "top_p", "repetition_penalty", "presence_penalty",
                 "frequency_penalty", "seed", "min_tokens", "log_probs"):  # fmt: skip
        assert getattr(found, name) == getattr(request, name), name


def test_a_bias_is_a_number_a_token() -> None:
    bias = [0.0, -1.5, 2.0]
    assert arrays(encode(TokenRequest([1], 1, embedding_bias=bias)))["embedding_bias"].tolist() == [bias]


def test_an_empty_prompt_is_for_the_engine_to_refuse() -> None:
    assert arrays(encode(TokenRequest([], 1)))["input_ids"].shape == (1, 0)


def test_other_releases_have_other_names() -> None:
    message = encode(TokenRequest([1], 1, seed=7, min_tokens=1), {"seed": "random_seed"})
    names = [tensor.name for tensor in message.inputs]
    assert "random_seed" in names and "seed" not in names and "min_tokens" in names


def test_outputs_that_are_asked_for() -> None:
    def asked(message: Any) -> list[str]:
        return [output.name for output in message.outputs]

    both = ("output_ids", "sequence_length")
    assert asked(encode(TokenRequest([1], 1))) == ["output_ids"]
    assert asked(encode(TokenRequest([1], 1, log_probs=True), outputs=both)) == [*both, "output_log_probs"]
    assert asked(probe()) == list(both)


def test_words_in_a_row() -> None:
    rows = join_words([[1], [2, 3], [4, 5, 6]])
    assert rows == ([1, 2, 3, 4, 5, 6], [1, 3, 6, -1, -1, -1])
    assert split_words(*rows) == [(1,), (2, 3), (4, 5, 6)]
    assert join_words([]) == ([], []) and split_words([0], [-1]) == []
