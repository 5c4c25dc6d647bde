"""Requests of every route and kind, no two alike, so that whatever keeps something of each is seen to grow."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.demo import MODEL, PROMPT, SCRIPTS
from tests.support.schemas import SCHEMAS

PROMPTS = (*SCRIPTS.values(), PROMPT, "What is Triton?")
WORDS = tuple(" ".join(PROMPTS).split())
TOKENS = (4, 16, 48)
ROOM = 500
"""Tokens in which each schema has an answer."""


@dataclass(frozen=True)
class Asked:
    """One request: a body makes it a POST; `good` ones are answered with 200, others with a 4xx."""

    kind: str
    path: str
    body: bytes | None = None
    good: bool = True
    leaves: bool = False
    pause_s: float = 0.0
    """How long its client waits before each line that it reads."""


Maker = Callable[[random.Random, int], Asked]


def ask(kind: str, path: str, body: dict[str, Any], **how: Any) -> Asked:
    return Asked(kind, path, json.dumps(body).encode(), **how)


def text(rng: random.Random, number: int) -> str:
    """Half of them what the model knows; the others nobody has sent before."""
    if rng.random() < 0.5:
        return rng.choice(PROMPTS)
    return " ".join([f"{number}", *rng.choices(WORDS, k=rng.choice((3, 20, 100)))])


def chat(rng: random.Random, number: int, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text(rng, number)}]
    return {"model": MODEL, "messages": messages, "max_tokens": rng.choice(TOKENS)} | fields


def form(rng: random.Random, number: int) -> dict[str, Any]:
    """A schema of any kind, under a name that makes it a new one."""
    schema = SCHEMAS[rng.choice(tuple(SCHEMAS))]
    if "$defs" not in schema:
        schema = {"type": "object", "properties": {f"p{number}": schema}, "required": [f"p{number}"]}
    answer = {"type": "json_schema", "json_schema": {"name": f"answer{number}", "schema": schema}}
    return {"response_format": answer, "max_tokens": ROOM}


def tools(rng: random.Random, number: int) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {f"p{number}": {"type": "integer", "maximum": number}}}
    function = {"name": f"tool_{number}", "parameters": parameters}
    choice = rng.choice(("auto", "required"))
    return {"tools": [{"type": "function", "function": function}], "tool_choice": choice, "max_tokens": ROOM}


def generate(rng: random.Random, number: int) -> dict[str, Any]:
    return {"prompt": text(rng, number), "max_tokens": rng.choice(TOKENS), "temperature": rng.choice((0, 1))}


def nonsense(rng: random.Random, number: int) -> Asked:
    field = rng.choice(("temperature", "max_tokens", "stop", "seed", f"field{number}"))
    broken = b'{"model": "demo-llama", "messages": [{"role": "us'
    body = rng.choice((broken, json.dumps(chat(rng, number, **{field: {"a": number}})).encode()))
    return Asked("nonsense", "/v1/chat/completions", body, good=False)


CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MAKERS: tuple[Maker, ...] = (
    lambda r, i: ask("events", "/generate", generate(r, i)),
    lambda r, i: ask("chat", CHAT, chat(r, i)),
    lambda r, i: ask("chat, streamed", CHAT, chat(r, i, stream=True, stream_options={"include_usage": True})),
    lambda r, i: ask("several, scored", CHAT, chat(r, i, n=2, logprobs=True, top_logprobs=3, seed=i)),
    lambda r, i: ask("schema", CHAT, chat(r, i, **form(r, i))),
    lambda r, i: ask("schema, streamed", CHAT, chat(r, i, **form(r, i), stream=True)),
    lambda r, i: ask("schema", CHAT, chat(r, i, **form(r, i))),
    lambda r, i: ask("regular expression", CHAT, chat(r, i, max_tokens=ROOM, guided_regex=f"(a|b{i}){{1,9}}")),
    lambda r, i: ask("grammar", CHAT, chat(r, i, max_tokens=ROOM, guided_grammar=f'root ::= "{i}" [a-z]{{1,9}}')),
    lambda r, i: ask("tools", CHAT, chat(r, i, **tools(r, i))),
    lambda r, i: ask("tools, streamed", CHAT, chat(r, i, stream=True, **tools(r, i))),
    lambda r, i: ask("completion", COMPLETIONS, {"model": MODEL, "prompt": text(r, i), "max_tokens": 8}),
    lambda r, i: ask(
        "completions", COMPLETIONS, {"model": MODEL, "prompt": [text(r, i), text(r, i + 1)], "max_tokens": 8}
    ),
    lambda r, i: ask("responses", "/v1/responses", {"model": MODEL, "input": text(r, i), "max_output_tokens": 16}),
    lambda r, i: ask("messages", "/v1/messages", chat(r, i, stream=bool(i % 2))),
    lambda r, i: ask(
        "tokens counted", "/v1/messages/count_tokens", {"model": MODEL, "messages": chat(r, i)["messages"]}
    ),
    lambda r, i: ask("tokens", "/tokenize", {"prompt": text(r, i)}),
    lambda r, i: ask("leaves", CHAT, chat(r, i, stream=True, max_tokens=200), leaves=True),
    lambda r, i: ask("leaves", "/generate", generate(r, i) | {"max_tokens": 200}, leaves=True),
    lambda r, i: ask("leaves", CHAT, chat(r, i, **form(r, i), stream=True), leaves=True),
    lambda r, i: ask("read slowly", CHAT, chat(r, i, stream=True), pause_s=0.05),
    nonsense,
    nonsense,
    lambda r, i: Asked("no such path", f"/v1/{i}", good=False),
    lambda r, i: Asked("looks", r.choice(("/metrics", "/readyz", "/v1/models", "/", "/health"))),
)


def mixture(seed: int) -> Callable[[], Asked]:
    """What to ask next: each kind as often as MAKERS has it."""
    rng, number = random.Random(seed), 0

    def following() -> Asked:
        nonlocal number
        number += 1
        return rng.choice(MAKERS)(rng, number)

    return following
