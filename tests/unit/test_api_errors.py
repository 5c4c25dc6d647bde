"""What a client is told of each error of the core: status, headers, and the body."""

import json

import pytest

from bento_trtllm.api.errors import TABLE, APIError, describe
from bento_trtllm.errors import CheckpointError, TritonError
from bento_trtllm.generation.errors import (
    Draining,
    EngineTimeout,
    EngineUnavailable,
    GenerationError,
    InvalidRequest,
    Overloaded,
    QueueFull,
    RequestRefused,
    WaitedTooLong,
)
from bento_trtllm.text.tokenizer import TextTooLong
from bento_trtllm.triton_models.shared.parameters import API_FIELDS

BUSY = {"Retry-After": "1"}
LATE = {"Retry-After": "5"}
DOWN = {"Retry-After": "2"}
LEAVE = {"Retry-After": "10", "Connection": "close"}
INVALID, SERVER = "invalid_request_error", "server_error"

CASES = [
    (InvalidRequest("No."), 400, {}, (INVALID, None, "invalid_value")),
    (InvalidRequest("No.", code="too_much"), 400, {}, (INVALID, None, "too_much")),
    (InvalidRequest("No.", field="max_tokens"), 400, {}, (INVALID, "max_tokens", "invalid_value")),
    (InvalidRequest("No.", field="grammar"), 400, {}, (INVALID, "response_format", "invalid_value")),
    (CheckpointError("No."), 400, {}, (INVALID, None, "invalid_value")),
    (QueueFull("No."), 429, BUSY, ("rate_limit_error", None, "rate_limit_exceeded")),
    (WaitedTooLong("No."), 503, LATE, (SERVER, None, "overloaded")),
    (EngineUnavailable("No."), 503, DOWN, (SERVER, None, "engine_unavailable")),
    (EngineTimeout("No."), 504, {}, (SERVER, None, "timeout")),
]


@pytest.mark.parametrize(("error", "status", "headers", "openai_fields"), CASES)
def test_the_table(
    error: Exception,
    status: int,
    headers: dict[str, str],
    openai_fields: tuple[str, str | None, str | None],
) -> None:
    told = describe(error)
    assert (told.status, told.headers) == (status, headers)
    named, param, code = openai_fields
    body = {"error": {"message": "No.", "type": named, "param": param, "code": code}}
    assert json.dumps(told.body()) == json.dumps(body)


def test_a_server_that_stops_sends_its_clients_to_another() -> None:
    told = describe(Draining())
    assert (told.status, told.headers, told.message) == (503, LEAVE, "The server is stopping.")
    assert told.kind == "engine_unavailable"


def test_what_is_too_long_has_a_code() -> None:
    told = describe(TextTooLong("The text has over 9 tokens."))
    assert told.message == "The text has over 9 tokens. That is more than this model's maximum context length."
    assert (told.status, told.kind, told.code) == (400, "invalid_request", "context_length_exceeded")


@pytest.mark.parametrize("error", [ValueError("secret"), TritonError("secret"), GenerationError("secret")])
def test_an_error_without_a_row_is_not_told(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    told = describe(error)
    assert (told.status, told.headers) == (500, {})
    assert told.body()["error"] == {
        "message": "The answer failed: see the server's log.",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }


def test_nobody_foresaw_it_so_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("here")
    except ValueError as error:
        describe(error)
    assert "ValueError: here" in caplog.text
    caplog.clear()
    describe(EngineTimeout("late"))
    assert caplog.text == ""


def test_an_answer_is_itself() -> None:
    error = APIError(418, "teapot", "Short and stout.")
    assert describe(error) is error


def test_headers_of_one_answer_are_its_own() -> None:
    describe(QueueFull("")).headers["X"] = "y"
    assert describe(QueueFull("")).headers == BUSY


@pytest.mark.parametrize(("tensor", "param"), sorted(API_FIELDS.items()))
def test_a_refused_tensor_is_told_as_the_field_that_filled_it(tensor: str, param: str) -> None:
    message = f"{tensor} is no good."
    told = describe(RequestRefused(message, tensor=tensor))
    assert told.body()["error"] == {
        "message": f"{param}: {message}",
        "type": INVALID,
        "param": param,
        "code": "invalid_value",
    }


def test_a_sentence_of_our_own_about_a_tensor_stays_as_it_is() -> None:
    told = describe(RequestRefused("The prompt is 600 tokens long.", tensor="input_ids"))
    error = told.body()["error"]
    assert isinstance(error, dict)
    assert (error["param"], error["message"]) == ("prompt", "The prompt is 600 tokens long.")


@pytest.mark.parametrize("tensor", [None, "pad_id"])
def test_a_tensor_that_no_field_fills_names_none(tensor: str | None) -> None:
    told = describe(RequestRefused("It is no good.", tensor=tensor))
    assert told.body()["error"] == {
        "message": "It is no good.",
        "type": INVALID,
        "param": None,
        "code": "invalid_value",
    }


def test_words_decide_nothing() -> None:
    """A message that begins like a tensor's name is no refusal of that tensor."""
    told = describe(InvalidRequest("temperature is a word here."))
    error = told.body()["error"]
    assert isinstance(error, dict)
    assert (error["param"], error["message"]) == (None, "temperature is a word here.")


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_each_error_of_the_core_has_a_row_which_no_earlier_one_hides() -> None:
    for error in subclasses(GenerationError) - {GenerationError, Overloaded}:  # which are never raised themselves
        assert any(issubclass(error, row.error) for row in TABLE), error
    for i, row in enumerate(TABLE):
        assert not any(issubclass(row.error, earlier.error) for earlier in TABLE[:i]), row
