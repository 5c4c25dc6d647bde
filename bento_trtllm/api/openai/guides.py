"""Forms of answers as vLLM names them, beside OpenAI's response_format (vLLM 0.11, entrypoints/openai/protocol.py)."""

from typing import Annotated, Any

from pydantic import Field

from bento_trtllm.api import json_body
from bento_trtllm.api.dialogue.conversation import Form, any_object
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.strict import StrictBody

MAX_CHOICES = 1000
BACKEND = "guided_decoding_backend"
"""The one field that names no form."""
Choices = Annotated[
    list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_CHOICES, fail_fast=True)
]
Regex = Annotated[str, Field(min_length=1)]
Schema = str | dict[str, Any]
"""An object, which may be written as text."""
GrammarText = Annotated[str, Field(min_length=1)]


class StructuredOutputs(StrictBody):
    """One form, by its name."""

    json_schema: Schema | None = Field(None, alias="json")
    regex: Regex | None = None
    choice: Choices | None = None
    json_object: bool | None = None
    grammar: GrammarText | None = None
    structural_tag: Schema | None = None


class GuideFields(StrictBody):
    """The fields of a request; the last one changes nothing here."""

    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: Regex | None = None
    guided_choice: Choices | None = None
    guided_grammar: GrammarText | None = None
    structural_tag: Schema | None = None
    guided_decoding_backend: str | None = None


def has_form(request: GuideFields) -> bool:
    """Whether it may name one, without reading it."""
    return any(getattr(request, name) is not None for name in GuideFields.model_fields if name != BACKEND)


def read(request: GuideFields) -> Form | None:
    """The form that a request names. Raises APIError for more than one."""
    inner = request.structured_outputs or StructuredOutputs()
    found = [
        *_schema("guided_json", request.guided_json),
        *_schema("structured_outputs.json", inner.json_schema),
        *(Form(name, "regex", regex) for name, regex in _named("regex", request.guided_regex, inner.regex)),
        *(Form(name, "choice", choice) for name, choice in _named("choice", request.guided_choice, inner.choice)),
        *(Form(name, "grammar", text) for name, text in _named("grammar", request.guided_grammar, inner.grammar)),
        *_tag("structural_tag", request.structural_tag),
        *_tag("structured_outputs.structural_tag", inner.structural_tag),
        *([any_object("structured_outputs.json_object")] if inner.json_object else []),
    ]
    if len(found) > 1:
        names = " and ".join(form.name for form in found)
        raise bad_request(f"Give one form for the answer: there are {names}.", param=found[1].name)
    return found[0] if found else None


def _named(kind: str, guided: Any, inner: Any) -> list[tuple[str, Any]]:
    given = ((f"guided_{kind}", guided), (f"structured_outputs.{kind}", inner))
    return [(name, value) for name, value in given if value is not None]


def _schema(name: str, schema: Schema | None) -> list[Form]:
    return [] if schema is None else [Form(name, "schema", _decoded(name, schema, "JSON Schema"))]


def _tag(name: str, tag: Schema | None) -> list[Form]:
    return [] if tag is None else [Form(name, "structural_tag", _decoded(name, tag, "structural tag"))]


def _decoded(name: str, value: Schema, what: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        decoded = json_body.decode(value.encode())
    except ValueError as error:
        raise bad_request(f"{name} is not JSON: {error}.", param=name) from error
    if not isinstance(decoded, dict) and not (what == "JSON Schema" and isinstance(decoded, bool)):
        raise bad_request(f"{name} must be a {what}, which is an object.", param=name)
    return decoded
