"""Forms of answers as vLLM names them, beside OpenAI's response_format (vLLM 0.11, entrypoints/openai/protocol.py)."""

from typing import Annotated, Any

from pydantic import Field

from bento_trtllm.api import json_body
from bento_trtllm.api.dialogue.conversation import Form, any_object
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.refused import because
from bento_trtllm.api.strict import StrictBody

MAX_CHOICES = 1000
Choices = Annotated[
    list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_CHOICES, fail_fast=True)
]
Regex = Annotated[str, Field(min_length=1)]
Schema = str | dict[str, Any]
GrammarText = Annotated[str, Field(min_length=1)]
NoTag = Annotated[
    None,
    because("structural tags are not taken: give json, a regex or a grammar"),
]


class StructuredOutputs(StrictBody):
    """One form, by its name."""

    json_schema: Schema | None = Field(None, alias="json")
    regex: Regex | None = None
    choice: Choices | None = None
    json_object: bool | None = None
    grammar: GrammarText | None = None
    structural_tag: NoTag = None


class GuideFields(StrictBody):
    """The fields of a request; the last one changes nothing here."""

    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: Regex | None = None
    guided_choice: Choices | None = None
    guided_grammar: GrammarText | None = None
    structural_tag: NoTag = None
    guided_decoding_backend: str | None = None


def read(request: GuideFields) -> Form | None:
    """The form that a request names. Raises APIError for more than one."""
    inner = request.structured_outputs or StructuredOutputs()
    found = [
        *_schema("guided_json", request.guided_json),
        *_schema("structured_outputs.json", inner.json_schema),
        *(Form(name, "regex", regex) for name, regex in _named("regex", request.guided_regex, inner.regex)),
        *(Form(name, "choice", choice) for name, choice in _named("choice", request.guided_choice, inner.choice)),
        *(Form(name, "grammar", text) for name, text in _named("grammar", request.guided_grammar, inner.grammar)),
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
    """A schema, which may be written as text."""
    if schema is None:
        return []
    if isinstance(schema, str):
        try:
            schema = json_body.decode(schema.encode())
        except ValueError as error:
            raise bad_request(f"{name} is not JSON: {error}.", param=name) from error
        if not isinstance(schema, dict | bool):
            raise bad_request(f"{name} must be a JSON Schema, which is an object.", param=name)
    return [Form(name, "schema", schema)]
