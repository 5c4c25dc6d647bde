"""Forms of answers are made once, refusals too, and looked at before they are read."""

from typing import Any

import pytest

from bento_trtllm.api.dialogue import forms
from bento_trtllm.api.dialogue.conversation import Form
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.openai import chat, completions, guides
from bento_trtllm.api.openai.requests import ChatRequest, CompletionRequest
from bento_trtllm.grammar import patterns
from bento_trtllm.grammar.expressions import Expression
from bento_trtllm.grammar.json import Rules

COMPLETION = {"model": "m", "prompt": "p"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("pattern", ["(a|b)c", "a(?=b)c"], ids=["taken", "refused"])
def test_a_form_is_made_once_or_refused_once(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(rules: Rules, text: str) -> Expression:
        made.append(text)
        return patterns.whole(rules, text)

    monkeypatch.setattr(forms, "whole", counted)
    told = []
    for _ in range(3):
        try:
            told.append(forms.compile_form(Form("guided_regex", "regex", pattern), 1).ebnf)
        except APIError as error:
            told.append(str(error.body()))
    assert len(made) == 1 and len({*told}) == 1
    assert ("lookahead" in told[0]) == ("(?=" in pattern)


def test_what_is_refused_pushes_out_nothing_that_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(rules: Rules, text: str) -> Expression:
        made.append(text)
        return patterns.whole(rules, text)

    monkeypatch.setattr(forms, "whole", counted)
    good = Form("guided_regex", "regex", "pushed|out")
    forms.compile_form(good, 1)
    for number in range(2 * forms.MOST_KEPT):
        with pytest.raises(APIError, match="lookahead"):
            forms.compile_form(Form("guided_regex", "regex", f"{number}(?=b)c"), 1)
    forms.compile_form(good, 1)
    assert made.count("pushed|out") == 1


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({}, False),
        ({"guided_decoding_backend": "xgrammar"}, False),
        ({"guided_json": "{ this is not read yet"}, True),
        ({"structured_outputs": {"structural_tag": "{ nor this"}}, True),
        ({"guided_choice": ["a"], "guided_regex": "b"}, True),
    ],
)
def test_whether_there_is_a_form_is_seen_without_reading_it(fields: dict[str, Any], form: bool) -> None:
    body = CompletionRequest.model_validate({**COMPLETION, **fields})
    assert completions.has_form(body) == chat.has_form(ChatRequest.model_validate({**CHAT, **fields})) == form
    assert completions.has_form(body) or guides.read(body) is None
