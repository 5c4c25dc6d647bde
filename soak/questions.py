"""Questions whose prompts share their beginnings, cut at every length around the borders of the KV cache's blocks."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.demo import ANSWERS, PROMPT

MODEL = "demo-llama"
# Of OpenVINO's KV cache (bento_trtllm/triton_models/openvino/settings.py).
BLOCK_TOKENS = 32
LONGEST = 2 * BLOCK_TOKENS + 2
STEMS = (ANSWERS[PROMPT], " ".join(ANSWERS))
# How else a prompt may go on after a beginning that it shares.
TAIL_TOKENS = 5
# An answer of one token leaves a block of the KV cache that holds the prompt and nothing else.
ANSWER_TOKENS = (1, 3, 8)
GUIDED_TOKENS = 24
SEVERAL = 2
BUNDLE = 8
SYSTEM = "Be brief"
FORMS: tuple[dict[str, Any], ...] = (
    {"type": "json_object"},
    *(
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
        for schema in (
            {"type": "object", "properties": {"a": {"enum": ["yes", "no", "maybe"]}}, "required": ["a"]},
            {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 2, "maxItems": 3},
        )
    ),
)

Route = Literal["/generate", "/v1/completions", "/v1/chat/completions"]
ROUTES: tuple[Route, ...] = ("/generate", "/v1/completions", "/v1/chat/completions")


@dataclass(frozen=True)
class Question:
    """One request, greedy: the prompt of each of its answers, in tokens, and its body, without `stream`."""

    route: Route
    prompts: tuple[tuple[int, ...], ...]
    body: str
    guided: bool = False


def questions(tokenizer: PromptTokenizer, template: ChatTemplate) -> list[Question]:
    """Some 520, the same every time."""
    return [*_completions(tokenizer), *_generate(template), *_chats(template)]


def _completions(tokenizer: PromptTokenizer) -> Iterator[Question]:
    """Each beginning of each stem as a prompt, again with another end, and with longer ones in one request."""
    stems = [tokenizer.encode_text(stem)[: LONGEST + BUNDLE] for stem in STEMS]
    lengths = cycle(ANSWER_TOKENS)
    for own, other in zip(stems, reversed(stems), strict=True):
        for cut in range(1, LONGEST + 1):
            beginning, tail = own[:cut], other[cut % BLOCK_TOKENS :][:TAIL_TOKENS]
            choices = SEVERAL if cut % 5 == 0 else 1
            yield _completion([beginning], next(lengths), choices)
            yield _completion([[*beginning, *tail]], next(lengths), choices)
            if cut % 2:
                yield _completion([own[: cut + i] for i in range(BUNDLE)], next(lengths), 1)


def _completion(prompts: list[list[int]], max_tokens: int, choices: int) -> Question:
    body = {"model": MODEL, "prompt": prompts, "max_tokens": max_tokens, "temperature": 0, "n": choices}
    each = tuple(tuple(prompt) for prompt in prompts for _ in range(choices))
    return Question("/v1/completions", each, json.dumps(body))


def _generate(template: ChatTemplate) -> Iterator[Question]:
    lengths = cycle(ANSWER_TOKENS)
    for stem in STEMS:
        for text, prompt in _cuts(stem, lambda text: template.prompt(text, SYSTEM)):
            body = {"prompt": text, "system_prompt": SYSTEM, "max_tokens": next(lengths)}
            yield Question("/generate", (prompt,), json.dumps(body))


def _chats(template: ChatTemplate) -> Iterator[Question]:
    lengths, forms = cycle(ANSWER_TOKENS), cycle(FORMS)
    for stem in STEMS:
        for text, prompt in _cuts(stem, lambda text: template.chat([{"role": "user", "content": text}])):
            choices = SEVERAL if len(prompt) % 5 == 0 else 1
            body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0}
            body |= {"max_tokens": next(lengths), "n": choices}
            guided = len(prompt) % 4 == 0
            if guided:
                body |= {"max_tokens": GUIDED_TOKENS, "response_format": next(forms)}
            yield Question("/v1/chat/completions", (prompt,) * choices, json.dumps(body), guided)


def _cuts(stem: str, encode: Callable[[str], list[int]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The beginnings of a text, one for each length of the prompt that is made of it, with that prompt."""
    before = 0
    for cut in range(1, len(stem)):
        prompt = encode(stem[:cut])
        if len(prompt) > LONGEST:
            return
        if len(prompt) > before:
            before = len(prompt)
            yield stem[:cut], tuple(prompt)
