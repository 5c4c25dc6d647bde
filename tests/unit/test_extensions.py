"""What vLLM's clients send and OpenAI's do not, on a scripted model."""

import json
import re
from typing import Any

import pytest

from bento_trtllm import VERSION
from bento_trtllm.generation.source import TokenBatch, TokenRequest
from tests.support.demo import TEMPLATE, TOKENIZER
from tests.support.scripted_app import EOT, ScriptedApp

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HI = {"role": "user", "content": "Hi"}
BEGUN = {"role": "assistant", "content": "Hello,"}
ASKED: dict[str, dict[str, Any]] = {CHAT: {"messages": [HI]}, COMPLETIONS: {"prompt": "Hi"}}
PROMPTS = {CHAT: TEMPLATE.chat([HI]), COMPLETIONS: [*TOKENIZER.prefix, *TOKENIZER.encode_text("Hi")]}
SAID = "Hello, world"
IDS = [*TOKENIZER.encode_text(SAID), EOT]


async def chunks(app: ScriptedApp, path: str, **fields: Any) -> list[dict[str, Any]]:
    response = await app.post(path, {**ASKED[path], "stream": True, **fields})
    assert response.status_code == 200, response.text
    *frames, done = response.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@pytest.mark.parametrize("path", ASKED)
async def test_token_ids(path: str) -> None:
    app = ScriptedApp(SAID)
    whole = (await app.post(path, {**ASKED[path], "return_token_ids": True})).json()
    (choice,) = whole["choices"]
    assert choice["token_ids"] == IDS
    assert (whole if path == CHAT else choice)["prompt_token_ids"] == PROMPTS[path]
    assert whole["usage"]["completion_tokens"] == len(IDS)
    streamed = await chunks(app, path, return_token_ids=True)
    assert [i for chunk in streamed for i in chunk["choices"][0].get("token_ids", ())] == IDS
    first = streamed[0] if path == CHAT else streamed[0]["choices"][0]
    assert first["prompt_token_ids"] == PROMPTS[path]
    plain = (await app.post(path, ASKED[path])).json()
    assert "token_ids" not in plain["choices"][0]


async def test_token_ids_of_an_answer_that_is_closed() -> None:
    """What the service writes to end a form are tokens, too."""
    app = ScriptedApp('{"a": "xxxxxxxxxxxxxxxxxxxxxxxxxxxx')
    form = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    body = {**ASKED[CHAT], "guided_json": form, "max_tokens": 12, "return_token_ids": True}
    whole = (await app.post(CHAT, body)).json()
    (choice,) = whole["choices"]
    assert TOKENIZER.decode(choice["token_ids"]) == choice["message"]["content"]
    assert json.loads(choice["message"]["content"])["a"].startswith("xx")
    assert whole["usage"]["completion_tokens"] == len(choice["token_ids"]) <= 12


@pytest.mark.parametrize("path", ASKED)
async def test_counts_so_far(path: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    streamed = await chunks(ScriptedApp(SAID), path, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in streamed]
    assert counts == sorted(counts) and counts[-1] == len(IDS)
    assert len(set(counts)) >= len(IDS) - 1
    assert {chunk["usage"]["prompt_tokens"] for chunk in streamed} == {len(PROMPTS[path])}
    assert streamed[-1]["choices"] == []


TAG = {
    "type": "tag",
    "begin": "<a>",
    "content": {"type": "json_schema", "json_schema": {"type": "object"}},
    "end": "</a>",
}
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "guided_choice": ({"guided_choice": ["yes", "no"]}, "yes|no"),
    "guided_regex": ({"guided_regex": r"\d{3}-[a-f]+"}, r"\d{3}-[a-f]+"),
    "guided_json": ({"guided_json": {"enum": [1, 2]}}, "[12]"),
    "guided_json as text": ({"guided_json": '{"const": 1}'}, "1"),
    "choice": ({"structured_outputs": {"choice": ["a<b", 'c"d']}}, 'a<b|c"d'),
    "regex": ({"structured_outputs": {"regex": "x|yy"}}, "x|yy"),
    "guided_grammar": ({"guided_grammar": 'root ::= "é"+ n\nn ::= [1-3]'}, "é+[1-3]"),
    "grammar": ({"structured_outputs": {"grammar": 'root ::= [^a]* "."'}}, r"[^a]*\."),
    "a tag": ({"structured_outputs": {"structural_tag": {"format": TAG}}}, r"<a>[^¿]*</a>"),
    "a tag as text": ({"structural_tag": json.dumps({"type": "structural_tag", "format": TAG})}, r"<a>[^¿]*</a>"),
    "json": ({"structured_outputs": {"json": {"type": "boolean"}}}, "true|false"),
    "json_object": ({"structured_outputs": {"json_object": True}}, r"\{.*\}"),
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("name", FORMS)
async def test_forms_hold_whatever_the_model_says(path: str, name: str) -> None:
    fields, pattern = FORMS[name]
    app = ScriptedApp("¿")  # which no form allows: the answer is closed at once
    whole = (await app.post(path, {**ASKED[path], **fields})).json()
    choice = whole["choices"][0]
    assert re.fullmatch(pattern, choice["message"]["content"] if path == CHAT else choice["text"])
    guide = app.source.requests[0].guide
    assert guide and guide[0] == "ebnf_grammar"


OLDER = {"structures": [{"begin": "<a>", "schema": {"const": 1}, "end": "</a>"}], "triggers": ["<"]}


@pytest.mark.parametrize("form", [{"format": {"type": "sequence", "elements": [TAG, {"type": "any_text"}]}}, OLDER])
@pytest.mark.parametrize("max_tokens", [20, 60])
async def test_structural_tags_as_response_format(form: dict[str, Any], max_tokens: int) -> None:
    """What is said is kept as far as it follows, and a tag that is begun has its end."""
    app = ScriptedApp("<a>{} and more and more and more and more and more and more and more and more")
    body = {**ASKED[CHAT], "response_format": {"type": "structural_tag", **form}, "max_tokens": max_tokens}
    content = (await app.post(CHAT, body)).json()["choices"][0]["message"]["content"]
    assert content in ("<a>{}</a>", "<a>1</a>")


REFUSED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a grammar": (CHAT, {"guided_grammar": "root ::= x"}, "guided_grammar", "line 1, column 10: there is no rule x."),
    "a grammar within": (COMPLETIONS, {"structured_outputs": {"grammar": "x"}}, "structured_outputs.grammar", "line 1"),
    "a tag": (CHAT, {"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag", "a format"),
    "no tag": (COMPLETIONS, {"structural_tag": "[]"}, "structural_tag", "must be a structural tag"),
    "a tag's part": (
        CHAT,
        {"response_format": {"type": "structural_tag", "format": {"type": "token", "token": 1}}},
        "response_format",
        "/format/type is 'token'",
    ),
    "two forms": (CHAT, {"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "one form"),
    "two ways": (
        CHAT,
        {"guided_regex": "a", "response_format": {"type": "json_object"}},
        "guided_regex",
        "response_format",
    ),
    "lookahead": (CHAT, {"guided_regex": "(?=a)"}, "guided_regex", "lookahead"),
    "no JSON": (CHAT, {"guided_json": "{"}, "guided_json", "not JSON"),
    "no choice": (CHAT, {"guided_choice": []}, "guided_choice", "empty"),
    "a template": (CHAT, {"chat_template": "x"}, "chat_template", "the checkpoint's own"),
    "a taken variable": (CHAT, {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "a field"),
    "both ends": (
        CHAT,
        {"continue_final_message": True, "add_generation_prompt": True},
        "continue_final_message",
        "not both",
    ),
    "fewer than n": (COMPLETIONS, {"n": 3, "best_of": 2}, "best_of", "below n"),
    "the best of a stream": (COMPLETIONS, {"best_of": 2, "stream": True}, "best_of", "stream"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_done_is_refused_by_name(name: str) -> None:
    path, fields, param, words = REFUSED[name]
    response = await ScriptedApp("Yes").post(path, {**ASKED[path], **fields})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert words in response.json()["error"]["message"]


async def test_a_message_is_continued_and_echoed() -> None:
    app = ScriptedApp(" world")
    body = {"messages": [HI, BEGUN], "continue_final_message": True, "add_generation_prompt": False}
    whole = (await app.post(CHAT, body)).json()
    assert whole["choices"][0]["message"]["content"] == " world"
    assert app.source.requests[0].input_ids == [*TEMPLATE.chat([HI]), *TOKENIZER.encode_text("Hello,")]
    echoed = (await app.post(CHAT, {**body, "echo": True})).json()
    assert echoed["choices"][0]["message"]["content"] == SAID
    streamed = await chunks(app, CHAT, **body, echo=True)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed) == SAID


async def test_a_prompt_without_the_beginning_of_an_answer() -> None:
    app = ScriptedApp("Yes")
    await app.post(CHAT, {"messages": [HI], "add_generation_prompt": False, "chat_template_kwargs": {"x": [1]}})
    asked = app.source.requests[0].input_ids
    assert PROMPTS[CHAT][: len(asked)] == asked and len(asked) < len(PROMPTS[CHAT])


async def test_the_likeliest_of_several_are_the_choices() -> None:
    """Two of three for each of two prompts, the best first; all count."""
    words = {seed: f" {word}" for seed, word in enumerate(("low", "best", "good"))}
    scores = {0: -3.0, 1: -0.1, 2: -1.0}

    def choose(request: TokenRequest) -> list[TokenBatch]:
        assert request.log_probs and request.seed is not None
        ids = TOKENIZER.encode_text(words[request.seed])
        return [TokenBatch(ids, [scores[request.seed]] * len(ids))]

    body = {"prompt": ["Hi", "Ho"], "n": 2, "best_of": 3, "seed": 0, "temperature": 1}
    whole = (await ScriptedApp(choose=choose).post(COMPLETIONS, body)).json()
    assert [(choice["index"], choice["text"]) for choice in whole["choices"]] == [
        (0, " best"),
        (1, " good"),
        (2, " best"),
        (3, " good"),
    ]
    made = sum(len(TOKENIZER.encode_text(word)) + 1 for word in words.values())
    assert whole["usage"]["completion_tokens"] == 2 * made
    assert whole["choices"][0]["logprobs"] is None


async def test_tokens_of_texts_and_of_conversations() -> None:
    app = ScriptedApp()
    text = "Hi <|eot_id|> é"
    ids = [*TOKENIZER.prefix, *TOKENIZER.encode_text(text)]
    found = (await app.post("/tokenize", {"prompt": text, "return_token_strs": True})).json()
    assert (found["tokens"], found["count"], found["max_model_len"]) == (ids, len(ids), 4096)
    assert len(found["token_strs"]) == len(ids) and "".join(found["token_strs"]).endswith("Hi <|eot_id|> é")
    bare = (await app.post("/tokenize", {"prompt": text, "add_special_tokens": False})).json()
    assert bare["tokens"] == TOKENIZER.encode_text(text)
    assert (await app.post("/detokenize", {"tokens": bare["tokens"]})).json() == {"prompt": text}
    talk = {"messages": [HI, BEGUN], "continue_final_message": True}
    continued = (await app.post("/tokenize", talk)).json()
    assert continued["tokens"] == [*TEMPLATE.chat([HI]), *TOKENIZER.encode_text("Hello,")]
    shown = (await app.post("/detokenize", {"tokens": continued["tokens"]})).json()["prompt"]
    assert shown.startswith("<|begin_of_text|>") and shown.endswith("Hello,")
    tool = {"type": "function", "function": {"name": "f"}}
    with_tools = (await app.post("/tokenize", {"messages": [HI], "tools": [tool]})).json()
    assert with_tools["tokens"] == TEMPLATE.chat([HI], tools=[tool])


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [HI]}, "prompt"),
        ("/tokenize", {"prompt": "a", "model": None, "text": "a"}, "text"),
        ("/detokenize", {"tokens": [1, 9999]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
    ],
)
async def test_faults_of_tokens_are_named(path: str, body: dict[str, Any], param: str) -> None:
    response = await ScriptedApp().post(path, body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_vitals() -> None:
    app = ScriptedApp()
    async with app.client() as client:
        assert (await client.get("/health")).status_code == (await client.get("/ping")).status_code == 200
        assert (await client.get("/version")).json() == {"version": VERSION}
        assert (await client.get("/load")).json() == {"server_load": 0}
        app.model.not_ready = lambda: "The server is stopping."
        response = await client.get("/health")
    assert (response.status_code, response.json()["error"]["message"]) == (503, "The server is stopping.")


CALLED = '{"name": "f", "parameters": {"x": tr'
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"properties": {"x": {"type": "boolean"}}}},
}


async def test_calls_that_nobody_forces_are_whole_where_they_can_be() -> None:
    app = ScriptedApp(CALLED)
    body: dict[str, Any] = {"messages": [HI], "tools": [TOOL]}
    choice = (await app.post(CHAT, {**body, "max_tokens": len(TOKENIZER.encode_text(CALLED)) + 4})).json()["choices"][0]
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"x": True}
    assert app.source.requests[-1].guide
    # What does not go with a grammar, or cannot be one, is not refused where none was asked for.
    for fields in ({"stop": "x"}, {"min_tokens": 1}):
        assert (await app.post(CHAT, {**body, **fields})).status_code == 200
        assert app.source.requests[-1].guide is None
    others = TOOL["function"] | {"parameters": {"not": {}}}
    tools = [TOOL, {"type": "function", "function": {**others, "name": "g"}}]
    assert (await app.post(CHAT, {**body, "tools": tools})).status_code == 200
    guide = app.source.requests[-1].guide
    # That tool's arguments are any object; the others' are still theirs.
    assert guide and r'"\"x\": "' in guide[1] and "object1 ::=" in guide[1]


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/batches", "Batches"),
        ("GET", "/v1/files/file-1/content", "Files"),
        ("POST", "/v1/audio/speech", "Audio"),
        ("POST", "/v1/images/generations", "Images"),
        ("POST", "/v1/embeddings", "Embeddings"),
        ("POST", "/v1/messages/batches", "Batches"),
    ],
)
async def test_what_is_not_served_is_refused_by_name(method: str, path: str, name: str) -> None:
    async with ScriptedApp().client() as client:
        response = await client.request(method, path)
    assert response.status_code == 404
    assert response.json()["error"]["message"].startswith(f"{name} ")
    assert (response.json().get("type") == "error") == path.startswith("/v1/messages")
