"""Thoughts before an answer: told from it in every API, and left free where a grammar holds the answer."""

import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_trtllm.api.dialogue.thoughts import Thinking, ThoughtReader, before
from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.expressions import sequence
from bento_trtllm.grammar.schema import make_grammar
from bento_trtllm.text.template import ChatTemplate
from tests.support import chat_templates
from tests.support.demo import TOKENIZER
from tests.support.schemas import write
from tests.support.scripted_app import ScriptedApp, typed_events

CASES: list[tuple[bool, str, tuple[str, str]]] = [
    (False, "<think>\nHm, a < b.\n</think>\n\nYes.", ("Hm, a < b.", "Yes.")),
    (True, "Hm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
    (True, "\n</think>\nYes.", ("", "Yes.")),
    (False, "Yes </think> no.", ("", "Yes </think> no.")),
    (False, " <thin", ("", " <thin")),
    (False, "\n Yes.", ("", "\n Yes.")),
    (True, "Hm. </thin", ("Hm. </thin", "")),
    (False, "<think>Hm", ("Hm", "")),
    (True, "a</think>b</think>c", ("a", "b</think>c")),
]


def read(begun: bool, text: str, cuts: list[int] | None) -> tuple[str, str]:
    reader = ThoughtReader(begun=begun)
    at = [0, *sorted(cuts if cuts is not None else range(1, len(text))), len(text)]
    heard = [reader.feed(text[start:end]) for start, end in pairwise(at)] + [reader.finish()]
    return "".join(one.thought for one in heard), "".join(one.words for one in heard)


@pytest.mark.parametrize(("begun", "text", "expected"), CASES)
def test_thoughts_and_words_whole_and_in_characters(begun: bool, text: str, expected: tuple[str, str]) -> None:
    assert read(begun, text, []) == expected
    assert read(begun, text, None) == expected


@given(st.sampled_from(CASES), st.lists(st.integers(0, 40), max_size=5))
def test_cuts_change_nothing(case: tuple[bool, str, tuple[str, str]], cuts: list[int]) -> None:
    begun, text, expected = case
    assert read(begun, text, [cut for cut in cuts if cut <= len(text)]) == expected


def test_thoughts_are_not_held_back() -> None:
    reader = ThoughtReader(begun=True)
    assert reader.feed("Hm, ").thought == "Hm,"
    assert reader.feed("so <").thought == " so"
    assert reader.feed("b").thought == " <b"


@pytest.mark.parametrize("thinking", ["may", "begun"])
def test_a_grammar_begins_after_them(thinking: Thinking) -> None:
    grammar = make_grammar(lambda rules: before(rules, sequence('"x"'), thinking))
    rng = random.Random(0)
    seen = set()
    for _ in range(100):
        thought, words = read(thinking == "begun", write(grammar, rng), [])
        assert words == '"x"'
        seen.add(bool(thought))
    assert True in seen
    for text in ("a", "<", "a < b </", "</thin", "<</think", "a</think>", "a</think>\n\n", 'a</think>"'):
        ending = Ending(grammar)
        whole = text if thinking == "begun" else f"<think>{text}"
        assert ending.feed(whole), text
        assert re.fullmatch(r'.*?</think>\n*"x"', whole + ending.shortest(), re.DOTALL)
    assert not Ending(grammar).feed(("" if thinking == "begun" else "<think>") + "a</think>b")


SAID = "<think>\nHm.\n</think>\n\nYes."
HI = {"messages": [{"role": "user", "content": "Hi"}]}


async def test_every_api_tells_them() -> None:
    app = ScriptedApp(SAID, thinks=True)
    message = (await app.post("/v1/chat/completions", HI)).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm.")
    frames = (await app.post("/v1/chat/completions", {**HI, "stream": True})).text.split("\n\n")
    deltas = [json.loads(f.removeprefix("data: "))["choices"][0]["delta"] for f in frames if "delta" in f]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert "".join(delta.get("content", "") for delta in deltas) == "Yes."
    whole = (await app.post("/v1/messages", {**HI, "max_tokens": 50})).json()
    assert [(block["type"], block.get("thinking", block.get("text"))) for block in whole["content"]] == [
        ("thinking", "Hm."),
        ("text", "Yes."),
    ]
    response = (await app.post("/v1/responses", {"input": "Hi"})).json()
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert response["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == len(TOKENIZER.encode_text("Hm."))
    events = typed_events((await app.post("/v1/responses", {"input": "Hi", "stream": True})).text)
    kinds = list(dict.fromkeys(kind.removeprefix("response.") for kind, _ in events))
    assert kinds[2:6] == ["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"]
    plain = (await ScriptedApp(SAID).post("/v1/chat/completions", HI)).json()["choices"][0]["message"]
    assert plain["content"] == SAID


async def test_a_call_after_thoughts_is_a_call() -> None:
    app = ScriptedApp('<think>Hm.</think>\n{"name": "f", "parameters": {}}', thinks=True)
    tools = [{"type": "function", "function": {"name": "f"}}]
    choice = (await app.post("/v1/chat/completions", {**HI, "tools": tools})).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


async def test_a_form_that_is_cut_in_a_thought_is_closed_behind_it() -> None:
    app = ScriptedApp("<think>" + "Hm. " * 40, thinks=True)
    body: dict[str, Any] = {**HI, "response_format": {"type": "json_object"}, "max_tokens": 40}
    choice = (await app.post("/v1/chat/completions", body)).json()["choices"][0]
    assert json.loads(choice["message"]["content"]) == {}
    assert choice["message"]["reasoning_content"].startswith("Hm. Hm.")
    assert choice["finish_reason"] == "length"


async def test_a_prompt_that_begins_a_thought(tmp_path: Path) -> None:
    """As DeepSeek's template does, here spelled in characters."""
    directory = chat_templates.write(tmp_path / "tokenizer")
    (directory / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
    )
    app = ScriptedApp("Hm.\n</think>\nYes.", thinks=True, template=ChatTemplate(directory, TOKENIZER))
    message = (await app.post("/v1/chat/completions", HI)).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm.")
