"""How our own engine models read a request's tensors, and what they refuse."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento_trtllm.triton_models.shared.faults import INVALID_REQUEST, Fault

sys.path.append(str(Path(__file__).parents[2] / "bento_trtllm/triton_models/shared"))

from faults import RequestError
from parameters import PARAMETERS
from request import EngineRequest, RequestReader

READER = RequestReader("openvino", "OpenVINO", vocab_size=50, context_length=20, echo=False, bounds={"seed": (0, 9)})
TYPES = {"INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32, "BOOL": np.bool_}


def one(name: str, value: Any) -> Any:
    """[1, 1] of the parameter's type."""
    dtype = next(row.dtype for row in PARAMETERS if row.tensor == name)
    return np.array([[value.encode() if dtype == "BYTES" else value]], TYPES.get(dtype, np.object_))


def read(**tensors: Any) -> EngineRequest:
    given = {"input_ids": np.array([[1, 2, 3]], np.int32), "request_output_len": 4, **tensors}
    arrays = {
        name: value if isinstance(value, np.ndarray) else one(name, value)
        for name, value in given.items()
        if value is not None
    }
    return READER.read(arrays.get)


def test_the_least_request_is_greedy_and_has_no_end() -> None:
    request = read()
    assert request.prompt.tolist() == [1, 2, 3]
    assert (request.max_tokens, request.streaming, request.sampled, request.echo) == (4, False, False, False)
    assert (request.end_id, request.end_ids, request.tracked, request.guide) == (None, frozenset(), False, None)
    assert (request.repetition_penalty, request.seed, request.sequences, request.min_tokens) == (1.0, 0, 1, 0)


def test_what_one_engine_alone_heeds_is_its_own() -> None:
    reader = RequestReader("pytorch", "PyTorch", vocab_size=50, context_length=20, echo=False)
    given = {"input_ids": np.array([[1]], np.int32), "request_output_len": np.array([[1]], np.int32)}
    assert reader.read(given.get).own == {"lora_task_id": 0}
    assert reader.read({**given, "lora_task_id": np.array([[2]], np.uint64)}.get).own == {"lora_task_id": 2}
    assert "lora_task_id" not in read().own


def test_everything_at_once() -> None:
    request = read(
        stop_words_list=np.array([[[5, 6, 7], [1, 3, -1]]], np.int32),
        bad_words_list=np.array([[[8], [1]]], np.int32),
        end_id=9, temperature=0.5, runtime_top_k=3, runtime_top_p=0.25, repetition_penalty=2.0, min_tokens=2, seed=7,
        presence_penalty=0.5, frequency_penalty=-0.5, return_log_probs=True, streaming=True, num_return_sequences=2,
        input_lengths=3, pad_id=0, exclude_input_in_output=True,
    )  # fmt: skip
    assert request.stop_words == ((5,), (6, 7)) and request.bad_words == ((8,),)
    assert request.end_ids == {5, 9} and request.tracked
    assert (request.sampled, request.temperature, request.top_k, request.top_p) == (True, 0.5, 3, 0.25)
    assert (request.presence_penalty, request.frequency_penalty, request.repetition_penalty) == (0.5, -0.5, 2.0)
    assert (request.seed, request.min_tokens, request.sequences) == (7, 2, 2)
    assert (request.log_probs, request.streaming) == (True, True)


def test_an_answer_ends_with_the_context() -> None:
    assert read(request_output_len=1000).max_tokens == 17


def test_a_guide() -> None:
    request = read(guided_decoding_guide_type="regex", guided_decoding_guide="[ab]+")
    assert request.guide is not None
    assert (request.guide.kind, request.guide.text) == ("regex", "[ab]+")


@pytest.mark.parametrize("row", [row for row in PARAMETERS if row.default is not None], ids=lambda row: row.tensor)
def test_what_asks_for_nothing_is_taken_from_every_client(row: Any) -> None:
    plain, said = read(), read(**{row.tensor: row.default})
    for name in ("max_tokens", "sampled", "top_p", "seed", "sequences", "log_probs", "repetition_penalty"):
        assert getattr(said, name) == getattr(plain, name)


@pytest.mark.parametrize(
    ("tensors", "tensor", "words"),
    [
        ({"input_ids": np.zeros((1, 0), np.int32)}, "input_ids", "is empty"),
        ({"input_ids": np.array([[1, 50]], np.int32)}, "input_ids", "outside the vocabulary of 50"),
        ({"input_ids": np.array([[1, -1]], np.int32)}, "input_ids", "outside the vocabulary"),
        ({"input_ids": np.ones((2, 3), np.int32)}, "input_ids", "has shape [2, 3]"),
        ({"input_ids": np.ones((1, 20), np.int32)}, "input_ids", "has 20 tokens, and the context length is 20"),
        ({"input_lengths": 2}, "input_lengths", "is 2, but input_ids has 3 tokens"),
        ({"request_output_len": None}, "request_output_len", "is missing"),
        ({"request_output_len": 0}, "request_output_len", "is 0: that goes with num_prompt_log_probs only"),
        ({"request_output_len": -1}, "request_output_len", "is -1: it must lie between 0 and 2147483647"),
        ({"num_top_log_probs": 21}, "num_top_log_probs", "is 21: it must lie between 0 and 20"),
        ({"num_prompt_log_probs": -2}, "num_prompt_log_probs", "is -2: it must lie between -1 and 20"),
        ({"temperature": -1.0}, "temperature", "is -1.0: it must lie between 0.0 and 1000000.0"),
        ({"temperature": float("nan")}, "temperature", "is nan"),
        ({"runtime_top_p": 1.5}, "runtime_top_p", "must lie between 0.0 and 1.0"),
        ({"seed": 10}, "seed", "is 10: it must lie between 0 and 9"),
        ({"beam_width": 2}, "beam_width", "is not supported by the OpenVINO engine: leave it out, or send 1"),
        (
            {"embedding_bias": np.zeros((1, 50), np.float32)},
            "embedding_bias",
            "logit_bias other than -100 (embedding_bias) is not supported by the OpenVINO engine: leave it out, or ban "
            "the token with -100 (bad_words_list).",
        ),
        ({"temperature": np.ones((2, 1), np.float32)}, "temperature", "holds 2 values: send one prompt a request"),
        ({"stop_words_list": np.array([[[99], [1]]], np.int32)}, "stop_words_list", "outside the vocabulary"),
        ({"bad_words_list": np.array([[[1, 2], [2, 1]]], np.int32)}, "bad_words_list", "offsets that do not rise"),
        ({"bad_words_list": np.ones((1, 3, 2), np.int32)}, "bad_words_list", "send [1, 2, n]"),
        ({"guided_decoding_guide": "x"}, "guided_decoding_guide_type", "is missing"),
        ({"guided_decoding_guide_type": "poem"}, "guided_decoding_guide_type", "is poem: the OpenVINO engine takes"),
        ({"guided_decoding_guide_type": "regex"}, "guided_decoding_guide", "is missing"),
        (
            {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "("},
            "guided_decoding_guide",
            "is no regex",
        ),
        (
            {"exclude_input_in_output": False, "streaming": True},
            "exclude_input_in_output",
            "goes with streaming=false",
        ),
    ],
)
def test_refusals_name_the_tensor(tensors: dict[str, Any], tensor: str, words: str) -> None:
    with pytest.raises(RequestError) as refusal:
        read(**tensors)
    fault = refusal.value.fault
    assert (fault.code, fault.tensor) == (INVALID_REQUEST, tensor)
    assert words in fault.message
    assert Fault.read(str(fault)) == Fault(fault.code, fault.message, tensor)
